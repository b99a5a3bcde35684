"""A study as a picture: AUC, and what is left to the limit, along the axis."""

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ctr_tf.evaluation import plots
from ctr_tf.scaling.study import AXES, Study

_BEYOND = 4.0  # how far the curves go on, in units of the outermost x
_BAND = (0.025, 0.975)


def plot_study(study: Study, path: Path) -> None:
    """Draws points, law, band and rival; withheld points are hollow.

    Beside AUC over log X, limit - AUC on log-log axes, where a power law with this
    limit is a straight line, if the limit is known.

    Args:
        study: what to draw.
        path: of the PNG file.
    """
    panels = 1 if study.known_limit is None else 2
    with rc_context(plots.STYLE):
        figure = Figure(figsize=(6.6 * panels, 4.8), layout="constrained")
        first, *more = np.atleast_1d(figure.subplots(1, panels))
        _draw(first, study, None)
        first.axhline(
            study.limit.value, color=plots.BLUE, linewidth=1, linestyle=(0, (1, 2)),
            label=f"E = {study.limit.value:.4f}",
        )  # fmt: skip
        if study.known_limit is not None:
            first.axhline(
                study.known_limit, color=plots.GRAY, linewidth=1,
                linestyle=(0, (4, 3)), label=f"known limit {study.known_limit:.4f}",
            )  # fmt: skip
        first.set(title=f"AUC by {AXES[study.axis]}, {study.fixed}", ylabel="AUC")
        first.legend(loc="lower right")
        for axes in more:
            _draw(axes, study, study.known_limit)
            axes.set(title="What is left to the known limit", ylabel="limit - AUC")
        figure.savefig(path, dpi=130)


def _draw(axes: Axes, study: Study, limit: float | None) -> None:
    """AUC along the axis; with a limit, limit - AUC on log-log axes."""
    x = np.array([getattr(point, study.axis) for point in study.points], float)
    aucs = np.array([point.auc for point in study.points])
    curve = np.geomspace(x[0] / _BEYOND, x[-1] * _BEYOND, 200)
    by_law = study.law.predict(curve)
    ends = np.quantile(by_law[1:] if len(by_law) > 1 else by_law, _BAND, axis=0)

    def shown(auc: np.ndarray) -> np.ndarray:
        """A law may pass the limit, which is nowhere on a logarithmic axis."""
        return auc if limit is None else np.maximum(limit - auc, 1e-9)

    axes.fill_between(curve, *shown(ends), color=plots.BLUE, alpha=0.12, linewidth=0)
    axes.plot(curve, shown(by_law[0]), color=plots.BLUE, label="E - A X^(-alpha)")
    axes.plot(
        curve, shown(study.rival.predict(curve)[0]), color=plots.ORANGE,
        linestyle=(0, (5, 2)), label="a + b ln X",
    )  # fmt: skip
    for part, face, label in (
        (slice(None, study.fitted), plots.BLUE, "fitted"),
        (slice(study.fitted, None), "white", "withheld"),
    ):
        if len(x[part]):
            axes.errorbar(
                x[part], shown(aucs[part]),
                [point.spread or 0.0 for point in study.points[part]],
                fmt="o", color=plots.BLUE, markerfacecolor=face, markersize=6,
                elinewidth=1, label=label, zorder=3,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set(xlabel=AXES[study.axis], xlim=(curve[0], curve[-1]))
    if limit is None:
        known = [*aucs, study.limit.value, study.known_limit or aucs.max()]
        room = 0.08 * (max(known) - min(known)) or 0.01
        axes.set_ylim(min(known) - 3 * room, max(known) + room)
        return
    axes.set_yscale("log")
    axes.set_ylim(max(shown(aucs).min(), 1e-4) / 3, 2 * shown(aucs).max())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
