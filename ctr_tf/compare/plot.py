"""Quality against cost, as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ctr_tf.compare.results import Row
from ctr_tf.evaluation import plots

_PANELS = (("flops", 1e6, "MFLOPs a request"), ("latency_ms", 1, "ms a request"))
_PLACES = (
    ((6, 3), "left"),
    ((6, -10), "left"),
    ((-6, 3), "right"),
    ((-6, -10), "right"),
)


def plot_quality_against_cost(rows: Sequence[Row], base: str, path: Path) -> None:
    """Draws AUC (± its spread) over FLOPs and over latency, a point a row.

    Args:
        rows: of the table; those without runs are left out.
        base: name of the row that stands out.
        path: of the PNG file.
    """
    known = [row for row in rows if row.mean("auc") is not None]
    with rc_context(plots.STYLE):
        figure = Figure(figsize=(12, 5), layout="constrained")
        for axes, panel in zip(
            figure.subplots(1, 2, sharey=True), _PANELS, strict=True
        ):
            _draw(axes, known, base, *panel)
        figure.axes[0].set(ylabel="AUC")
        figure.draw_without_rendering()  # labels are placed on the final axes
        for axes, (key, unit, _) in zip(figure.axes, _PANELS, strict=True):
            _label(axes, known, key, unit)
        figure.savefig(path, dpi=130)


def _draw(axes: Axes, rows, base: str, key: str, unit: float, label: str) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    for row in rows:
        color = plots.ORANGE if row.name == base else plots.BLUE
        axes.errorbar(
            getattr(row, key) / unit, row.mean("auc"), row.spread("auc") or 0.0,
            fmt="o", color=color, markersize=5, elinewidth=1, alpha=0.9,
        )  # fmt: skip
    axes.margins(x=0.15)
    axes.set(title=f"AUC by {label}", xlabel=label)


def _label(axes: Axes, rows, key: str, unit: float) -> None:
    """Writes each name where it covers no other, if one of the places is free."""
    taken = []
    for row in rows:
        point = getattr(row, key) / unit, row.mean("auc")
        for place, (offset, side) in enumerate(_PLACES, 1):
            text = axes.annotate(
                row.name, point, offset, textcoords="offset points", ha=side, size=8
            )
            box = text.get_window_extent()
            if place == len(_PLACES) or not box.count_overlaps(taken):
                taken.append(box)
                break
            text.remove()
