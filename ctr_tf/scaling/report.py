"""What a study says: in sentences for readers, in numbers for programs."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

from ctr_tf.scaling.advice import COSTS, advice, of_most_samples, pareto_front
from ctr_tf.scaling.points import Point
from ctr_tf.scaling.study import AXES, NOISES, Estimate, Prediction, Study


def statements(study: Study) -> list[str]:
    """The sentences on a study, its failures among them."""
    largest = max(point.auc for point in study.points)
    lines = [
        f"AUC = E - A X^(-alpha), X: {AXES[study.axis]}, fitted to the "
        f"{study.fitted} smallest: E = {_band(study.limit)}, A = "
        f"{study.amplitude:.4g}, alpha = {_band(study.alpha, '.3g')}. R2 = "
        f"{study.r2:.4f}, which proves nothing by itself; the rival's, a + b ln X with "
        f"b = {float(study.rival.slope[0]):.4g}, is {study.rival_r2:.4f}.",
        f"The largest AUC measured is {largest:.4f}. {_on_limit(study)}",
    ]
    lines += [f"**Refused as a law**: {fault}." for fault in study.faults]
    if study.predictions:
        faults = [f" **Refused as a law**: {f}." for f in study.faults_of_all]
        lines.append(
            f"Fitted to all {len(study.points)}, nothing withheld: E = "
            f"{_band(study.limit_of_all)}, alpha = {_band(study.alpha_of_all, '.3g')}."
            f"{''.join(faults)}"
        )
    lines += [_on_prediction(prediction) for prediction in study.predictions]
    if study.predictions:
        law, rival = study.error(), study.error(of_rival=True)
        assert law is not None and rival is not None
        better = "power law" if law < rival else "rival without a limit"
        lines.append(
            f"The {better} predicts better: the withheld are missed by {law:.4f} on "
            f"average by the power law, by {rival:.4f} by the rival."
        )
    return lines


def _on_limit(study: Study) -> str:
    known, band = study.known_limit, study.limit
    if known is None:
        return "The limit is not known."
    place = "inside" if band.low <= known <= band.high else "outside"
    return (
        f"The limit is known, {known:.4f}: {place} the band of E, which is off by "
        f"{band.value - known:+.4f}."
    )


def _on_prediction(prediction: Prediction) -> str:
    place = "inside" if prediction.within_band else "outside"
    if prediction.noise is None:
        verdict = "one seed tells no noise"
    else:
        what = "within" if prediction.within_noise else "a failure: not within"
        verdict = f"{what} the noise of seeds, {NOISES} × {prediction.noise:.4f}"
    return (
        f"{prediction.name}, withheld, was predicted at {_band(prediction.law)} and "
        f"measured at {prediction.measured:.4f}: {place} the band, off by "
        f"{prediction.error:+.4f}, {verdict}. The rival predicted "
        f"{prediction.rival:.4f}."
    )


def _band(estimate: Estimate, form: str = ".4f") -> str:
    value, low, high = (
        format(number, form) for number in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} [{low}, {high}]"


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
    name = Path(about["data"]).resolve().name
    lines = [f"# Scaling of {about['model']} on {name}, {about['split']} split", ""]
    lines += [
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
    for study in studies:
        lines += ["", f"## Law over {AXES[study.axis]}, {study.fixed}", ""]
        lines += [f"* {line}" for line in statements(study)]
    alone = "; with one seed, users alone" if about["seeds"] == 1 else ""
    words = ", ".join(f"`{word}`" for word in about["overrides"])
    changes = f" with {words}" if words else ""
    lines += ["", "## What to take", "", *_advice(points, budgets)]
    lines += [
        "",
        "## How to read this",
        "",
        f"* Every point is trained by the recipe {about['recipe']}{changes}.",
        "* A grade is width:blocks:history:heads. MFLOPs, latency: of one request with "
        f"{about['candidates']} candidates and a full history; latency is a median on "
        f"{len(os.sched_getaffinity(0))} cores. Samples: of the training, each counted "
        "once. AUC: mean over the seeds, ± their standard deviation.",
        f"* [low, high]: 95 % of {about['replicates']:,} bootstrap replicates, which "
        f"draw users, the same for all points, and each point's seeds{alone}.",
        "* The noise of seeds is the standard deviation of one training, pooled over "
        "the points.",
    ]  # fmt: skip
    return "\n".join([*lines, ""])


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
