r"""Formulas: LaTeX in the pages, MathML in the site, without a script.

In a page a formula within a line is written as GitHub reads it, ``$`\alpha_k`$``, and
one on lines of its own is a fence ``math``; each line of a fence is a formula.
"""

import html as escapes
import re

from latex2mathml.converter import convert

_CODE = re.compile(r"^(```+)(\w*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"\$`([^`]+)`\$")
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
        return "<p>" * before + convert(text) + "</p>" * after
    lines = [convert(line, display="block") for line in text.split("\n")]
    return f'<div class="formula">{"".join(lines)}</div>'
