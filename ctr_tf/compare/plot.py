"""Quality against cost, as a picture."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from ctr_tf.compare.results import Row
from ctr_tf.evaluation import plots

_PANELS = (("flops", 1e6, "MFLOPs a request"), ("latency_ms", 1, "ms a request"))
_LEADER = {"arrowstyle": "-", "color": plots.GRAY, "linewidth": 0.6}
# Where a name may stand, points from its own point: beside it, or else on rings around.
_BESIDE = ((6, 3), (6, -10), (-6, 3), (-6, -10))
_RINGS = tuple(
    (radius * math.cos(angle), radius * math.sin(angle))
    for radius in range(18, 110, 9)
    for angle in np.linspace(0.3, 0.3 + 2 * math.pi, 16, endpoint=False)
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


def _draw(
    axes: Axes, rows: Sequence[Row], base: str, key: str, unit: float, label: str
) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    for row in rows:
        color = plots.ORANGE if row.name == base else plots.BLUE
        axes.errorbar(
            getattr(row, key) / unit, _auc(row), row.spread("auc") or 0.0,
            fmt="o", color=color, markersize=5, elinewidth=1, alpha=0.9,
        )  # fmt: skip
    axes.margins(x=0.15)
    axes.set(title=f"AUC by {label}", xlabel=label)


def _auc(row: Row) -> float:
    auc = row.mean("auc")
    assert auc is not None  # rows without one are left out
    return auc


def _label(axes: Axes, rows: Sequence[Row], key: str, unit: float) -> None:
    """Writes each name where it covers no other and no point, if a place is free."""
    points = [(getattr(row, key) / unit, _auc(row)) for row in rows]
    taken = [
        Bbox.from_bounds(x - 4, y - 4, 8, 8)
        for x, y in axes.transData.transform(points).tolist()
    ]
    frame = axes.get_window_extent()
    for row, point in zip(rows, points, strict=True):
        for offset in (*_BESIDE, *_RINGS):
            text = axes.annotate(
                row.name, point, offset, textcoords="offset points", size=8,
                ha="left" if offset[0] > 0 else "right",
            )  # fmt: skip
            box = text.get_window_extent()
            inside = frame.contains(*box.min) and frame.contains(*box.max)
            if inside and not box.count_overlaps(taken):
                break
            text.remove()
        else:
            continue  # no room: the table has it
        taken.append(box)
        if offset in _RINGS:
            axes.annotate(
                "", point, offset, textcoords="offset points", arrowprops=_LEADER
            )
