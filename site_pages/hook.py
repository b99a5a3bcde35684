"""MkDocs' hook: generated pages, pages of other folders, formulas, and no other host.

Each function has the name and arguments of one of MkDocs' events.
"""

import os
import re
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # recipes' keys import TensorFlow

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from site_pages import (
    api,
    command_line,
    formulas,
    notebooks,
    ours,
    outside,
    recipe_keys,
)

_FENCE = re.compile(r"^(```+)console$", re.MULTILINE)
_OTHER_HOST = re.compile(
    r"<(?:script|img|iframe|link(?=[^>]*rel=\"?(?:stylesheet|preload|preconnect)))"
    r"[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*>"
)
GENERATED = {
    "recipe_keys.md": recipe_keys.page,
    "command_line.md": command_line.page,
    "ours_in_code.md": ours.page,
    **api.PAGES,
}


def on_files(files: Files, config: Any) -> Files:
    """Adds generated pages, and pages and pictures of other folders."""
    for uri, make in GENERATED.items():
        files.append(File.generated(config, uri, content=make()))
    for uri, path in {**outside.PAGES, **outside.pictures()}.items():
        there = str(outside.ROOT / path)
        files.append(File.generated(config, uri, abs_src_path=there))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links lead to pages of the site, formulas are kept apart."""
    uri = page.file.src_uri
    markdown = outside.relink(markdown, uri)
    if uri in notebooks.PAGES:
        markdown += notebooks.link(uri)
    return _FENCE.sub(r"\1sh", formulas.take_out(markdown))


def on_page_content(html: str, **_: Any) -> str:
    """Formulas are put back, as MathML."""
    return formulas.put_back(html)


def on_post_build(config: Any, **_: Any) -> None:
    """Writes pages as notebooks."""
    notebooks.write_notebooks(Path(config.site_dir))


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuses a page that would load something from another host."""
    if found := _OTHER_HOST.search(output):
        raise PluginError(
            f"'{page.file.src_uri}' loads something from another host. "
            f"Received: {found.group()}"
        )
    return output
