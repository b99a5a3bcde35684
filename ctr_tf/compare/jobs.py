"""The runs of a comparison: a recipe each, a process each, each done only once.

A folder of a comparison holds data.txt, recipes/<run>.yaml, runs/<run>/ (as `ctr-tf
train` and `ctr-tf evaluate` leave it, and cost.json), logs/<run>.txt. A run is finished
once it has been evaluated, and is then left as it is, unless its recipe or the data
have changed, which is refused.
"""

import contextlib
import dataclasses
import fcntl
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ctr_tf import config as configs
from ctr_tf.compare.recipes import Recipes, resolved
from ctr_tf.compare.variants import TFRS, Variant
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError
from ctr_tf.eta import Eta
from ctr_tf.evaluation.scores import SCORES
from ctr_tf.storage import files
from ctr_tf.training.run import METRICS, as_begun, fingerprint

COST = "cost.json"
_DATA = "data.txt"  # identifies the data
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Job:
    """One run.

    Args:
        variant: what is trained.
        seed: of the training.
        folder: of the comparison.
        recipe: everything that the run is made from, see `Config`.
    """

    variant: Variant
    seed: int
    folder: Path
    recipe: dict

    @property
    def name(self) -> str:
        """Of the run's folder."""
        return f"{self.variant.name}-seed-{self.seed}"

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.folder / "runs" / self.name

    @property
    def recipe_file(self) -> Path:
        """Where the recipe is written."""
        return self.folder / "recipes" / f"{self.name}.yaml"

    @property
    def log(self) -> Path:
        """What the process of the run says."""
        return self.folder / "logs" / f"{self.name}.txt"


def make_jobs(
    variants: Sequence[Variant],
    seeds: int,
    folder: Path,
    budget: Path,
    data: str,
    overrides: Sequence[str] = (),
    tuned: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Job]:
    """All runs: every variant with the first seed, then with the next one.

    Args:
        variants: the rows.
        seeds: how many.
        folder: of the comparison.
        budget: recipe whose other sections than `model` all share.
        data: folder of the prepared data set.
        overrides: `key=value` for all, `name:key=value` for a model or one variant.
        tuned: model → dotted key → value; see `Recipes.values`.

    Raises:
        UserError: names the key or the name that is wrong, and the value received.
    """
    recipes = Recipes(budget, data, overrides, variants)
    jobs = []
    for seed in range(seeds):
        for variant in variants:
            job = Job(variant, seed, folder, {})
            values = recipes.values(
                variant,
                {"run": str(job.run), "training.seed": seed},
                (tuned or {}).get(variant.model),
            )
            jobs.append(dataclasses.replace(job, recipe=resolved(variant, values)))
    return jobs


@dataclasses.dataclass(frozen=True)
class Work:
    """What is done with a recipe, in a process of its own.

    Args:
        command: run → the process.
        finished: run → whether nothing of it is left to do.
    """

    command: Callable[[Job], list[str]]
    finished: Callable[[Job], bool]


def evaluated(split: str, candidates: int) -> Work:
    """A run is trained, its cost measured, and it is evaluated.

    Args:
        split: to evaluate on.
        candidates: of the request whose cost is measured.
    """

    def command(job: Job) -> list[str]:
        peer = job.variant.model == TFRS
        words = ["ctr_tf", "bench", "tfrs"] if peer else ["ctr_tf.compare.run"]
        words = [sys.executable, "-m", *words, "--config", str(job.recipe_file)]
        return [*words, "--split", split, "--candidates", str(candidates)]

    return Work(
        command, lambda job: read_finished(job.run, split, candidates) is not None
    )


def run_jobs(jobs: Sequence[Job], split: str, candidates: int) -> list[Job]:
    """Does every run that is not finished, one after the other.

    A run that fails is told, its variant is not tried with further seeds, and the
    others go on.

    Args:
        jobs: of `make_jobs`.
        split: to evaluate on.
        candidates: of the request whose cost is measured.

    Returns:
        The runs that failed.

    Raises:
        UserError: if a run was begun with another recipe, or another process is at
            work on the folder.
    """
    for job in jobs:
        check_recipe(job)
    work = evaluated(split, candidates)
    failed: list[Job] = []
    eta = Eta(len(jobs), sum(map(work.finished, jobs)))

    def left() -> str:
        return eta.told(sum(map(work.finished, jobs)))

    with locked(jobs[0].folder) as lock:
        for place, job in enumerate(jobs, 1):
            again = job.variant in [other.variant for other in failed]
            if again and not work.finished(job):
                continue
            if not do_job(job, work, f"[{place}/{len(jobs)}] {job.name}", lock, left):
                failed.append(job)
    return failed


def do_job(
    job: Job, work: Work, where: str, lock: int, left: Callable[[], str] = str
) -> bool:
    """Does a run, unless it is finished; one that fails is told.

    Args:
        job: the run.
        work: that is done.
        where: what it is called in the log.
        lock: of `locked`, for its folder.
        left: says how long the other runs will take.

    Returns:
        Whether it did not fail.
    """
    if work.finished(job):
        _log.info("%s: finished before", where)
        return True
    _log.info("%s: log in %s", where, job.log)
    started = time.perf_counter()
    if _run(job, work.command(job), lock):
        _log.error("%s failed: %s", where, last_line(job.log))
        return False
    _log.info("%s took %.0f s%s", where, time.perf_counter() - started, left())
    return True


def read_finished(run: Path, split: str, candidates: int) -> dict | None:
    """What is known of a finished run; None if something is left to do.

    Args:
        run: folder of the run.
        split: evaluated on.
        candidates: of the request whose cost was measured.

    Returns:
        `training`, `cost`, `quality`: what the files hold; `scores`: the path of
        the file.
    """
    evaluation = run / "evaluation" / split
    paths = (run / METRICS, run / COST, evaluation / METRICS)
    if not all(path.is_file() for path in (*paths, evaluation / SCORES)):
        return None
    training, cost, quality = (json.loads(path.read_text("utf-8")) for path in paths)
    if cost["candidates"] != candidates:
        return None
    return {
        "training": training,
        "cost": cost,
        "quality": quality,
        "scores": evaluation / SCORES,
    }


def check_data(folder: Path, data: PreparedData) -> None:
    """Keeps a folder of runs to the data that they were begun with.

    Args:
        folder: of the runs.
        data: that it shall go on with.

    Raises:
        UserError: if it was begun with others.
    """
    path, mark = folder / _DATA, fingerprint(data)
    begun = (folder / "recipes").is_dir()
    found = path.read_text("utf-8").strip() if path.is_file() else None
    if found != mark and (begun or found):
        raise UserError(
            f"What is in '{folder}' was begun with other data than "
            f"'{data.folder}' holds now. Choose another `--output`, or remove it. The "
            f"data are {mark}. Received: {found}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(path, mark + "\n")


def check_recipe(job: Job) -> None:
    """Raises UserError if a run was begun with another recipe."""
    if not job.recipe_file.is_file():
        return
    begun = yaml.safe_load(files.read_text(job.recipe_file))
    if job.variant.model == TFRS:
        begun["model"] = {}
    one, other = resolved(job.variant, as_begun(begun)), dict(job.recipe)
    for recipe in (one, other):
        del recipe["run"]  # a comparison may be moved
    changed = configs.differences(one, other)
    if changed:
        raise UserError(
            f"Run '{job.run}' was begun with another recipe. Choose another "
            f"`--output`, or remove it and '{job.recipe_file}'. The two differ in "
            f"{', '.join(changed)}."
        )


def _run(job: Job, command: list[str], lock: int) -> int:
    for path in (job.recipe_file, job.log, job.run):
        path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(job.recipe_file, yaml.safe_dump(job.recipe, sort_keys=False))
    with job.log.open("a", encoding="utf-8") as log:
        return subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, pass_fds=[lock]
        ).returncode


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """A lock of this process and its runs: one that is killed may leave a run behind.

    Raises:
        UserError: if another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"Another process is at work in '{folder}'.") from error
        yield file.fileno()


def last_line(path: Path) -> str:
    """The last that a log says."""
    lines = path.read_text("utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")
