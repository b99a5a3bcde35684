"""Our DIN beside fuxictr's, an independent implementation, on the same samples.

    python3.11 -m venv FUXICTR
    FUXICTR/bin/pip install torch==2.13.0 fuxictr==2.3.10
    ctr-tf bench fuxictr --data DATA --python FUXICTR/bin/python [key=value …]

fuxictr needs PyTorch, so it lives in an environment of its own, which the two commands
make (a CPU build of torch suffices); `CTR_TF_FUXICTR_PYTHON` can name its interpreter
too. Its DIN reads the samples in the layout of `benchmarks/fuxictr_export.py`, by its
own loader, and trains in its own loop; see `benchmarks/fuxictr_peer.py`. Test scores
of both go through our metrics. Runs alternate, ours and theirs, seed by seed.

What is the same: samples and features; widths of rows, activation unit and tower; Dice;
Adam without decay at one constant rate for tables and network, and its clipping;
epochs; candidates in a batch, on average; weights are those of the best validation AUC
after an epoch; tables start at the same deviation, unless `--table_deviation default`
asks for fuxictr's own. The recipe's `model` (a DIN), `optimizer.learning_rate`,
`.global_clipnorm`, `training.epochs` and `data` count, nothing else of it.

What differs: fuxictr scores pairs, each with a copy of its history, in batches of
shuffled pairs, while ours scores slates. fuxictr gives a number a vector of its own
instead of a channel, its Dice's statistics count padding, and its Adam is dense: rows
that are not in a batch go on moving.
"""

import argparse
import dataclasses
import json
import logging
import math
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ctr_tf import config as configs
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError, check_positive_options
from ctr_tf.evaluation.bootstrap import (
    METRICS,
    compare_with,
    draw_users,
    replicate_metrics,
)
from ctr_tf.evaluation.scores import SCORES, load_scores
from ctr_tf.recipes.find import find_recipe
from ctr_tf.training.config import Config

PYTHON = "CTR_TF_FUXICTR_PYTHON"
OURS, THEIRS = "ctr-tf din", "fuxictr DIN"
QUALITY = (*METRICS, "log_loss")
REPLICATES = 1_000
_PEER = Path(__file__).with_name("fuxictr_peer.py")
_log = logging.getLogger(__name__)


def aligned(recipe: Config, run: Path, seed: int) -> Config:
    """The recipe without what fuxictr's DIN has no like of.

    Args:
        recipe: whose parts count that the module names.
        run: folder of the run.
        seed: of the run.
    """
    optimizer, training = recipe.optimizer, recipe.training
    return Config(
        run=str(run),
        data=recipe.data,
        model=dataclasses.replace(recipe.model, tasks=()),
        optimizer=type(optimizer)(
            learning_rate=optimizer.learning_rate,
            global_clipnorm=optimizer.global_clipnorm,
        ),
        training=type(training)(epochs=training.epochs, seed=seed),
    )


def peer_settings(config: Config, candidates: int, deviation: float | None) -> dict:
    """What `fuxictr_peer.py` is to do to train as a config does.

    Args:
        config: of `aligned`.
        candidates: in a batch.
        deviation: of new tables; fuxictr's own where None.
    """
    model = config.model
    return {
        "history_length": (config.data.history_lengths or (None,))[-1],
        "batch_size": candidates,
        "epochs": config.training.epochs,
        "seed": config.training.seed,
        "max_gradient_norm": config.optimizer.global_clipnorm or math.inf,
        "table_deviation": deviation,
        "model": {
            "embedding_dim": model.embedding_dim,
            "attention_hidden_units": list(model.activation_units),
            "dnn_hidden_units": list(model.head_units),
            "learning_rate": config.optimizer.learning_rate,
        },
    }


def run_ours(config: Config) -> dict:
    """Trains and evaluates our DIN; requests/s."""
    from ctr_tf.evaluation.evaluate import evaluate_run
    from ctr_tf.training.train import train

    trained = train(config)
    quality = evaluate_run(config.run, scores=True)
    return {
        **{key: quality[key] for key in QUALITY},
        "validation_auc": trained["validation"]["auc"],
        "requests_per_second": trained["examples_per_second"],
        **{key: trained[key] for key in ("steps", "seconds", "input_wait_share")},
    }


def run_theirs(
    python: str, settings: dict, data: PreparedData, config: Config, folder: Path
) -> dict:
    """Trains fuxictr's DIN in its own process; measures its scores by our metrics."""
    from ctr_tf.data.dataset import dataset
    from ctr_tf.evaluation.evaluate import evaluate_predictions
    from ctr_tf.evaluation.predictions import predictions
    from ctr_tf.evaluation.scores import saving_scores

    folder.mkdir(parents=True)
    path, log = folder / "settings.json", folder / "log.txt"
    path.write_text(json.dumps(settings, indent=1) + "\n", "utf-8")
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(
            [python, "-I", str(_PEER), str(path)], stdout=stream, stderr=stream
        )
    if done.returncode:
        last = log.read_text("utf-8").strip().split("\n")[-1]
        raise UserError(f"fuxictr's DIN failed, see '{log}'. Received: {last}")
    batches = dataset(
        data,
        "test",
        config.data,
        num_chunks=data.schema.num_chunks,
        training=False,
        metadata=True,
    )
    scored = predictions(batches, _replaying(np.load(folder / "scores.npy")))
    quality = evaluate_predictions(
        saving_scores(scored, folder / SCORES), folder / "evaluation", name=THEIRS
    )
    result = json.loads((folder / "result.json").read_text("utf-8"))
    return {**{key: quality[key] for key in QUALITY}, **result}


def _replaying(scores: np.ndarray) -> Callable[[dict], np.ndarray]:
    """Deals scores out to the batches that they were exported from."""
    rest = iter(scores)

    def score(inputs):
        mask = inputs["candidate_mask"].numpy()
        probabilities = np.zeros(mask.shape)
        probabilities[mask] = np.fromiter(rest, np.float64, mask.sum())
        return probabilities

    return score


def measure(
    recipe: Config, python: str, seeds: int, output: Path, deviation: float | None
) -> dict:
    """Exports the data and does all runs.

    Args:
        recipe: of a DIN.
        python: interpreter that has fuxictr.
        seeds: runs of each model.
        output: folder to write to; made.
        deviation: of fuxictr's new tables; its own where None.

    Returns:
        The JSON object that `--json` prints.
    """
    from benchmarks.fuxictr_export import Exporter

    data = PreparedData.load(recipe.data.path)
    exporter = Exporter(data, recipe.data, recipe.model.embedding_dim)
    layout = (output / "data").resolve()
    candidates = exporter.write(layout)
    slate = candidates["train"] / data.num_samples("train")
    _log.info("exported to %s; %.2f candidates a request", layout, slate)
    runs = {OURS: [], THEIRS: []}
    for seed in range(seeds):
        config = aligned(recipe, output / f"ours-{seed}", seed)
        ours = run_ours(config)
        ours["candidates_per_second"] = ours.pop("requests_per_second") * slate
        settings = peer_settings(
            config, max(round(slate * recipe.data.batch_size), 1), deviation
        )
        settings |= {"data": str(layout)}
        settings["history_length"] = (
            settings["history_length"] or data.schema.history_length
        )
        theirs = run_theirs(python, settings, data, config, output / f"theirs-{seed}")
        for name, result in ((OURS, ours), (THEIRS, theirs)):
            _log.info("seed %d, %s: %s", seed, name, result)
            runs[name].append(result)
    ratios = [
        ours["candidates_per_second"] / theirs["candidates_per_second"]
        for ours, theirs in zip(runs[OURS], runs[THEIRS], strict=True)
    ]
    return {
        "bench": "fuxictr",
        "batch_candidates": settings["batch_size"],
        "epochs": config.training.epochs,
        "learning_rate": config.optimizer.learning_rate,
        "table_deviation": deviation,
        "runs": runs,
        "differences": _differences(output, seeds),
        "speed_ratio": statistics.median(ratios),
        "speed_ratios": ratios,
    }


def _differences(output: Path, seeds: int) -> dict:
    """Ours minus theirs, by metric; see `ctr_tf.evaluation.bootstrap`."""
    replicates = {}
    for name, place in ((OURS, "ours-{}/evaluation/test"), (THEIRS, "theirs-{}")):
        scores = [
            load_scores(output / place.format(seed) / SCORES) for seed in range(seeds)
        ]
        users = len(np.unique(scores[0].user))
        draws = draw_users(users, REPLICATES)
        replicates[name] = [replicate_metrics(one, draws) for one in scores]
    return {
        metric: dataclasses.asdict(
            compare_with(
                THEIRS,
                {name: [r[metric] for r in runs] for name, runs in replicates.items()},
            )[OURS]
        )
        for metric in METRICS
    }


def table(report: dict) -> str:
    """The report for readers, in Markdown."""
    titles = ("AUC", "GAUC per user", "log loss", "candidates/s", "waits for input")
    lines = ["| | " + " | ".join(titles) + " |", "|---" + "|---:" * len(titles) + "|"]
    for name, runs in report["runs"].items():
        cells = [_mean_and_spread([run[key] for run in runs]) for key in QUALITY]
        for key, form in (
            ("candidates_per_second", "{:,.0f}"),
            ("input_wait_share", "{:.0%}"),
        ):
            cells.append(form.format(statistics.median(run[key] for run in runs)))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for metric, difference in report["differences"].items():
        lines.append(
            "{0}: ours - theirs {mean:+.4f}, 95 % interval {low:+.4f} … {high:+.4f}, "
            "p {p:.2f}".format(metric, **difference)
        )
    ratios = report["speed_ratios"]
    lines.append(
        f"speed: ours / theirs {report['speed_ratio']:.2f} "
        f"({min(ratios):.2f} … {max(ratios):.2f})"
    )
    return "\n".join(lines)


def _mean_and_spread(values: list[float]) -> str:
    text = f"{statistics.mean(values):.4f}"
    return text if len(values) == 1 else f"{text} ± {statistics.stdev(values):.4f}"


def main(argv: list[str]) -> int:
    """`ctr-tf bench fuxictr`."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf bench fuxictr",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", required=True, help="folder of `ctr-tf prepare`")
    add("--python", help=f"interpreter that has fuxictr; default: ${PYTHON}")
    add("--config", default="din_synthetic", help="recipe of a DIN")
    add("--seeds", type=int, default=3, help="runs of each; default: 3")
    add("--output", help="new folder; default: runs/fuxictr-<name of the data>")
    add(
        "--table_deviation", default="0.2",
        help="of fuxictr's new tables; default: 0.2 as ours; or 'default', fuxictr's",
    )  # fmt: skip
    add("--json", action="store_true", help="one JSON object")
    add("overrides", nargs="*", metavar="key=value", help="of the recipe")
    a = parser.parse_intermixed_args(argv)
    python = shutil.which(a.python or os.environ.get(PYTHON, ""))
    if python is None:
        raise UserError(
            "`--python` must be the interpreter of an environment with fuxictr; "
            "`ctr-tf bench fuxictr --help` tells how to make one. "
            f"Received: {a.python!r}"
        )
    overrides = [*a.overrides, f"data.path={json.dumps(a.data)}"]
    recipe = configs.load(Config, find_recipe(a.config), overrides)
    if recipe.model.name != "din":
        raise UserError(
            f"`--config` must be a recipe of a DIN. Received: {recipe.model.name!r}"
        )
    check_positive_options(a, "seeds")
    output = Path(a.output or f"runs/fuxictr-{Path(a.data).resolve().name}")
    if output.exists():
        raise UserError(f"`--output` must be a new folder. Received: {output}")
    deviation = None if a.table_deviation == "default" else float(a.table_deviation)
    report = measure(recipe, python, a.seeds, output, deviation)
    print(json.dumps(report) if a.json else table(report))
    return 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s")
    sys.exit(main(sys.argv[1:]))
