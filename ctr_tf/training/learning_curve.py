"""The learning curve of a run: kept beside its checkpoints, and drawn.

`plots/learning_curve.json` has its rows, `plots/learning_curve.png` the picture.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctr_tf.storage import as_path, files
from ctr_tf.storage.folders import writing

_PLOTS, _ROWS, _PICTURE = "plots", "learning_curve.json", "learning_curve.png"

Rows = Sequence[Mapping[str, float]]  # each has `step` and any of the metrics


def write_learning_curve(run: str | Path, rows: Rows) -> None:
    """Leaves a run's learning curve in its folder.

    Args:
        run: folder of the run.
        rows: of the curve.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "auc"), strict=True):
        draw_learning_curve(axes, metric, {"": rows})
        axes.grid(alpha=0.3)
    with writing(as_path(run) / _PLOTS) as plots:
        figure.savefig(plots / _PICTURE, dpi=120)
        (plots / _ROWS).write_text(json.dumps(list(rows)) + "\n", "utf-8")


def read_learning_curve(run: str | Path) -> list[dict[str, float]]:
    """Rows of a run's learning curve; none of a run that has left none."""
    path = as_path(run) / _PLOTS / _ROWS
    return files.read_json(path) if path.is_file() else []


def draw_learning_curve(
    axes: Axes,
    metric: str,
    curves: Mapping[str, Rows],
    colors: Sequence[Any] = (),
    title: str = "{}",
) -> None:
    """Draws one metric of training and validation over the steps.

    Args:
        axes: to draw on.
        metric: `"auc"`, or `"loss"`: that of the labels, where it is one of several
            terms.
        curves: name of a run → its rows; `""` for one that needs no name.
        colors: one a run, of both its lines; Matplotlib's own where there is none.
        title: in which `{}` stands for what is drawn.
    """
    drawn = "AUC" if metric == "auc" else "Loss"
    for place, (name, rows) in enumerate(curves.items()):
        key = metric
        if metric == "loss" and any("log_loss" in row for row in rows):
            key, drawn = "log_loss", "Log loss"
        color = colors[place] if colors else None
        for shown, label, style in (
            (key, "training", "-"),
            (f"validation_{key}", "validation", "o--"),
        ):
            points = [(row["step"], row[shown]) for row in rows if shown in row]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    style,
                    label=", ".join(filter(None, (name, label))),
                    markersize=4,
                    color=color,
                )
    axes.set(title=title.format(drawn), xlabel="step")
    if axes.lines:
        axes.legend()
