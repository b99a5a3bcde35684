"""`ctr-tf compare`: many models under one budget, in one table and one plot.

    ctr-tf compare --data DATA --models din,sparsectr --seeds 3 [key=value …]

Every model is trained by one recipe's sections `data`, `objective`, `optimizer` and
`training`; its own section `model` is that of its recipe beside it. `key=value` sets a
key for all, `name:key=value` for one model. Each run is a process of its own. The same
command goes on where it was interrupted, and more models or seeds add to what is there.

With `--tune N` each model first gets N trials of its own, as of `ctr-tf tune`, under
the ranges of the recipe's section `tune`: validation decides, and the model's runs, and
those of its variants, take the best values. A key that is set is left as it is set.
"""

import argparse
import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path

from ctr_tf.compare.jobs import Job, check_data, make_jobs, read_finished, run_jobs
from ctr_tf.compare.plot import plot_quality_against_cost
from ctr_tf.compare.recipes import Recipes
from ctr_tf.compare.results import make_rows
from ctr_tf.compare.table import markdown, write_table
from ctr_tf.compare.tuned import Tuned, make_studies, tune_models
from ctr_tf.compare.variants import Variant, variants
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError, check_positive_options, unknown_name
from ctr_tf.recipes.find import find_recipe, recipe_of_data
from ctr_tf.storage import as_local, as_path

_log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Compares models; the exit status is 1 if a run failed."""
    arguments = parse(argv)
    check_positive_options(arguments, "seeds", "candidates")
    if arguments.tune is not None:
        check_positive_options(arguments, "tune")
    data = PreparedData.load(arguments.data)
    rows = chosen(arguments)
    base = arguments.base or rows[0].name
    if base not in (names := [row.name for row in rows]):
        raise UserError(unknown_name("base", base, names))
    name = as_path(arguments.data).resolve().name
    output = as_local(arguments.output or f"runs/compare-{name}", "`--output`")
    budget = find_recipe(arguments.config or recipe_of_data(data.schema.name))
    options = (rows, arguments.seeds, output, budget, arguments.data)
    jobs = make_jobs(*options, arguments.overrides)
    _log.info("%d runs in %s, by %s", len(jobs), output, budget)
    studies = {}
    if arguments.tune is not None:
        recipes = Recipes(budget, arguments.data, arguments.overrides, rows)
        studies = make_studies(rows, recipes, output)
    check_data(output, data)
    tuned = tune_models(studies, arguments.tune, jobs) if studies else {}
    about = _about(arguments, base, jobs, tuned)
    chosen_values = {name: found.chosen for name, found in tuned.items()}
    jobs = make_jobs(*options, arguments.overrides, chosen_values)
    failed = run_jobs(jobs, arguments.split, arguments.candidates)
    print(_report(jobs, rows, about, output))
    print(f"table, plot: {output}")
    for job in failed:
        print(f"failed: {job.name}, see {job.log}")
    return 1 if failed else 0


def chosen(arguments: argparse.Namespace) -> list[Variant]:
    """The rows that a command line asks for."""
    return variants(
        arguments.models.split(","), arguments.ablations, arguments.alternatives
    )


def _about(
    arguments: argparse.Namespace,
    base: str,
    jobs: list[Job],
    tuned: Mapping[str, Tuned],
) -> dict:
    """What the table says of itself; its runs are not tuned here."""
    words = arguments.overrides
    exceptions = [word for word in words if ":" in word.partition("=")[0]]
    addressed = {word.partition(":")[0] for word in exceptions}
    shared = [
        job for job in jobs if not {job.variant.name, job.variant.model} & addressed
    ]
    recipe = (shared or jobs)[0].recipe
    sections = ("data", "objective", "optimizer", "training")
    return {
        "data": arguments.data,
        "split": arguments.split,
        "base": base,
        "budget": {key: recipe[key] for key in sections},
        "exceptions": exceptions,
        "tuned": {name: dataclasses.asdict(found) for name, found in tuned.items()},
        "candidates": arguments.candidates,
    }


def _report(jobs: list[Job], rows: list[Variant], about: dict, output: Path) -> str:
    finished: dict[str, list[dict]] = {}
    for job in jobs:
        result = read_finished(job.run, about["split"], about["candidates"])
        if result is not None:
            finished.setdefault(job.variant.name, []).append(result)
    if not finished:
        raise UserError(f"No run came to its end; see '{jobs[0].log.parent}'.")
    any_run = next(iter(finished.values()))[0]
    about = {**about, "behaviors": any_run["cost"]["behaviors"]}
    table = make_rows(rows, finished, about["base"])
    write_table(table, about, output)
    plot_quality_against_cost(table, about["base"], output / "quality_cost.png")
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
    add("--tune", type=int, metavar="N", help="trials of each model before; none")
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
