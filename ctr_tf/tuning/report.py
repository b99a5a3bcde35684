"""The report of a study: for readers (Markdown), for programs (JSON), as a recipe."""

import dataclasses
import json
from collections.abc import Mapping

import yaml

from ctr_tf.compare.variants import TFRS
from ctr_tf.storage import files
from ctr_tf.tuning.plot import plot_study
from ctr_tf.tuning.sampler import FEWEST, importances
from ctr_tf.tuning.space import shown
from ctr_tf.tuning.study import Result, Study, best_of

BEST = "best.yaml"


def write_report(study: Study, results: list[Result]) -> str:
    """Writes `trials.md`, `trials.json`, `tuning.png` and `best.yaml` to its folder.

    Args:
        study: which it was.
        results: of `Study.run`.

    Returns:
        The text of `trials.md`.
    """
    shares = importances(study.space, results)
    text = markdown(study, results, shares)
    files.write_text(study.folder / "trials.md", text)
    best = best_of(results)
    values = {
        **{"model": study.variant.model, "monitor": study.monitor},
        **{"ranges": study.ranges(), "importances": shares},
        "best": best.number if best else None,
        "trials": [dataclasses.asdict(result) for result in results],
    }
    path = study.folder / "trials.json"
    files.write_text(path, json.dumps(values, indent=1) + "\n")
    plot_study(study.space, results, shares, study.monitor, study.folder / "tuning.png")
    if best is not None and study.variant.model != TFRS:
        _write_best(study, best, len(results))
    return text


def _write_best(study: Study, best: Result, trials: int) -> None:
    """A recipe whose run is a new one, beside the trials."""
    path = study.folder / BEST
    values = best.values if best.number > 1 else {}
    recipe = study.recipe({**values, "run": str(study.folder / "best")})
    recipe["tune"] = study.ranges()
    head = [
        f"# The best of {trials} trials of `ctr-tf tune`: trial {best.number}, "
        f"{study.monitor} {best.value:.4f} on validation.",
        "#",
        f"# command:  ctr-tf train --config {path}",
    ]
    text = yaml.safe_dump(recipe, sort_keys=False, width=88)
    files.write_text(path, "\n".join([*head, text]))


def markdown(study: Study, results: list[Result], shares: Mapping[str, float]) -> str:
    """The table of the trials, the best one bold, and how to read it."""
    keys, best = list(study.space), best_of(results)
    lines = [
        f"# Tuning of {study.variant.model} by validation, {len(results)} trials",
        "",
        "| " + " | ".join(["trial", study.monitor, "seconds", *keys]) + " |",
        "|---" * (3 + len(keys)) + "|",
    ]
    for result in results:
        cells = [str(result.number)]
        if result.value is None:
            cells = [f"{result.number} (failed)", "–", "–"]
        else:
            cells += [f"{result.value:.4f}", f"{result.seconds:.0f}"]
        cells += [shown(result.values[key]) for key in keys]
        if result is best:
            cells = [f"**{cell}**" for cell in cells]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *_notes(results, best, shares), ""])


def _notes(
    results: list[Result], best: Result | None, shares: Mapping[str, float]
) -> list[str]:
    notes = ["* Trial 1 is the recipe as it is."]
    if best is not None:
        notes.append(
            f"* The best is trial {best.number}. As the largest of many it promises "
            "more than it will keep: what it is worth, other data must tell."
        )
    if shares:
        words = ", ".join(f"`{key}` {share:.0%}" for key, share in shares.items())
        notes.append(
            "* What mattered, as shares of the variance over the ranges (fANOVA): "
            f"{words.replace('%', ' %')}."
        )
    else:
        notes.append(
            f"* What mattered cannot be told: it takes {FEWEST} trials within the "
            "ranges that reached different values."
        )
    notes += [
        f"* Trial {result.number} failed: {result.error}"
        for result in results
        if result.value is None
    ]
    return notes
