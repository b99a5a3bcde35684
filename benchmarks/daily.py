"""What going on from yesterday's run brings, day by day, beside beginning anew.

    ctr-tf bench daily --source synthetic --input RAW --first 2024-01-15 --days 4 \
        --config sparsectr_synthetic --output DIR [--seeds 1] [key=value …]

For each day and seed `ctr-tf day` predicts by the run of the day before (`warm`) and
goes on from it. Beside it two runs begin from nothing after each day: one of that day's
samples (`cold, the day`), one of all samples from the first day on (`cold, all days`),
shuffled, by the same recipe; both are measured on the day after, as `warm` is. Runs of
`--output` that are finished are not done again.
"""

import argparse
import datetime
import json
import statistics
from pathlib import Path

import keras

from ctr_tf.commands import day as daily
from ctr_tf.daily.day import TRAINING
from ctr_tf.errors import check_positive_options
from ctr_tf.recipes.find import find_recipe
from ctr_tf.recipes.read import load_recipe
from ctr_tf.storage import files

ARMS = ("warm", "cold, the day", "cold, all days")
_MEASURED = ("auc", "gauc_user", "log_loss")


def _cold(
    data: Path, run: Path, next_data: Path, options: argparse.Namespace, seed: int
) -> dict:
    from ctr_tf.evaluation.evaluate import evaluate_run
    from ctr_tf.training.run import METRICS
    from ctr_tf.training.train import train

    found = run / "predicted" / "metrics.json"
    if not found.is_file():
        keras.backend.clear_session()
        words = [*TRAINING, *options.overrides, f"training.seed={seed}"]
        words += [f"data.path={data}", f"run={run}"]
        if not (run / METRICS).is_file():
            train(load_recipe(find_recipe(options.config), words))
        output = run / "predicted"
        evaluate_run(run, "train", output=output, withheld=False, data=next_data)
    return files.read_json(found)


def _warm(root: Path, day: str, options: argparse.Namespace, seed: int) -> None:
    keras.backend.clear_session()
    own = ["--config", options.config, "--source", options.source]
    own += ["--input", options.input, "--root", str(root), "--day", day]
    daily.main([*own, *options.overrides, f"training.seed={seed}"])


def _all_days(
    first: str, day: str, data: Path, output: Path, options: argparse.Namespace
) -> Path:
    from pipelines import listwise

    if not output.exists():
        stop = str(datetime.date.fromisoformat(day) + datetime.timedelta(days=1))
        listwise.run(
            [
                *("--source", options.source, "--input", options.input),
                *("--output", str(output), "--vocabularies", str(data)),
                *("--samples_from", first, "--samples_until", stop),
                *("--validation_from", stop, "--test_from", stop),
            ]
        )
    return output


def measure(options: argparse.Namespace) -> dict[str, dict[str, list[dict]]]:
    """Day → arm → metrics of each seed."""
    first = datetime.date.fromisoformat(options.first)
    days = [str(first + datetime.timedelta(days=n)) for n in range(options.days)]
    result: dict = {day: {arm: [] for arm in ARMS} for day in days[1:]}
    for seed in range(options.seeds):
        folder = Path(options.output) / f"seed-{seed}"
        root = folder / "root"
        for place, day in enumerate(days):
            _warm(root, day, options, seed)
            if not place:
                continue
            before, data = days[place - 1], root / day / "data"
            row = result[day]
            row["warm"].append(files.read_json(root / day / "predicted/metrics.json"))
            of_day = root / before / "data"
            run = folder / "day" / before
            row["cold, the day"].append(_cold(of_day, run, data, options, seed))
            if place > 1:
                output = folder / "all-data" / before
                of_all = _all_days(days[0], before, of_day, output, options)
                run = folder / "all" / before
                row["cold, all days"].append(_cold(of_all, run, data, options, seed))
            else:
                row["cold, all days"].append(row["cold, the day"][-1])
            print("\n".join(table(result)), flush=True)
    return result


def table(result: dict) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| day | " + " | ".join(ARMS) + " |", "|---" * (len(ARMS) + 1) + "|"]
    for day, arms in result.items():
        cells = []
        for arm in ARMS:
            if not arms[arm]:
                cells.append("")
                continue
            means = [statistics.mean(m[name] for m in arms[arm]) for name in _MEASURED]
            cells.append(" / ".join(f"{mean:.4f}" for mean in means))
        lines.append(f"| {day} | " + " | ".join(cells) + " |")
    return lines


def main(argv: list[str]) -> int:
    """Runs the bench."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf bench daily",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--first", required=True, help="day that warm runs begin with")
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_args(argv)
    check_positive_options(options, "days", "seeds")
    result = measure(options)
    if options.json:
        kept = {
            day: {
                arm: [{name: one[name] for name in _MEASURED} for one in found]
                for arm, found in arms.items()
            }
            for day, arms in result.items()
        }
        print(json.dumps(kept))
    else:
        print("AUC / GAUC per user / log loss of the day", *table(result), sep="\n")
    return 0
