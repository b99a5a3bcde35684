"""Quality against cost, as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctr_tf.compare.results import Row
from ctr_tf.evaluation import plots

_PANELS = (("flops", 1e6, "MFLOPs a request"), ("latency_ms", 1, "ms a request"))


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
        figure.savefig(path, dpi=130)


def _draw(axes: Axes, rows, base: str, key: str, unit: float, label: str) -> None:
    axes.set_xscale("log")
    for row in rows:
        color = plots.ORANGE if row.name == base else plots.BLUE
        cost, auc = getattr(row, key) / unit, row.mean("auc")
        axes.errorbar(
            cost, auc, row.spread("auc") or 0.0,
            fmt="o", color=color, markersize=5, elinewidth=1, alpha=0.9,
        )  # fmt: skip
        axes.annotate(
            row.name, (cost, auc), (5, 4), textcoords="offset points", fontsize=8
        )
    axes.margins(x=0.15)
    axes.set(title=f"AUC by {label}", xlabel=label)
