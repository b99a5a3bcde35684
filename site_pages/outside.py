"""Pages that lie beside what they tell of, and links as they are in the repository.

In the repository a page links to another by its path there, which GitHub and editors
follow. The site has other paths, so links are rewritten; one that leads to no page of
the site is an error.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.exceptions import PluginError

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs"
# Page of the site → file of the repository.
PAGES = {
    "results.md": "benchmarks/RESULTS.md",
    "containers.md": "docker/README.md",
    "kubernetes.md": "examples/kubernetes/README.md",
    "slurm.md": "examples/slurm/README.md",
    "java.md": "examples/java/README.md",
}
PLOTS = "benchmarks/plots"
_FENCED = re.compile(r"^(```+).*?^\1$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
_ELSEWHERE = ("http://", "https://", "mailto:")


def pictures() -> dict[str, str]:
    """Picture of the site → file of the repository."""
    found = sorted((ROOT / PLOTS).glob("*.png"))
    return {f"plots/{path.name}": f"{PLOTS}/{path.name}" for path in found}


def repository_path(uri: str) -> str:
    """Where a page of the site lies in the repository."""
    return PAGES.get(uri, f"{DOCS}/{uri}")


def site_uri(path: str) -> str | None:
    """The page or picture of the site that a file of the repository is, if any."""
    known = {there: uri for uri, there in {**PAGES, **pictures()}.items()}
    if path in known:
        return known[path]
    return path.removeprefix(f"{DOCS}/") if path.startswith(f"{DOCS}/") else None


def relink(markdown: str, uri: str) -> str:
    """Rewrites the links of a page; code is left as it is.

    Args:
        markdown: of the page.
        uri: of the page in the site.

    Raises:
        PluginError: for a link to a file that is no page of the site.
    """
    here = posixpath.dirname(repository_path(uri))

    def rewritten(match: re.Match) -> str:
        target, anchor = match[1], match[2] or ""
        if target.startswith(_ELSEWHERE):
            return match[0]
        path = posixpath.normpath(posixpath.join(here, target))
        found = site_uri(path)
        if found is None:
            raise PluginError(f"'{uri}' links to no page of the site. Received: {path}")
        target = posixpath.relpath(found, posixpath.dirname(uri) or ".")
        return f"]({target}{anchor})"

    pieces, end = [], 0
    for block in _FENCED.finditer(markdown):
        pieces += [_LINK.sub(rewritten, markdown[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*pieces, _LINK.sub(rewritten, markdown[end:])])
