"""`ctr-tf demo`: the whole way in one command, each stage by its own verb.

Raw logs → Beam → listwise TFRecords → SparseCTR trained → evaluated → exported → one
JSON request with 50 candidates scored by the reloaded SavedModel.
"""

import json
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ctr_tf.commands.arguments import Parser
from ctr_tf.commands.main import resolve
from ctr_tf.errors import UserError
from ctr_tf.recipes.find import find_recipe, recipe_of_data
from ctr_tf.storage import as_local, as_path

_log = logging.getLogger(__name__)


def _verb(name: str, *arguments: object) -> None:
    words = [str(argument) for argument in arguments]
    _log.info("")
    _log.info("=== ctr-tf %s %s", name, " ".join(words))
    started = time.perf_counter()
    module, rest = resolve([name, *words])
    status = module.main(rest)
    if status:
        raise UserError(f"The stage `ctr-tf {name}` failed with status {status}.")
    _log.info("=== %s took %.0f s", name, time.perf_counter() - started)


def _score_in_a_new_process(model: Path, request: Path) -> None:
    """Scores with nothing but the SavedModel: the model's code is never imported."""
    command = [sys.executable, "-m", "ctr_tf", "score", "--export", str(model)]
    _log.info("")
    _log.info("=== ctr-tf score --export %s --request %s", model, request)
    subprocess.run([*command, "--request", str(request)], check=True)


def _summary(metrics: dict, rows: Sequence[tuple[str, Path]]) -> str:
    lines = ["", f"{'AUC':<22}{metrics['auc']:.4f}"]
    withheld = metrics["withheld"]["auc"]
    lines.append(f"{'AUC, history withheld':<22}{withheld:.4f}")
    lines.append(f"{'GAUC, per user':<22}{metrics['gauc_user']:.4f}")
    lines.append(f"{'log loss':<22}{metrics['log_loss']:.4f}")
    if reachable := metrics.get("reachable"):
        lines.append(f"{'reachable AUC':<22}{reachable['auc']:.4f}")
        lines.append(f"{'share of it reached':<22}{reachable['share']['auc']:.1%}")
    lines += [f"{name:<22}{path}" for name, path in rows]
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Runs every stage on one source."""
    parser = Parser("demo", __doc__)
    parser.add_argument("--source", default="synthetic", help="a source of `prepare`")
    parser.add_argument("--input", help="folder of raw logs; not for synthetic ones")
    parser.add_argument("--config", help="recipe; default: SparseCTR's of the source")
    parser.add_argument("--output", help="folder; default: runs/demo-<source>")
    arguments = parser.parse_args(argv)
    if (arguments.source == "synthetic") == bool(arguments.input):
        raise UserError(
            "Give `--input` (INPUT=… with make) for a source of real logs, none for "
            f"'synthetic'. Received: source='{arguments.source}', "
            f"input={arguments.input!r}"
        )
    recipe = arguments.config or recipe_of_data(arguments.source)
    find_recipe(recipe)  # an unknown name fails here, not after `prepare`
    place = arguments.output or f"runs/demo-{arguments.source}"
    folder = as_local(place, "`--output`")
    raw, data, run = folder / "raw", folder / "data", folder / "run"
    for old in (raw, data, run):
        shutil.rmtree(old, ignore_errors=True)
    started = time.perf_counter()
    if arguments.source == "synthetic":
        _verb("synthesize", "--output", raw)
    else:
        raw = as_path(arguments.input)
    _verb("prepare", "--source", arguments.source, "--input", raw, "--output", data)
    _verb("inspect", "--data", data, "--split", "test")
    _verb("train", "--config", recipe, "--data", data, "--run", run)
    _verb("evaluate", "--run", run)
    _verb("export", "--run", run)
    model = max((run / "export").iterdir(), key=lambda path: int(path.name))
    _score_in_a_new_process(model, model / "assets.extra" / "example_request.json")
    evaluation = run / "evaluation" / "test"
    metrics = json.loads((evaluation / "metrics.json").read_text("utf-8"))
    print(
        _summary(
            metrics,
            [
                ("samples", data),
                ("checkpoints, logs", run),
                ("report", evaluation / "report.html"),
                ("SavedModel", model),
            ],
        )
    )
    print(f"{'took':<22}{time.perf_counter() - started:.0f} s")
    return 0
