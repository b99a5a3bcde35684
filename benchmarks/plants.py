"""Whether a model's part helps where there is what it is for.

    ctr-tf bench plants [--plants daily_rhythm …] [--seeds 2] [--output DIR] [--json]

For each plant of `ctr-tf synthesize --plant`: makes a small world with nothing else in
it, prepares it, and trains the same model on it with the part and without, under one
budget. Runs of `--output` that are finished are not done again.
"""

import argparse
import dataclasses
import json
import logging
import re
import statistics
import sys
from pathlib import Path

from ctr_tf.compare.variants import Variant
from ctr_tf.errors import UserError, check_positive_options
from ctr_tf.layers.temporal_relations import RELATIONS
from ctr_tf.recipes.find import find_recipe
from ctr_tf.synthetic.config import PLANTS

_log = logging.getLogger(__name__)

WORLD = {"users": 1_500, "items": 400, "candidates": 20, "behaviors_per_user": 120}
SPLIT = {"validation_days": 0.5, "test_days": 3.5}
BUDGET = ("data.batch_size=16", "training.checkpoint_every=100000")
# One block learns to match from few samples; four heads of eight see a category whole.
SPARSE_CTR = ("model.num_blocks=1", "model.num_heads=4", "training.epochs=2")
GAP = (
    "optimizer.table_learning_rate=3e-2",
    "optimizer.schedule=cosine",
    "optimizer.warmup_steps=100",
    "optimizer.global_clipnorm=1.0",
)


@dataclasses.dataclass(frozen=True)
class Trial:
    """A plant and the parts that are to help there.

    Args:
        plant: the only one of its world.
        model: that has the parts.
        on: its keys with all of them.
        off: name of a part → the model's keys without it.
        settings: of the training.
        condition: what sets it apart from another trial of the plant.
    """

    plant: str
    model: str
    on: dict
    off: dict[str, dict]
    settings: tuple[str, ...]
    condition: str = ""

    @property
    def variants(self) -> dict[str, Variant]:
        """The rows by name of the part that is missing; none is missing in `""`."""
        rows = {"": Variant(self.model, "on", self.on)}
        for part, keys in self.off.items():
            suffix = f"no_{part.lower().replace(' ', '_')}"
            rows[part] = Variant(self.model, suffix, keys)
        return rows


def _without(relation: str) -> dict:
    return {"relations": [name for name in RELATIONS if name != relation]}


def _gate(
    plant: str, part: str, gate: str, epochs: int, rate: float, narrow: bool = False
) -> Trial:
    on, off = {"gates": [gate]}, {part: {"gates": []}}
    budget = (f"training.epochs={epochs}", f"optimizer.learning_rate={rate}")
    settings, condition = (*GAP, *budget), ""
    if narrow:
        settings, condition = (*settings, "model.head_units=[16]"), "head of 16"
    return Trial(plant, "din_gap", on, off, settings, condition)


TRIALS = (
    _gate("sink_noise", "output gate", "qaog", 3, 4e-3),
    # A narrow tower has less room to do the gate's work.
    _gate("sink_noise", "output gate", "qaog", 3, 4e-3, narrow=True),
    _gate("realtime_trigger", "GCQC", "gcqc", 5, 4e-3),
    _gate("view_by_context", "CGDF", "cgdf", 3, 1e-3),
    Trial(
        "time_gaps",
        "sparsectr",
        {},
        {"time relation": _without("time"), "TimeChunking": {"chunking": "fixed"}},
        SPARSE_CTR,
    ),
    Trial(
        "daily_rhythm",
        "sparsectr",
        {},
        {"hour relation": _without("hour")},
        SPARSE_CTR,
    ),
    Trial(
        "weekly_rhythm",
        "sparsectr",
        {},
        {"weekend relation": _without("weekend")},
        SPARSE_CTR,
    ),
    # Both have the day as a feature, too, which says as much where it can be learned.
    Trial(
        "weekly_rhythm",
        "sparsectr",
        {},
        {"weekend relation": _without("weekend")},
        (*SPARSE_CTR, "training.row_dropout.context=0.95"),
        "context dropped",
    ),
)


def make_world(plant: str, folder: Path) -> None:
    """Makes and prepares the world of a plant, unless it is there."""
    from ctr_tf.commands.main import resolve

    raw, data = folder / "raw", folder / "data"
    if not data.exists():
        sizes = [f"--{name}={value}" for name, value in WORLD.items()]
        split = [f"--{name}={value}" for name, value in SPLIT.items()]
        logs = ["--plant", plant, "--output", str(raw), "--overwrite"]
        paths = ["--source", "synthetic", "--input", str(raw), "--output", str(data)]
        for words in (["synthesize", *logs, *sizes], ["prepare", *paths, *split]):
            module, rest = resolve(words)
            if module.main(rest):
                raise UserError(f"`ctr-tf {words[0]}` failed in '{folder}'.")


def run(job) -> dict:
    """Trains and evaluates unless that is done; what evaluation found."""
    import keras

    from ctr_tf import config as configs
    from ctr_tf.evaluation.evaluate import evaluate_run, output_folder
    from ctr_tf.training.config import Config
    from ctr_tf.training.train import train

    metrics = output_folder(job.run, "test") / "metrics.json"
    if not metrics.is_file():
        keras.backend.clear_session()
        train(configs.parse(Config, job.recipe))
        evaluate_run(job.run)
    return json.loads(metrics.read_text("utf-8"))


def measure(trial: Trial, seeds: int, output: Path) -> list[dict]:
    """Results of a trial, one a part."""
    make_world(trial.plant, output / trial.plant)
    found: dict[str, list[float]] = {}
    for job in trial_jobs(trial, seeds, output):
        quality = run(job)
        found.setdefault(job.variant.name, []).append(quality["auc"])
        _log.info("%s, %s: AUC %.4f", trial.plant, job.name, quality["auc"])
    rows = {part: found[variant.name] for part, variant in trial.variants.items()}
    return [
        {
            "plant": trial.plant,
            "condition": trial.condition,
            "model": trial.model,
            "part": part,
            "reachable": quality["reachable"]["auc"],
            "with": rows[""],
            "without": rows[part],
        }
        for part in trial.off
    ]


def trial_jobs(trial: Trial, seeds: int, output: Path) -> list:
    """Runs of a trial."""
    from ctr_tf.compare.jobs import make_jobs

    folder = output / trial.plant
    data = str(folder / "data")
    if trial.condition:
        folder = folder / trial.condition.replace(" ", "_")
    return make_jobs(
        list(trial.variants.values()),
        seeds,
        folder,
        find_recipe(f"{trial.model}_synthetic"),
        data,
        (*BUDGET, *trial.settings),
    )


def _table(report: dict) -> str:
    lines = [
        "| plant | part | AUC with | without | gain | of reachable | by seed |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in report["results"]:
        means = [statistics.fmean(entry[key]) for key in ("with", "without")]
        gains = [a - b for a, b in zip(entry["with"], entry["without"], strict=True)]
        reachable = entry["reachable"] - 0.5
        shares = [f"{(mean - 0.5) / reachable:.1%}" for mean in means]
        cells = [
            entry["plant"],
            ", ".join(filter(None, (entry["part"], entry["condition"]))),
            *(f"{mean:.4f}" for mean in means),
            f"{means[0] - means[1]:+.4f}",
            " against ".join(shares).replace("%", " %"),
            ", ".join(f"{gain:+.4f}" for gain in gains),
        ]
        line = f"| {' | '.join(cells)} |"
        lines.append(re.sub(r"(?<!\d)0\.", ".", line))
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """`ctr-tf bench plants`."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf bench plants", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--plants", nargs="+", choices=PLANTS, default=[*PLANTS])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--output", default="runs/bench-plants")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args(argv)
    check_positive_options(arguments, "seeds")
    results = []
    for trial in TRIALS:
        if trial.plant in arguments.plants:
            results += measure(trial, arguments.seeds, Path(arguments.output))
    report = {"bench": "plants", "seeds": arguments.seeds, "results": results}
    print(json.dumps(report) if arguments.json else _table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
