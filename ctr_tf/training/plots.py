"""The learning curve as a picture."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402


def plot_learning_curve(history: list[dict[str, float]], path: Path) -> None:
    """Plots loss and AUC of training and validation over the steps.

    The loss is that of the labels, where it is one of several terms.

    Args:
        history: rows with `step` and any of the metrics.
        path: of the PNG file; its folder is made.
    """
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    several = any("log_loss" in row for row in history)
    loss = ("log_loss", "Log loss") if several else ("loss", "Loss")
    for axis, (metric, title) in zip(axes, (loss, ("auc", "AUC")), strict=True):
        for key, label, style in (
            (metric, "training", "-"),
            (f"validation_{metric}", "validation", "o--"),
        ):
            points = [(row["step"], row[key]) for row in history if key in row]
            if points:
                axis.plot(*zip(*points, strict=True), style, label=label, markersize=4)
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
        axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
