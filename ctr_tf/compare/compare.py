"""Many models under one budget, in one table and one plot.

The command is `ctr_tf.commands.compare`, which tells how.
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
from ctr_tf.errors import UserError, unknown_name
from ctr_tf.recipes.find import find_recipe, recipe_of_data
from ctr_tf.storage import as_local, as_path

_log = logging.getLogger(__name__)


def compare(arguments: argparse.Namespace) -> int:
    """Compares models.

    Args:
        arguments: of the command.

    Returns:
        The exit status, which is 1 if a run failed.
    """
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
