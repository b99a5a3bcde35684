"""A model in many sizes, the law of what it reaches, and advice.

The command is `ctr_tf.commands.scaling`, which tells how.
"""

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from ctr_tf.compare.jobs import Job, check_data, make_jobs, read_finished, run_jobs
from ctr_tf.compare.results import REPLICATES
from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.share import Share
from ctr_tf.errors import UserError, check_positive_options
from ctr_tf.recipes.find import find_recipe, recipe_of_data
from ctr_tf.recipes.read import load_recipe
from ctr_tf.scaling.grid import KEYS, Cell, check_grid, parse_grades, parse_shares
from ctr_tf.scaling.plot import plot_study
from ctr_tf.scaling.points import Point, make_points
from ctr_tf.scaling.report import write_report
from ctr_tf.scaling.study import Study, study
from ctr_tf.storage import as_local, as_path

_log = logging.getLogger(__name__)


def scaling(arguments: argparse.Namespace) -> int:
    """Does a study.

    Args:
        arguments: of the command.

    Returns:
        The exit status, which is 1 if a run failed.
    """
    data = PreparedData.load(arguments.data)
    cells = chosen(arguments, data.schema.history_length)
    budget = find_recipe(arguments.config or recipe_of_data(data.schema.name))
    model = arguments.model or load_recipe(budget).model.name
    name = as_path(arguments.data).resolve().name
    output = as_local(arguments.output or f"runs/scaling-{model}-{name}", "`--output`")
    jobs = make_jobs(
        [cell.variant(model) for cell in cells],
        arguments.seeds,
        output,
        budget,
        arguments.data,
        arguments.overrides,
    )
    _log.info("%d runs in %s, by %s", len(jobs), output, budget)
    check_data(output, data)
    failed = run_jobs(jobs, arguments.split, arguments.candidates)
    cell_of = {cell.variant(model).name: cell for cell in cells}
    for job in failed:
        print(f"failed: {job.name}, see {job.log}")
    points = _measured(jobs, cell_of, data, arguments)
    keys = ("data", "split", "seeds", "candidates", "overrides")
    about = {key: getattr(arguments, key) for key in keys}
    replicates = points[0].replicates.shape[1]
    about |= {"model": model, "recipe": budget.stem, "replicates": replicates}
    print(_report(points, arguments, about, output))
    print(f"report, plots: {output}")
    return 1 if failed else 0


def _measured(
    jobs: Sequence[Job],
    cell_of: Mapping[str, Cell],
    data: PreparedData,
    arguments: argparse.Namespace,
) -> list[Point]:
    finished: dict[str, list[dict]] = {}
    for job in jobs:
        result = read_finished(job.run, arguments.split, arguments.candidates)
        if result is not None:
            finished.setdefault(job.variant.name, []).append(result)
    if not finished:
        raise UserError(f"No run came to its end; see '{jobs[0].log.parent}'.")
    train = data.num_samples("train")
    shares = {cell.share for cell in cell_of.values()}
    samples = {share: int(Share(share).count(train)) for share in shares}
    return make_points(cell_of, finished, samples, REPLICATES)


def _report(
    points: Sequence[Point], arguments: argparse.Namespace, about: dict, output: Path
) -> str:
    studies = studies_of(points, arguments.hold_out, arguments.limit)
    for place, law in enumerate(studies, 1):
        plot_study(law, output / f"law-{place}-{law.axis}.png")
    budgets = {
        "flops": arguments.flops_budget,
        "latency_ms": arguments.latency_budget_ms,
    }
    return write_report(points, studies, budgets, about, output)


def chosen(arguments: argparse.Namespace, history: int) -> list[Cell]:
    """The grid that a command line asks for, all samples first.

    Args:
        arguments: of `parse`.
        history: behaviors that the data keep.

    Raises:
        UserError: if no law can be fitted to the grid, or an override is the grid's.
    """
    check_positive_options(arguments, "seeds", "candidates")
    if arguments.hold_out < 0:
        raise UserError(
            f"`--hold_out` must not be negative. Received: {arguments.hold_out}"
        )
    for word in arguments.overrides:
        key = word.partition("=")[0].rpartition(":")[2]
        if key in KEYS:
            raise UserError(
                f"`{key}` is set by the grid: by `--grades` and `--shares`. "
                f"Received: '{word}'"
            )
    grades, shares = parse_grades(arguments.grades), parse_shares(arguments.shares)
    check_grid(grades, shares, arguments.hold_out, history)
    in_parts = parse_grades(arguments.shares_of) if arguments.shares_of else grades
    if not set(in_parts) <= set(grades):
        raise UserError(
            f"`--shares_of` must name some of `--grades`, {arguments.grades}. "
            f"Received: {arguments.shares_of}"
        )
    return [
        Cell(grade, share)
        for share in sorted(shares, reverse=True)
        for grade in (grades if share == max(shares) else in_parts)
    ]


def studies_of(
    points: Sequence[Point], hold_out: int, limit: float | None = None
) -> list[Study]:
    """Laws over FLOPs, one a share, and over samples, one a grade; of several points.

    Args:
        points: measured.
        hold_out: the largest points that are withheld from each fit.
        limit: of AUC; where None that of the true probabilities, if they are known.

    Raises:
        UserError: if there are too few points on an axis that has several.
    """
    if limit is None:
        limit = points[0].limit
    shares = sorted({point.cell.share for point in points}, reverse=True)
    grades = list(dict.fromkeys(point.cell.grade for point in points))
    lines = [
        ("flops", f"{mine[0].samples:,} samples", mine)
        for share in shares
        if (mine := [point for point in points if point.cell.share == share])
    ]
    lines += [
        ("samples", f"grade {grade}", mine)
        for grade in grades
        if (mine := [point for point in points if point.cell.grade == grade])
    ]
    return [
        study(mine, axis, fixed, hold_out, limit)
        for axis, fixed, mine in lines
        if len(mine) > 1
    ]
