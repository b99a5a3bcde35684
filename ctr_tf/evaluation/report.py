"""The one-page report on an evaluation: `report.html`, and `report.png` of the same.

The page is one file: its pictures are embedded, and it loads nothing.
"""

import base64
import html
import io
import shlex
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctr_tf.data import text_tables
from ctr_tf.evaluation import against, importance, origin, plots, slices, withheld
from ctr_tf.storage import as_path
from ctr_tf.training.learning_curve import Rows

_METRICS = (
    ("auc", "AUC"),
    ("gauc_user", "GAUC, per user"),
    ("gauc_request", "GAUC, per request"),
    ("gauc_user_plain", "GAUC, per user, plain mean"),
    ("gauc_request_plain", "GAUC, per request, plain mean"),
    ("log_loss", "log loss"),
    ("map", "MAP"),
    ("mrr", "MRR"),
)
_COMPARED = _METRICS[:3]
_BESIDE = ("auc", "gauc_user", "gauc_request", "log_loss")  # a baseline's
_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 "DejaVu Sans", Verdana, sans-serif; color: #26292e;
  background: #fff; max-width: 1180px; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.5rem; font-weight: 600; margin: 0; }
p { color: #6b7280; margin: .25rem 0 1.3rem; }
main { display: grid; gap: 1.6rem 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); }
figure { margin: 0; } figure.wide { grid-column: 1 / -1; }
img { width: 100%; display: block; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { font-weight: 400; text-align: left; padding: .27rem .2rem;
  border-bottom: 1px solid #e5e7eb; }
td { text-align: right; white-space: nowrap; }
.key th, .key td { font-weight: 600; }
details { margin: 1.6rem 0; } summary { cursor: pointer; color: #6b7280; }
details th, details td { text-align: right; font-size: .85rem; }
details th:first-child { text-align: left; }
table.origin { width: auto; margin: .7rem 0; color: #6b7280; font-size: .85rem; }
table.origin td { text-align: left; white-space: normal; padding-left: 1rem; }
pre { font-size: .8rem; }
"""


def headline(result: dict) -> list[tuple[str, str]]:
    """The main figures, as label and text, in the order a reader wants them.

    Args:
        result: of `evaluate_predictions`.
    """
    ndcg = [(key, key.upper()) for key in result if key.startswith("ndcg@")]
    metrics = [*_METRICS[:6], *ndcg, *_METRICS[6:]]
    rows = [(label, _number(result[key])) for key, label in metrics]
    calibration = result["calibration"]
    rows.append(("predicted / observed CTR", _number(calibration["ratio"], 3)))
    rows.append(("calibration error (ECE)", _number(calibration["ece"])))
    reachable = result.get("reachable", {})
    for key, label in _COMPARED[:2] if reachable else ():
        rows.append((f"reachable {label}", _number(reachable[key])))
        rows.append(("  share of it reached", _percent(reachable["share"].get(key))))
    improvement = result.get("rela_impr", {})
    for key, label in _COMPARED:
        if key in improvement:
            rows.append((f"RelaImpr, {label}", _percent(improvement[key], "+")))
    return rows


def summary(result: dict) -> str:
    """What was measured, and what was left out, in two sentences."""
    left_out = result["left_out"]
    rate = _percent(result["calibration"]["observed_ctr"])
    text = (
        f"{result['samples']:,} requests of {result['users']:,} users, "
        f"{result['candidates']:,} candidates, {result['clicks']:,} clicks ({rate}). "
        f"{left_out['requests']:,} requests and {left_out['users']:,} users "
        "without both classes are left out of the means per request and per user, "
        "which are weighted by candidates where they are not plain."
    )
    if "rela_impr" in result:
        text += f" RelaImpr is relative to {result['rela_impr']['base']}."
    return text


def console_tables(result: dict) -> Iterator[list[str]]:
    """What stands in tables, as lines of text.

    Args:
        result: of `evaluate_predictions`.
    """
    if "withheld" in result:
        yield _text_table(withheld.table(result))
    if "against" in result:
        found = result["against"]
        yield _text_table(against.table(found))
        if found["slices"]:
            yield _text_table(against.slices_table(found))
    for _, table in slices.tables(result.get("sliced_by", {})):
        yield _text_table(table)
    if note := slices.undefined(result.get("sliced_by", {})):
        yield [note]
    if "importance" in result:
        told = importance.summary(result["importance"], result["samples"])
        yield [told, *_text_table(importance.table(result["importance"]))]


def _text_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """A head and rows; those that are too wide, one part below the other."""
    head, *body = rows
    right = [False, *[True] * (len(head) - 1)]
    parts = text_tables.bands(head, body, right, keys=1)
    return [line for part in parts for line in [*part, ""]][:-1]


def write_report(
    result: dict, folder: str | Path, curves: Mapping[str, Rows] | None = None
) -> None:
    """Writes `report.html` and `report.png`.

    What was asked for beside, slices and importance, is in the first alone.

    Args:
        result: of `evaluate_predictions`.
        folder: to write to.
        curves: name of a run → rows of its learning curve.
    """
    folder = as_path(folder)
    panels = plots.panels(curves or {})
    with rc_context(plots.STYLE):
        (folder / "report.png").write_bytes(_png(_page(result, panels), dpi=110))
        pictures = [
            (title, is_wide, _png(_panel(draw, result, is_wide), dpi=160))
            for title, draw, is_wide in [*panels, *plots.further_panels(result)]
        ]
    (folder / "report.html").write_text(_html(result, pictures), "utf-8")


def _panel(draw: Callable, result: dict, is_wide: bool) -> Figure:
    figure = Figure(
        figsize=(11.6, 2.9) if is_wide else (5.4, 3.7), layout="constrained"
    )
    draw(figure.add_subplot(), result)
    return figure


_NARROW, _WIDE, _TABLE = 3.0, 2.3, 3.9  # inches of a row of the page
_BETWEEN, _LINE = 0.75, 0.21
_CHARACTERS = 160  # of a line of the page


def _page(result: dict, panels: Sequence[plots.Panel]) -> Figure:
    narrow = [panel for panel in panels if not panel[2]]
    wide = [panel for panel in panels if panel[2]]
    about = [f"{label}: {text}" for label, text in _origin_rows(result)]
    known = result.get("baselines", {}).values()
    beside = [f"{m['name']} AUC {_number(m['auc'])}" for m in known]
    about += [f"beside: {'; '.join(beside)}"] if beside else []
    lines = [*about, *textwrap.wrap(summary(result), _CHARACTERS)]
    # The first narrow panel stands beside the table of figures.
    heights = [_TABLE, *[_NARROW] * (len(narrow) // 2), *[_WIDE] * len(wide)]
    head = 0.75 + _LINE * len(lines)
    height = head + sum(heights) + _BETWEEN * len(heights) + 0.3
    figure = Figure(figsize=(12, height))
    figure.text(
        0.05, 1 - 0.35 / height, result["name"], size=17, weight="bold", va="center"
    )
    for place, line in enumerate(lines):
        y = 1 - (0.7 + _LINE * place) / height
        figure.text(0.05, y, line, size=9, color=plots.GRAY, va="center")
    grid = figure.add_gridspec(
        len(heights), 2, left=0.075, right=0.965, top=1 - (head + 0.35) / height,
        bottom=0.6 / height, hspace=0.3, wspace=0.2, height_ratios=heights,
    )  # fmt: skip
    _table(figure.add_subplot(grid[0, 0]), headline(result))
    for place, (_, draw, _) in enumerate(narrow, 1):
        draw(figure.add_subplot(grid[place // 2, place % 2]), result)
    for place, (_, draw, _) in enumerate(wide, len(heights) - len(wide)):
        draw(figure.add_subplot(grid[place, :]), result)
    return figure


def _origin_rows(result: dict) -> list[tuple[str, str]]:
    return origin.rows(result["origin"]) if "origin" in result else []


def _table(axes: Axes, rows: list[tuple[str, str]]) -> None:
    axes.set_axis_off()
    step = 1.2 / max(len(rows), 17)
    for place, (label, value) in enumerate(rows):
        weight = "bold" if place < 2 else "normal"
        style: dict[str, Any] = {
            "size": 9.5,
            "weight": weight,
            "va": "center",
            "clip_on": False,
        }
        y = 1.06 - step * place
        axes.text(-0.06, y, label, transform=axes.transAxes, **style)
        axes.text(0.82, y, value, transform=axes.transAxes, ha="right", **style)


def _png(figure: Figure, dpi: int) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi)
    return stream.getvalue()


def _html(result: dict, pictures: list[tuple[str, bool, bytes]]) -> str:
    rows = "".join(
        f"<tr{' class=key' if place < 2 else ''}>"
        f"<th>{html.escape(label)}</th><td>{value}</td></tr>\n"
        for place, (label, value) in enumerate(headline(result))
    )
    figures = "".join(
        f"<figure{' class=wide' if is_wide else ''}><img alt='{html.escape(title)}' "
        f"src='data:image/png;base64,{base64.b64encode(png).decode()}'></figure>\n"
        for title, is_wide, png in pictures
    )
    name = html.escape(result["name"])
    about = _html_table([["", ""], *map(list, _origin_rows(result))], "origin")
    return (
        f"<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n"
        "<meta name=viewport content='width=device-width'>\n"
        f"<title>{name}</title>\n<style>{_STYLE}</style>\n"
        f"<h1>{name}</h1>\n{about if 'origin' in result else ''}"
        f"<p>{html.escape(summary(result))}</p>\n"
        f"<main>\n<figure><table>\n{rows}</table></figure>\n{figures}</main>\n"
        f"{''.join(_sections(result))}"
        "</html>\n"
    )


def _sections(result: dict) -> Iterator[str]:
    """What stands below the pictures, each part to be folded."""
    if "withheld" in result:
        title = "What the history is worth: the same model, every history withheld"
        yield _section(title, _html_table(withheld.table(result)))
    if "against" in result:
        found = result["against"]
        tables = [_html_table(against.table(found))]
        if found["slices"]:
            tables.append("<p>Where the two differ most:</p>\n")
            tables.append(_html_table(against.slices_table(found)))
        yield _section(f"Against {found['name']}", "".join(tables))
    if "baselines" in result:
        yield _section("Beside the baselines", _beside(result))
    if "sliced_by" in result:
        note = html.escape(slices.undefined(result["sliced_by"]))
        for name, rows in slices.tables(result["sliced_by"]):
            yield _section(f"By {name}", _html_table(rows))
        yield f"<p>{note}</p>\n" if note else ""
    if "importance" in result:
        told = importance.summary(result["importance"], result["samples"])
        table = _html_table(importance.table(result["importance"]))
        yield _section("Importance by permutation", f"<p>{told}</p>\n{table}")
    for slicing, parts in result["slices"].items():
        title = f"By {slicing.replace('_', ' ')}, in figures"
        yield _section(title, _slice_table(slicing, parts), is_open=False)
    if recipe := origin.recipe_text(result.get("origin", {})):
        text = f"<pre>{html.escape(recipe)}</pre>\n"
        yield _section("The whole recipe", text, is_open=False)


def _beside(result: dict) -> str:
    known = result["baselines"]
    if not known:
        data = result["origin"]["data"]
        words = ["--data", data["path"], "--split", data["split"]]
        return (
            "<p>None is known of this split. They are made by <code>ctr-tf baselines "
            f"{html.escape(shlex.join(words))}</code>, in this folder, and shown when "
            "the run is evaluated again.</p>\n"
        )
    labels = {key: label for key, label in _METRICS if key in _BESIDE}
    rows = [["", *labels.values()]]
    for metrics in (result, *known.values()):
        rows.append([metrics["name"], *(_number(metrics[key]) for key in labels)])
    return _html_table(rows)


def _section(title: str, content: str, is_open: bool = True) -> str:
    return (
        f"<details{' open' if is_open else ''}><summary>{html.escape(title)}</summary>"
        f"\n{content}</details>\n"
    )


def _html_table(rows: Sequence[Sequence[str]], style: str = "") -> str:
    """A table of texts: its head, unless that is empty, and a row each."""
    head, *body = ([html.escape(str(cell)) for cell in row] for row in rows)
    lines = ["".join(f"<th>{cell}</th>" for cell in head)] if any(head) else []
    lines += [
        f"<th>{first}</th>" + "".join(f"<td>{cell}</td>" for cell in rest)
        for first, *rest in body
    ]
    told = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table{f' class={style}' if style else ''}>{told}</table>\n"


def _slice_table(slicing: str, parts: list[dict]) -> str:
    keys = ("samples", "candidates", "clicks", *(key for key, _ in _METRICS[:4]))
    labels = ("samples", "candidates", "clicks", *(text for _, text in _METRICS[:4]))
    rows = [[slicing.replace("_", " "), *labels]]
    rows += [[part["group"], *(_number(part[key]) for key in keys)] for part in parts]
    return _html_table(rows)


def _number(value: float | int | None, digits: int = 4) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def _percent(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.1%}".replace("%", " %")
