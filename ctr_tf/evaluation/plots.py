"""The report's panels: each draws one view of an evaluation's result on its axes."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ctr_tf.training.learning_curve import Rows, draw_learning_curve

BLUE, ORANGE, GRAY, LIGHT = "#2563a8", "#d97706", "#6b7280", "#e5e7eb"
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": "#26292e",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelcolor": GRAY,
    "axes.edgecolor": "#9ca3af",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT,
    "grid.linewidth": 0.7,
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "figure.facecolor": "white",
}


def reliability(axes: Axes, result: dict) -> None:
    """Observed against predicted CTR, in bins of equally many candidates."""
    bins = result["calibration"]["bins"]
    predicted = 100 * np.array([b["predicted"] for b in bins])
    observed = 100 * np.array([b["observed"] for b in bins])
    limit = 1.05 * max(predicted.max(), observed.max())
    axes.plot([0, limit], [0, limit], color=GRAY, linewidth=1, linestyle=(0, (4, 3)))
    axes.plot(predicted, observed, color=BLUE, marker="o", markersize=4.5)
    axes.text(
        0.97, 0.05, f"ECE {result['calibration']['ece']:.4f}",
        transform=axes.transAxes, ha="right", color=GRAY,
    )  # fmt: skip
    axes.set(
        title="Reliability",
        xlabel="predicted CTR, %",
        ylabel="observed CTR, %",
        xlim=(0, limit),
        ylim=(0, limit),
    )


def roc(axes: Axes, result: dict) -> None:
    """The receiver operating characteristic over all candidates."""
    curve = result["roc"]
    false = 100 * np.array(curve["false_positive_rate"])
    true = 100 * np.array(curve["true_positive_rate"])
    axes.plot([0, 100], [0, 100], color=GRAY, linewidth=1, linestyle=(0, (4, 3)))
    axes.fill_between(false, true, color=BLUE, alpha=0.08, linewidth=0)
    axes.plot(false, true, color=BLUE)
    axes.text(
        0.97, 0.05, f"AUC {result['auc']:.4f}",
        transform=axes.transAxes, ha="right", color=GRAY,
    )  # fmt: skip
    axes.set(
        title="ROC",
        xlabel="candidates without click that rank above, %",
        ylabel="clicked candidates found, %",
        xlim=(0, 100),
        ylim=(0, 101),
    )


def histogram(axes: Axes, result: dict) -> None:
    """Predicted CTR of the clicked and of the other candidates."""
    edges = np.array(result["histogram"]["edges"])
    # A few lost candidates must not squeeze the rest.
    both = np.add(result["histogram"]["no_click"], result["histogram"]["click"])
    upto = np.cumsum(both) / both.sum()
    low, high = np.searchsorted(upto, (0.0005, 0.9995))
    edges = edges[low : high + 2]
    step = max(int(np.ceil((len(edges) - 1) / 60)), 1)
    starts = np.arange(0, len(edges) - 1, step)
    outline = np.append(edges[starts], edges[-1])
    for key, label, color in (
        ("no_click", "not clicked", GRAY),
        ("click", "clicked", ORANGE),
    ):
        counts = np.array(result["histogram"][key])
        parts = np.add.reduceat(counts[low : high + 1], starts)
        share = 100 * parts / counts.sum()
        axes.stairs(share, outline, color=color, label=label, linewidth=1.6)
        axes.stairs(share, outline, color=color, alpha=0.15, fill=True)
    ticks = np.array([0.0001, 0.001, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99])
    places = np.log(ticks / (1 - ticks))
    shown = (places > outline[0]) & (places < outline[-1])
    if shown.sum() < 2:
        places, shown = outline[[0, -1]], np.array([True, True])
        ticks = 1 / (1 + np.exp(-places))
    axes.set_xticks(places[shown], [f"{100 * tick:.3g}" for tick in ticks[shown]])
    axes.legend(loc="upper right")
    axes.set(
        title="Scores by class",
        xlabel="predicted CTR, % (logit scale)",
        ylabel="share of the class, %",
        xlim=(outline[0], outline[-1]),
        ylim=(0, None),
    )


def by_history_length(axes: Axes, result: dict) -> None:
    """AUC and GAUC of the samples with so many behaviors."""
    parts = result["slices"]["history_length"]
    _by_slice(axes, parts, [p["group"].replace("-", "–") for p in parts])
    axes.set(title="AUC by history length", xlabel="behaviors before the request")


def by_hour(axes: Axes, result: dict) -> None:
    """AUC and GAUC of the requests of each local hour."""
    parts = result["slices"]["hour"]
    _by_slice(axes, parts, [p["group"] for p in parts])
    axes.set(title="AUC by local hour", xlabel="hour of the request, local time")


def _by_slice(axes: Axes, parts: list[dict], names: list[str]) -> None:
    place = np.arange(len(parts))
    share = np.array([part["samples"] for part in parts], float)
    behind = axes.twinx()
    behind.bar(place, share / share.sum(), color=LIGHT, width=0.6)
    behind.set(ylim=(0, 3.2 * (share / share.sum()).max()), yticks=[])
    behind.spines["right"].set_visible(False)
    behind.grid(False)
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)
    axes.axhline(0.5, color=GRAY, linewidth=1, linestyle=(0, (4, 3)))
    for key, label, color in (
        ("auc", "AUC", BLUE),
        ("gauc_user", "GAUC, per user", ORANGE),
    ):
        values = [np.nan if part[key] is None else part[key] for part in parts]
        axes.plot(place, values, color=color, marker="o", markersize=4.5, label=label)
    axes.plot([], [], color=LIGHT, linewidth=8, label="share of samples")
    axes.set_xticks(place, names)
    axes.set(ylabel="AUC", xlim=(-0.6, len(parts) - 0.4))
    axes.grid(False, axis="x")
    axes.legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 0.99))


def by_group(axes: Axes, result: dict, name: str) -> None:
    """AUC of the groups of a slicing, with intervals, and their share of candidates."""
    parts = result["sliced_by"][name]
    place = np.arange(len(parts))
    share = np.array([part["candidates"] for part in parts], float)
    axes.bar(
        place,
        share / share.max(),
        color=LIGHT,
        width=0.6,
        transform=axes.get_xaxis_transform(),
        label="share of candidates",
    )
    known = [i for i, part in enumerate(parts) if "auc" in part]
    values = np.array([parts[i]["auc"]["value"] for i in known])
    _with_interval(axes, known, values, [parts[i]["auc"] for i in known])
    axes.axhline(0.5, color=GRAY, linewidth=1, linestyle=(0, (4, 3)))
    long = any(len(part["group"]) > 9 for part in parts)
    rotation: Any = {"rotation": 25, "ha": "right"} if long else {}
    axes.set_xticks(place, [part["group"] for part in parts], **rotation)
    axes.set(title=f"AUC by {name}", ylabel="AUC", xlim=(-0.6, len(parts) - 0.4))
    axes.grid(False, axis="x")
    axes.legend(ncols=2, loc="lower right", bbox_to_anchor=(1, 0.99))


def _with_interval(
    axes: Axes, place: Sequence[int], values: np.ndarray, metrics: Sequence[dict]
) -> None:
    ends = [(m["low"], m["high"]) for m in metrics]
    low, high = np.array([(np.nan, np.nan) if a is None else (a, b) for a, b in ends]).T
    axes.vlines(place, low, high, color=BLUE, linewidth=1.6)
    axes.plot(place, values, "o", color=BLUE, markersize=5, label="AUC, 95 % interval")


def importance(axes: Axes, result: dict) -> None:
    """What AUC loses where a group of features is permuted."""
    found = [group for group in result["importance"]["groups"] if "auc" in group][::-1]
    place = np.arange(len(found))
    lost = np.array([group["auc"]["lost"] for group in found])
    axes.barh(place, lost, color=BLUE, height=0.6)
    for y, group in enumerate(found):
        if group["auc"]["low"] is not None:
            ends = (group["auc"]["low"], group["auc"]["high"])
            axes.hlines(y, *ends, color=ORANGE, linewidth=2.2)
    axes.axvline(0, color=GRAY, linewidth=1)
    axes.set_yticks(place, [group["group"] for group in found])
    axes.set(title="Importance by permutation", xlabel="AUC lost, with 95 % interval")
    axes.grid(False, axis="y")


def learning_curve(
    axes: Axes, result: dict, metric: str, curves: Mapping[str, Rows]
) -> None:
    """Loss or AUC over the steps, of a run or of two."""
    draw_learning_curve(axes, metric, curves, (BLUE, ORANGE), "Learning curve: {}")


Panel = tuple[str, Callable[[Axes, dict], None], bool]  # title, drawing, is it wide

PANELS: tuple[Panel, ...] = (
    ("Reliability", reliability, False),
    ("ROC", roc, False),
    ("Scores by class", histogram, False),
    ("AUC by history length", by_history_length, True),
    ("AUC by local hour", by_hour, True),
)


def panels(curves: Mapping[str, Rows]) -> list[Panel]:
    """The panels of every result, and learning curves where there are any.

    Args:
        curves: name of a run → rows of its learning curve.
    """
    found = list(PANELS)
    known = {name: rows for name, rows in curves.items() if rows}
    for metric, title in (("loss", "loss"), ("auc", "AUC")) if known else ():
        draw = functools.partial(learning_curve, metric=metric, curves=known)
        found.append((f"Learning curve, {title}", draw, False))
    return found


def further_panels(result: dict) -> list[Panel]:
    """The panels of what was asked for beside."""
    found: list[Panel] = []
    for name in result.get("sliced_by", {}):
        draw = functools.partial(by_group, name=name)
        found.append((f"AUC by {name}", draw, True))
    if "importance" in result:
        found.append(("Importance by permutation", importance, True))
    return found
