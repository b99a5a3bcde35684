"""The report of a study: for readers (Markdown) and for programs (JSON)."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

from ctr_tf.scaling.advice import COSTS, advice, of_most_samples, pareto_front
from ctr_tf.scaling.points import Point
from ctr_tf.scaling.statements import statements
from ctr_tf.scaling.study import AXES, Study
from ctr_tf.storage import as_path


def markdown(
    points: Sequence[Point],
    studies: Sequence[Study],
    budgets: dict[str, float | None],
    about: dict,
) -> str:
    """The whole report.

    Args:
        points: measured.
        studies: of all axes.
        budgets: a key of `COSTS` → the budget asked for.
        about: `model`, `data`, `split`, `seeds`, `candidates`, `replicates`, `recipe`
            and the `overrides` of it.
    """
    name = as_path(about["data"]).resolve().name
    lines = [f"# Scaling of {about['model']} on {name}, {about['split']} split", ""]
    lines += _table(points)
    for study in studies:
        lines += ["", f"## Law over {AXES[study.axis]}, {study.fixed}", ""]
        lines += [f"* {line}" for line in statements(study)]
    lines += ["", "## What to take", "", *_advice(points, budgets)]
    lines += ["", "## How to read this", "", *_notes(about), ""]
    return "\n".join(lines)


def _table(points: Sequence[Point]) -> list[str]:
    lines = [
        "| grade | samples | MFLOPs | latency, ms | network | tables | seeds | AUC |",
        "|---" + "|---:" * 7 + "|",
    ]
    for point in points:
        spread = "" if point.spread is None else f" ± {point.spread:.4f}"
        lines.append(
            f"| {point.cell.grade} | {point.samples:,} | {point.flops / 1e6:,.3f} | "
            f"{point.latency_ms:,.2f} | {point.network:,} | {point.tables:,} | "
            f"{len(point.aucs)} | {point.auc:.4f}{spread} |"
        )
    return lines


def _notes(about: dict) -> list[str]:
    words = ", ".join(f"`{word}`" for word in about["overrides"])
    changes = f" with {words}" if words else ""
    alone = "; with one seed, users alone" if about["seeds"] == 1 else ""
    return [
        f"* Every point is trained by the recipe {about['recipe']}{changes}.",
        "* A grade is width:blocks:history:heads. MFLOPs, latency: of one request with "
        f"{about['candidates']} candidates and a full history; latency is a median on "
        f"{len(os.sched_getaffinity(0))} cores. Samples: of the training, each counted "
        "once. AUC: mean over the seeds, ± their standard deviation.",
        f"* [low, high]: 95 % of {about['replicates']:,} bootstrap replicates, which "
        f"draw users, the same for all points, and each point's seeds{alone}.",
        "* The noise of seeds is the standard deviation of the mean over a point's "
        "seeds, by that of one training, pooled over the withheld points: small grades "
        "need not learn alike from each seed where large ones do.",
    ]


def _advice(points: Sequence[Point], budgets: dict[str, float | None]) -> list[str]:
    full, lines = of_most_samples(points), []
    for cost, (unit, words) in COSTS.items():
        steps = (
            f"{point.cell.grade} ({getattr(point, cost) / unit:.4g}, {point.auc:.4f})"
            for point in pareto_front(full, cost)
        )
        lines.append(f"* No cheaper one is better ({words}, AUC): {', '.join(steps)}.")
        budget = budgets.get(cost)
        if budget is not None:
            lines.append(f"* {advice(full, cost, budget)}")
    return lines


def write_report(
    points: Sequence[Point],
    studies: Sequence[Study],
    budgets: dict[str, float | None],
    about: dict,
    folder: Path,
) -> str:
    """Writes `scaling.md`, the text of `markdown`, and `scaling.json`; returns it."""
    text = markdown(points, studies, budgets, about)
    (folder / "scaling.md").write_text(text, "utf-8")
    full = of_most_samples(points)
    values = {
        **about,
        "points": [_plain_point(point) for point in points],
        "laws": [_plain_study(study) for study in studies],
        "fronts": {
            cost: [str(point.cell) for point in pareto_front(full, cost)]
            for cost in COSTS
        },
    }
    (folder / "scaling.json").write_text(json.dumps(values, indent=1) + "\n", "utf-8")
    return text


def _plain_point(point: Point) -> dict:
    grade = dataclasses.asdict(point.cell.grade)
    keys = ("samples", "flops", "latency_ms", "network", "tables", "auc", "spread")
    numbers = {key: getattr(point, key) for key in keys}
    return {**grade, "share": point.cell.share, **numbers, "aucs": point.aucs}


def _plain_study(study: Study) -> dict:
    keys = (
        *("axis", "fixed", "fitted", "amplitude", "r2", "rival_r2", "noise"),
        *("known_limit", "faults", "faults_of_all"),
    )
    estimates = ("limit", "alpha", "limit_of_all", "alpha_of_all")
    return {
        **{key: getattr(study, key) for key in keys},
        **{key: dataclasses.asdict(getattr(study, key)) for key in estimates},
        "rival": {
            "intercept": float(study.rival.intercept[0]),
            "slope": float(study.rival.slope[0]),
        },
        "predictions": [
            {
                **dataclasses.asdict(prediction),
                "error": prediction.error,
                "within_noise": prediction.within_noise,
                "within_band": prediction.within_band,
            }
            for prediction in study.predictions
        ],
        "error": study.error(),
        "rival_error": study.error(of_rival=True),
        "statements": statements(study),
    }
