"""What MkDocs' hook does to pages: links, formulas, no other host."""

from types import SimpleNamespace

import pytest
from mkdocs.exceptions import PluginError

from site_pages import formulas, hook, outside


def test_formulas_become_mathml_and_code_stays():
    code = "```sh\necho $`x`$\n```"
    page = (
        f"So $`a_k`$ is\n\n```math\n\\mathrm{{MLP}} = \\frac{{1}}{{2}}\n```\n\n{code}"
    )
    kept = formulas.take_out(page)
    assert "a_k" not in kept and code in kept
    html = formulas.put_back(kept)
    assert "<msub><mi>a</mi><mi>k</mi></msub>" in html
    assert html.count('display="block"') == 1 and "<mfrac>" in html
    assert "<mi>MLP</mi>" in html
    assert "So <math xmlns" in html


@pytest.mark.parametrize("text", [r"\unknown", r"\begin{aligned}a &= b\end{aligned}"])
def test_a_formula_that_is_not_understood_is_an_error(text):
    with pytest.raises(PluginError, match="something unknown"):
        formulas.put_back(formulas.take_out(f"$`{text}`$"))


def test_links_follow_pages_to_their_places():
    assert (
        outside.relink("[r](../benchmarks/RESULTS.md#benches)", "schema.md")
        == "[r](results.md#benches)"
    )
    assert outside.relink("[r](../../docker/README.md)", "models/gap.md") == (
        "[r](../containers.md)"
    )
    assert outside.relink("[c](../../docs/cluster.md)", "kubernetes.md") == (
        "[c](cluster.md)"
    )
    assert outside.relink("![p](plots/scaling_suan.png)", "results.md") == (
        "![p](plots/scaling_suan.png)"
    )
    code = "```python\nx[0](../none.md)\n```"
    assert outside.relink(code, "schema.md") == code


def test_a_link_out_of_the_site_is_an_error():
    with pytest.raises(PluginError, match=r"Received: setup\.py"):
        outside.relink("[s](../setup.py)", "schema.md")


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="https://cdn.example/m.js">',
        '<link rel="stylesheet" href="//fonts.example/a.css">',
        '<img alt="b" src="https://badge.example/b.svg">',
    ],
)
def test_no_page_loads_from_another_host(tag):
    page = SimpleNamespace(file=SimpleNamespace(src_uri="index.md"))
    allowed = '<a href="https://example.org">'
    assert hook.on_post_page(allowed, page=page) == allowed
    with pytest.raises(PluginError, match="another host"):
        hook.on_post_page(f"<p>{tag}</p>", page=page)
