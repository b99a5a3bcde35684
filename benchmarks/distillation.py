"""What a student gains from a teacher, and how much there was to gain.

    ctr-tf bench distillation --data DATA [--seeds 3] [--arms online …] [--output DIR]

A small SparseCTR that sees 16 behaviors is trained for one epoch, as the industry does:
alone, and taught by a large one that sees 128, online, from the first step or after a
warm-up, or by the large one when it is finished, after two epochs. The ceiling is what
the student reaches where the labels are the true probabilities, which the synthetic
world knows. Runs of `--output` that are finished are not done again.
"""

import argparse
import dataclasses
import json
import logging
import re
import statistics
import sys
from pathlib import Path

import numpy as np

from ctr_tf import config as configs
from ctr_tf.compare.jobs import Job, check_data, make_jobs
from ctr_tf.compare.variants import Variant
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError, check_positive_options
from ctr_tf.evaluation.bootstrap import draw_users, replicate_metrics
from ctr_tf.evaluation.scores import SCORES, load_scores
from ctr_tf.recipes.find import find_recipe

_log = logging.getLogger(__name__)
_REPLICATES = 1_000
_CANDIDATES = 10

RECIPE = "sparsectr_synthetic"
TEACHER, STUDENT = (128,), (16,)
SMALL = {"dim": 8, "num_heads": 2, "num_blocks": 1}
LARGE: dict = {}  # the recipe's own
ONLINE = {"teacher": {"name": "sparsectr"}, "history_lengths": list(TEACHER)}
FINISHED = {"teacher_run": "sparsectr-teacher"}
CEILING = "ceiling"
# Arm → the model's keys, its history, and its section `distillation`.
ARMS: dict[str, tuple[dict, tuple[int, ...], dict | None]] = {
    "teacher": (LARGE, TEACHER, None),
    "alone": (SMALL, STUDENT, None),
    "online_at_once": (SMALL, STUDENT, {**ONLINE, "warmup_share": 0.0}),
    "online": (SMALL, STUDENT, ONLINE),
    "finished": (SMALL, STUDENT, FINISHED),
    "finished_heavy": (SMALL, STUDENT, {**FINISHED, "weight": 10.0}),
    CEILING: (SMALL, STUDENT, None),
}
_WORDS = {
    "teacher": "the teacher",
    "alone": "alone",
    "online_at_once": "taught online from the first step",
    "online": "taught online after a warm-up",
    "finished": "taught by the finished teacher",
    "finished_heavy": "the same, ten times the weight",
    CEILING: "ceiling: labels are the true probabilities",
}


def make_arms(data: str, seeds: int, output: Path, overrides: list[str]) -> list[Job]:
    """A run for each arm and seed, the teachers' first."""
    variants = [Variant("sparsectr", arm, keys) for arm, (keys, *_) in ARMS.items()]
    jobs = []
    for job in make_jobs(variants, seeds, output, find_recipe(RECIPE), data):
        _, lengths, section = ARMS[job.variant.suffix]
        if section and "teacher_run" in section:
            run = f"{section['teacher_run']}-seed-{job.seed}"
            section = {**section, "teacher_run": str(job.run.with_name(run))}
        words = [
            f"data.history_lengths={list(lengths)}",
            f"distillation={json.dumps(section)}",
            f"training.epochs={2 if job.variant.suffix == 'teacher' else 1}",
            "training.checkpoint_every=100000",
            *overrides,
        ]
        jobs.append(
            dataclasses.replace(job, recipe=configs.override(job.recipe, words))
        )
    return jobs


def run(job: Job) -> Path:
    """Trains and evaluates, unless that is done; the folder of the evaluation.

    Raises:
        UserError: if it was done by another recipe.
    """
    import keras

    from ctr_tf.evaluation.evaluate import evaluate_run, output_folder
    from ctr_tf.training import train as training
    from ctr_tf.training.config import Config
    from ctr_tf.training.run import read_config

    found = output_folder(job.run, "test")
    if (found / SCORES).is_file():
        mappings = [
            configs.to_mapping(config)
            for config in (read_config(job.run), configs.parse(Config, job.recipe))
        ]
        if changed := configs.differences(*mappings):
            raise UserError(
                f"Run '{job.run}' was made by another recipe. Choose another "
                f"`--output`. The two differ in {', '.join(changed)}."
            )
    else:
        keras.backend.clear_session()
        read = training.dataset
        if job.variant.suffix == CEILING:
            training.dataset = _with_true_labels
        try:
            training.train(configs.parse(Config, job.recipe))
        finally:
            training.dataset = read
        evaluate_run(job.run, scores=True)
    return found


def _with_true_labels(data, **options):
    """As `dataset`; what is trained on has the true probabilities for labels."""
    from ctr_tf.data.dataset import dataset

    if not options["training"]:
        return dataset(data, **options)
    batches = dataset(data, **options, metadata=True)
    return batches.map(
        lambda inputs, labels, weights, known: (
            inputs,
            _where_real(known["true_probability"], weights)[..., None],
            weights,
        )
    )


def _where_real(values, weights):
    import tensorflow as tf

    return tf.where(weights > 0, values, 0.0)


def measure(jobs: list[Job]) -> dict:
    """AUC of each arm and seed, and the share of the way that each arm goes."""
    values: dict[str, list[np.ndarray]] = {}
    draws = None
    for place, job in enumerate(jobs, 1):
        scores = load_scores(run(job) / SCORES)
        if draws is None:
            draws = draw_users(len(np.unique(scores.user)), _REPLICATES)
        metrics = replicate_metrics(scores, draws)["auc"]
        values.setdefault(job.variant.suffix, []).append(metrics)
        _log.info("%d/%d  %s: AUC %.4f", place, len(jobs), job.name, metrics[0])
    return {
        "auc": {a: [float(v[0]) for v in seeds] for a, seeds in values.items()},
        "way": {arm: _way(values, arm) for arm in values},
    }


def _way(values: dict[str, list[np.ndarray]], arm: str) -> list[float] | None:
    """Share of the way from alone to the ceiling, with its 95 % interval.

    Each replicate draws users, and seeds, the same for all arms: an arm, its teacher
    and the student alone have a seed in common.
    """
    if not {"alone", CEILING} <= values.keys():
        return None
    random = np.random.default_rng(0)
    of = {name: np.stack(values[name]) for name in (arm, "alone", CEILING)}
    count, columns = of[arm].shape
    drawn = random.integers(count, size=(count, columns))
    drawn[:, 0] = np.arange(count)
    mean = {n: np.take_along_axis(v, drawn, 0).mean(0) for n, v in of.items()}
    share = (mean[arm] - mean["alone"]) / (mean[CEILING] - mean["alone"])
    return [float(share[0]), *np.quantile(share[1:], (0.025, 0.975)).tolist()]


def table(report: dict) -> str:
    """The arms, a line each, as Markdown."""
    lines = ["| student | test AUC | of the way | by seed |", "|---|---|---|---|"]
    for arm, values in report["auc"].items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        way = report["way"][arm]
        shown = "" if way is None else "{:.0%} ({:.0%} to {:.0%})".format(*way)
        if arm in ("teacher", "alone", CEILING):
            shown = ""
        cells = [
            _WORDS[arm],
            f"{statistics.fmean(values):.4f} ± {spread:.4f}",
            shown.replace("%", " %"),
            ", ".join(f"{value:.4f}" for value in values),
        ]
        lines.append(re.sub(r"(?<!\d)0\.", ".", f"| {' | '.join(cells)} |"))
    return "\n".join(lines)


def plot(report: dict, path: Path) -> None:
    """The arms' AUC, a point a seed, between alone and the ceiling."""
    from matplotlib.figure import Figure

    arms = [arm for arm in report["auc"] if arm != "teacher"]
    figure = Figure(figsize=(8, 0.6 * len(arms) + 1.2), layout="constrained")
    axes = figure.subplots()
    for arm, style in (("alone", ":"), (CEILING, "--")):
        if arm in report["auc"]:
            mean = statistics.fmean(report["auc"][arm])
            axes.axvline(mean, color="gray", linestyle=style, linewidth=1)
    for place, arm in enumerate(reversed(arms)):
        values = report["auc"][arm]
        axes.plot(values, [place] * len(values), "o", color="C0", alpha=0.5)
        axes.plot(statistics.fmean(values), place, "|", color="C0", markersize=22)
    axes.set_yticks(range(len(arms)), [_WORDS[arm] for arm in reversed(arms)])
    axes.set_xlabel("test AUC; a point is a seed, a line the mean")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=120)


def main(argv: list[str]) -> int:
    """`ctr-tf bench distillation`."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf bench distillation", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--data", required=True, help="prepared synthetic data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[*ARMS])
    parser.add_argument("--output", default="runs/bench-distillation")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_args(argv)
    check_positive_options(arguments, "seeds")
    if "finished" in " ".join(arguments.arms) and "teacher" not in arguments.arms:
        raise UserError(
            "A finished teacher needs the arm 'teacher'. "
            f"Received: --arms {' '.join(arguments.arms)}"
        )
    output = Path(arguments.output)
    check_data(output, PreparedData.load(arguments.data))
    jobs = make_arms(arguments.data, arguments.seeds, output, arguments.overrides)
    chosen = [job for job in jobs if job.variant.suffix in arguments.arms]
    report = {"bench": "distillation", **measure(chosen)}
    plot(report, output / "distillation.png")
    print(json.dumps(report) if arguments.json else table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
