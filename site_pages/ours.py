"""The page of decisions that are ours, from the docstrings that say so."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from site_pages.outside import ROOT

_HEAD = """# Ours, place by place

Where a paper is silent, contradicts itself, or cannot be followed as it stands,
somebody has to decide; [what "ours" means](ours.md) tells how. Every docstring that
marks such a choice is quoted here, with its file.
"""
_SENTENCE = re.compile(r"(?<=\.)\s+(?=[A-Z`(\[])")
_MARK = re.compile(r"\bours\b", re.IGNORECASE)
_PACKAGES = ("ctr_tf/layers", "ctr_tf/models", "ctr_tf/losses", "ctr_tf/evaluation")


def places() -> Iterator[tuple[str, str, list[str]]]:
    """File, class or function, and the sentences of its docstring with the mark."""
    for package in _PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield from _of_file(path)


def _of_file(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node) or ""
            found = [s for s in _sentences(text) if _MARK.search(s)]
            if found:
                yield str(path.relative_to(ROOT)), node.name, found


def _sentences(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text):
        yield from _SENTENCE.split(" ".join(paragraph.split()))


def page() -> str:
    """The page, as Markdown."""
    lines = [_HEAD, "| where | what |", "|---|---|"]
    for path, name, sentences in places():
        told = " … ".join(sentences).replace("|", "\\|")
        lines.append(f"| `{name}`<br>`{path}` | {told} |")
    return "\n".join(lines) + "\n"
