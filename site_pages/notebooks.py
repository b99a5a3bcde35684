"""Pages that are notebooks as well: their blocks of code, as cells, in the same order.

The page is the notebook's only source: tests run its blocks (`tests/test_readme.py`,
`tests/layers/test_library.py`), and jupytext makes of it what Jupyter opens. A block of
commands becomes a cell of bash.
"""

import re
from pathlib import Path
from typing import Any

import jupytext

from site_pages.outside import ROOT

FOLDER = "notebooks"
PAGES = ("your_own_logs.md", "layers.md")
_PYTHON = """---
jupyter:
  kernelspec: {display_name: Python 3, language: python, name: python3}
---

"""
_SHELL = re.compile(r"^(```+)sh$", re.MULTILINE)  # to be read, not to be run
_FENCE = re.compile(r"^(```+)console$", re.MULTILINE)


def link(uri: str) -> str:
    """The line of a page that leads to its notebook."""
    name = Path(uri).with_suffix(".ipynb").name
    return f'\n\n<a href="{FOLDER}/{name}" download>This page as a notebook</a>\n'


def notebook(page: str) -> Any:
    """A page of the documentation as a notebook.

    Args:
        page: its name in `docs/`.
    """
    text = (ROOT / "docs" / page).read_text("utf-8")
    text = _SHELL.sub(r"\1", text)
    return jupytext.reads(_PYTHON + _FENCE.sub(r"\1bash", text), fmt="md")


def write_notebooks(site: Path) -> None:
    """Writes the notebooks into the built site."""
    for page in PAGES:
        path = site / FOLDER / Path(page).with_suffix(".ipynb").name
        path.parent.mkdir(parents=True, exist_ok=True)
        jupytext.write(notebook(page), path)
