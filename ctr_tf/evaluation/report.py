"""The one-page report on an evaluation: `report.html`, and `report.png` of the same.

The page is one file: its pictures are embedded, and it loads nothing.
"""

import base64
import html
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctr_tf.evaluation import plots, withheld
from ctr_tf.storage import as_path

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


def write_report(result: dict, folder: str | Path) -> None:
    """Writes `report.html` and `report.png`.

    Args:
        result: of `evaluate_predictions`.
        folder: to write to.
    """
    folder = as_path(folder)
    with rc_context(plots.STYLE):
        (folder / "report.png").write_bytes(_png(_page(result), dpi=110))
        pictures = [
            (title, is_wide, _png(_panel(draw, result, is_wide), dpi=160))
            for title, draw, is_wide in plots.PANELS
        ]
    (folder / "report.html").write_text(_html(result, pictures), "utf-8")


def _panel(draw: Callable, result: dict, is_wide: bool) -> Figure:
    figure = Figure(
        figsize=(11.6, 2.9) if is_wide else (5.4, 3.7), layout="constrained"
    )
    draw(figure.add_subplot(), result)
    return figure


def _page(result: dict) -> Figure:
    figure = Figure(figsize=(12, 13.4))
    figure.text(0.05, 0.965, result["name"], size=17, weight="bold", va="center")
    first, rest = summary(result).split(". ", 1)
    figure.text(0.05, 0.942, first + ".", size=9.5, color=plots.GRAY, va="center")
    figure.text(0.05, 0.927, rest, size=9.5, color=plots.GRAY, va="center")
    grid = figure.add_gridspec(
        4, 2, left=0.075, right=0.965, top=0.885, bottom=0.05,
        hspace=0.5, wspace=0.2, height_ratios=(1.3, 1, 0.72, 0.72),
    )  # fmt: skip
    _table(figure.add_subplot(grid[0, 0]), headline(result))
    narrow = iter((grid[0, 1], grid[1, 0], grid[1, 1]))
    wide = iter((grid[2, :], grid[3, :]))
    for _, draw, is_wide in plots.PANELS:
        draw(figure.add_subplot(next(wide if is_wide else narrow)), result)
    return figure


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
    slices = "".join(_slice_table(*item) for item in result["slices"].items())
    name = html.escape(result["name"])
    return (
        f"<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n"
        "<meta name=viewport content='width=device-width'>\n"
        f"<title>{name}</title>\n<style>{_STYLE}</style>\n"
        f"<h1>{name}</h1>\n<p>{html.escape(summary(result))}</p>\n"
        f"<main>\n<figure><table>\n{rows}</table></figure>\n{figures}</main>\n"
        f"{_withheld_table(result)}{slices}"
        "</html>\n"
    )


def _withheld_table(result: dict) -> str:
    if "withheld" not in result:
        return ""
    head, *rows = withheld.table(result)
    cells = "".join(f"<th>{text}</th>" for text in head)
    body = "".join(
        f"<tr><th>{row[0]}</th>"
        + "".join(f"<td>{text}</td>" for text in row[1:])
        + "</tr>\n"
        for row in rows
    )
    return (
        "<details open><summary>What the history is worth: the same model, every "
        "history withheld</summary>\n"
        f"<table><tr>{cells}</tr>\n{body}</table></details>\n"
    )


def _slice_table(slicing: str, parts: list[dict]) -> str:
    title = slicing.replace("_", " ")
    keys = ("samples", "candidates", "clicks", *(key for key, _ in _METRICS[:4]))
    labels = ("samples", "candidates", "clicks", *(text for _, text in _METRICS[:4]))
    head = "".join(f"<th>{label}</th>" for label in (title, *labels))
    body = "".join(
        f"<tr><th>{part['group']}</th>"
        + "".join(f"<td>{_number(part[key])}</td>" for key in keys)
        + "</tr>\n"
        for part in parts
    )
    return (
        f"<details><summary>By {title}, in figures</summary>\n"
        f"<table><tr>{head}</tr>\n{body}</table></details>\n"
    )


def _number(value: float | int | None, digits: int = 4) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def _percent(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.1%}".replace("%", " %")
