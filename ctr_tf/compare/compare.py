"""`ctr-tf compare`: many models under one budget, in one table and one plot.

    ctr-tf compare --data DATA --models din,sparsectr --seeds 3 [key=value …]

Every model is trained by one recipe's sections `data`, `objective`, `optimizer` and
`training`; its own section `model` is that of its recipe beside it. `key=value` sets a
key for all, `name:key=value` for one model. Each run is a process of its own. The same
command goes on where it was interrupted, and more models or seeds add to what is there.
"""

import argparse
import logging
from pathlib import Path

from ctr_tf.compare.jobs import Job, check_data, make_jobs, read_finished, run_jobs
from ctr_tf.compare.plot import plot_quality_against_cost
from ctr_tf.compare.results import make_rows
from ctr_tf.compare.table import markdown, write_table
from ctr_tf.compare.variants import Variant, variants
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError, check_positive_options, unknown_name
from ctr_tf.recipes.find import find_recipe, recipe_of_data

_log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Compares models; the exit status is 1 if a run failed."""
    arguments = parse(argv)
    check_positive_options(arguments, "seeds", "candidates")
    data = PreparedData.load(arguments.data)
    rows = chosen(arguments)
    base = arguments.base or rows[0].name
    if base not in (names := [row.name for row in rows]):
        raise UserError(unknown_name("base", base, names))
    output = Path(
        arguments.output or f"runs/compare-{Path(arguments.data).resolve().name}"
    )
    budget = find_recipe(arguments.config or recipe_of_data(data.schema.name))
    jobs = make_jobs(
        rows, arguments.seeds, output, budget, arguments.data, arguments.overrides
    )
    _log.info("%d runs in %s, by %s", len(jobs), output, budget)
    check_data(output, data)
    failed = run_jobs(jobs, arguments.split, arguments.candidates)
    options = (arguments.split, arguments.candidates, output, arguments.overrides)
    print(_report(jobs, rows, base, *options))
    print(f"table, plot: {output}")
    for job in failed:
        print(f"failed: {job.name}, see {job.log}")
    return 1 if failed else 0


def chosen(arguments: argparse.Namespace) -> list[Variant]:
    """The rows that a command line asks for."""
    return variants(
        arguments.models.split(","), arguments.ablations, arguments.alternatives
    )


def _report(
    jobs: list[Job],
    rows: list[Variant],
    base: str,
    split: str,
    candidates: int,
    output: Path,
    overrides: list[str],
) -> str:
    finished: dict[str, list[dict]] = {}
    for job in jobs:
        result = read_finished(job.run, split, candidates)
        if result is not None:
            finished.setdefault(job.variant.name, []).append(result)
    if not finished:
        raise UserError(f"No run came to its end; see '{jobs[0].log.parent}'.")
    exceptions = [w for w in overrides if ":" in w.partition("=")[0]]
    addressed = {word.partition(":")[0] for word in exceptions}
    shared = [
        job for job in jobs if not {job.variant.name, job.variant.model} & addressed
    ]
    recipe = (shared or jobs)[0].recipe
    any_run = next(iter(finished.values()))[0]
    about = {
        "data": recipe["data"]["path"],
        "split": split,
        "base": base,
        "budget": {
            key: recipe[key] for key in ("data", "objective", "optimizer", "training")
        },
        "exceptions": exceptions,
        "behaviors": any_run["cost"]["behaviors"],
        "candidates": candidates,
    }
    table = make_rows(rows, finished, base)
    write_table(table, about, output)
    plot_quality_against_cost(table, base, output / "quality_cost.png")
    return markdown(table, about)


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line's options; overrides may stand anywhere among them."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", required=True, help="folder of `ctr-tf prepare`")
    add("--models", default="sparsectr", help="names, with commas between; also tfrs")
    add("--base", help="what others are compared with; default: the first model")
    add("--seeds", type=int, default=3, help="runs of each; default: 3")
    add("--config", help="recipe: the budget; default: SparseCTR's for the data")
    add("--output", help="default: runs/compare-<name of the data>")
    add("--split", default="test", help="to evaluate on; default: test")
    add("--candidates", type=int, default=100, help="of the request that cost is of")
    add("--ablations", action="store_true", help="and the models without their parts")
    add(
        "--alternatives", action="store_true",
        help="and the models with other parts, where they have a choice",
    )  # fmt: skip
    add("overrides", nargs="*", metavar="key=value", help="or name:key=value")
    return parser.parse_intermixed_args(argv)
