"""Griffe's extension: sections of docstrings here that Google's do not have.

`Call arguments`, `Returns` and `Reference` become plain Markdown: what a layer is
called with is no parameter of its class, and a shape is no type.
"""

import re
import textwrap
from typing import Any

import griffe

_SECTION = re.compile(
    r"^(Call arguments|Returns|Yields|Reference|Source):\n((?:[ ]{4}.*\n?|\n)+)",
    re.MULTILINE,
)
_ITEM = re.compile(r"^(\*{0,2}\w+): ", re.MULTILINE)


def as_markdown(text: str) -> str:
    """The docstring with these sections as Markdown."""
    return _SECTION.sub(_section, text)


def _section(match: re.Match) -> str:
    title, body = match[1], textwrap.dedent(match[2]).strip("\n")
    if title == "Call arguments":
        body = _ITEM.sub(r"* `\1`: ", body)
    return f"**{title}**\n\n{body}\n\n"


class Sections(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
