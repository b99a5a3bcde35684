"""A study as a picture: what was reached, what mattered, and each key's values."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ctr_tf.evaluation import plots
from ctr_tf.tuning.ranges import Range
from ctr_tf.tuning.sampler import Tried
from ctr_tf.tuning.space import Space

_COLUMNS = 3


def plot_study(
    space: Space,
    results: Sequence[Tried],
    shares: Mapping[str, float],
    monitor: str,
    path: Path,
) -> None:
    """Draws what each trial reached, what mattered, and a panel for each key.

    Args:
        space: of the study.
        results: of all trials, from the first.
        shares: of `importances`.
        monitor: name of what was reached.
        path: of the PNG file.
    """
    rows = -(-(2 + len(space)) // _COLUMNS)
    with rc_context(plots.STYLE):
        figure = Figure(figsize=(4.6 * _COLUMNS, 3.5 * rows), layout="constrained")
        panels = np.ravel(figure.subplots(rows, _COLUMNS))
        _by_trial(panels[0], results, monitor)
        _what_mattered(panels[1], shares)
        keys = sorted(space, key=lambda key: -shares.get(key, 0.0))
        for axes, key in zip(panels[2:], keys, strict=False):
            _by_value(axes, space[key], key, results, monitor)
        for axes in panels[2 + len(space) :]:
            axes.set_visible(False)
        figure.savefig(path, dpi=130)


def _by_trial(axes: Axes, results: Sequence[Tried], monitor: str) -> None:
    numbers = np.arange(1, len(results) + 1)
    values = np.array([np.nan if r.value is None else r.value for r in results])
    axes.plot(numbers, values, "o", color=plots.BLUE, markersize=5, label="trial")
    best = np.fmax.accumulate(values)
    axes.plot(
        numbers, best, color=plots.ORANGE, drawstyle="steps-post", label="best so far"
    )
    failed = numbers[np.isnan(values)]
    if len(failed):
        axes.plot(
            failed, np.full(len(failed), 0.03), "x", color=plots.GRAY, label="failed",
            transform=axes.get_xaxis_transform(),
        )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 0.99), fontsize=8)
    axes.set(title="By trial", xlabel="trial", ylabel=f"{monitor} on validation")


def _what_mattered(axes: Axes, shares: Mapping[str, float]) -> None:
    axes.set(title="What mattered", xlabel="share of the variance, %")
    if not shares:
        axes.set(xticks=[], yticks=[])
        axes.text(
            0.5, 0.5, "too few trials to tell", color=plots.GRAY, ha="center",
            transform=axes.transAxes,
        )  # fmt: skip
        return
    for place, (key, share) in enumerate(shares.items()):
        axes.barh(-place, 100 * share, color=plots.BLUE, height=0.35)
        axes.text(0, 0.25 - place, f" {key}", size=8.5)
    axes.set(yticks=[], ylim=(0.4 - len(shares), 0.7))
    axes.grid(False, axis="y")


def _by_value(
    axes: Axes, given: Range | tuple, key: str, results: Sequence[Tried], monitor: str
) -> None:
    """Value over the key; the first trial, the recipe as it is, is hollow."""
    for result in results:
        place = _place(given, result.values[key])
        if result.value is not None and place is not None:
            face = "white" if result is results[0] else plots.BLUE
            axes.plot(
                place, result.value, "o", color=plots.BLUE, markersize=5,
                markerfacecolor=face,
            )  # fmt: skip
    if isinstance(given, tuple):
        axes.set_xticks(range(len(given)), [str(value) for value in given])
        axes.set_xlim(-0.5, len(given) - 0.5)
    else:
        axes.set_xscale("log" if given.log else "linear")
        for end in (given.low, given.high):
            axes.axvline(end, color=plots.GRAY, linewidth=1, linestyle=(0, (4, 3)))
    axes.set(title=_short(key), xlabel=key, ylabel=f"{monitor} on validation")


def _place(given: Range | tuple, value: object) -> float | None:
    """Where a value stands on the axis of its key; nowhere if it is no number."""
    if isinstance(given, tuple):
        return given.index(value) if value in given else None
    if not isinstance(value, int | float) or (given.log and value <= 0):
        return None
    return value


def _short(key: str) -> str:
    """The last two parts of a dotted key, as they tell rates of groups apart."""
    return ".".join(key.split(".")[-2:])
