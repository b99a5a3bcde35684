"""What is kept of all days: `days.json`, and a picture of it."""

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

from ctr_tf.storage import files  # noqa: E402

DAY = "day.json"  # in the folder of a day, written last
_DAYS = "days.json"
_PICTURE = "days.png"
MEASURED = ("auc", "gauc_user", "gauc_request", "log_loss")


def write_record(root: Path) -> list[dict]:
    """Writes the record of all days that are finished.

    Args:
        root: folder of the days.

    Returns:
        Its rows, by day: what stands in each `day.json`.
    """
    rows = [files.read_json(path) for path in sorted(root.glob(f"*/{DAY}"))]
    files.write_text(root / _DAYS, json.dumps(rows, indent=1) + "\n")
    if any(row["predicted"] for row in rows):
        with files.writing(root / _PICTURE) as picture:
            _plot(rows, picture)
    return rows


def _date(row: dict) -> datetime.date:
    return datetime.date.fromisoformat(row["day"])


def _plot(rows: Sequence[dict], picture: BinaryIO) -> None:
    known = [row for row in rows if row["predicted"]]
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, names in zip(axes, (MEASURED[:3], MEASURED[3:]), strict=True):
        for name in names:
            points = [(_date(row), row["predicted"][name]) for row in known]
            points = [point for point in points if point[1] is not None]
            if points:
                axis.plot(*zip(*points, strict=True), "o-", label=name, markersize=4)
        axis.set(title="Each day, by the run of the day before")
        axis.tick_params(axis="x", rotation=45)
        axis.grid(alpha=0.3)
        if axis.lines:  # a day of no clicks has no AUC
            axis.legend()
    figure.savefig(picture, format="png", dpi=120)
    pyplot.close(figure)


def table(rows: Sequence[dict]) -> list[str]:
    """The record in words, a line a day."""
    heads = ("day", "samples", "AUC", "GAUC user", "GAUC request", "log loss", "new")
    lines = ["{:<12}{:>10}{:>9}{:>11}{:>14}{:>10}{:>8}".format(*heads)]
    for row in rows:
        found = [(row["predicted"] or {}).get(name) for name in MEASURED]
        told = ["-" if value is None else f"{value:.4f}" for value in found]
        new = sum(row["new_values"].values())
        cells = (row["day"], f"{row['samples']:,}", *told, f"{new:,}")
        lines.append("{:<12}{:>10}{:>9}{:>11}{:>14}{:>10}{:>8}".format(*cells))
    return lines
