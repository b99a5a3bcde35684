r"""Formulas: LaTeX in the pages, MathML in the site, without a script.

In a page a formula is written as GitHub reads it: ``$`\alpha_k`$`` within a line, a
fence ``math`` on lines of its own.
"""

import html as escapes
import re

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

_CODE = re.compile(r"^(```+)(\w*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"\$`([^`]+)`\$")
_NAME = re.compile(r'(?:<mi mathvariant="normal">\w</mi>){2,}')
_KEPT = re.compile(r"(?:<p>)?FORMULA([0-9a-f]+)KEPT(?:</p>)?")


def take_out(markdown: str) -> str:
    """Puts words in the formulas' places, which Markdown leaves as they are."""
    pieces, end = [], 0
    for block in _CODE.finditer(markdown):
        pieces.append(_INLINE.sub(_kept_inline, markdown[end : block.start()]))
        is_formula = block[2] == "math"
        pieces.append(_kept("d" + block[3]) if is_formula else block[0])
        end = block.end()
    pieces.append(_INLINE.sub(_kept_inline, markdown[end:]))
    return "".join(pieces)


def put_back(html: str) -> str:
    """MathML in the places of the words."""
    return _KEPT.sub(_formula, html)


def _kept_inline(match: re.Match) -> str:
    return _kept("i" + match[1])


def _kept(text: str) -> str:
    return f"FORMULA{text.encode().hex()}KEPT"


def _formula(match: re.Match) -> str:
    text = bytes.fromhex(match[1]).decode()
    kind, text = text[0], escapes.unescape(text[1:]).strip()
    if kind == "i":
        before, after = match[0].startswith("<p>"), match[0].endswith("</p>")
        return "<p>" * before + _mathml(text, "inline") + "</p>" * after
    return f'<div class="formula">{_mathml(text, "block")}</div>'


def _mathml(text: str, display: str) -> str:
    """MathML in which a word is one name, not a letter after the other.

    Raises:
        PluginError: for what `latex2mathml` leaves as it is: it does not know it.
    """
    mathml = convert(text, display=display)
    if "\\" in mathml or "<mi>&</mi>" in mathml:
        raise PluginError(f"A formula has something unknown. Received: {text}")
    return _NAME.sub(_name, mathml)


def _name(match: re.Match) -> str:
    return f"<mi>{re.sub('<[^>]+>', '', match[0])}</mi>"
