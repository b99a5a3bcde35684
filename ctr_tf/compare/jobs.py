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
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from ctr_tf import config as configs
from ctr_tf import files
from ctr_tf.compare.variants import TFRS, Variant
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError, unknown_name
from ctr_tf.evaluation.scores import SCORES
from ctr_tf.recipes.read import load_recipe, read_recipe
from ctr_tf.training.config import Config
from ctr_tf.training.objective import ObjectiveConfig
from ctr_tf.training.run import METRICS, fingerprint

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
) -> list[Job]:
    """All runs: every variant with the first seed, then with the next one.

    Args:
        variants: the rows.
        seeds: how many.
        folder: of the comparison.
        budget: recipe whose other sections than `model` all share.
        data: folder of the prepared data set.
        overrides: `key=value` for all, `name:key=value` for a model or one variant.

    Raises:
        UserError: names the key or the name that is wrong, and the value received.
    """
    shared = _checked(budget)
    of_budget = load_recipe(budget).model.name
    names = {name for variant in variants for name in (variant.name, variant.model)}
    words = [_addressed(word, names) for word in overrides]
    jobs = []
    for seed in range(seeds):
        for variant in variants:
            section = _model_section(variant.model, budget, of_budget)
            mine = (None, variant.model, variant.name)
            job = Job(variant, seed, folder, {})
            values = configs.override(
                {**shared, "model": {**section, **variant.overrides}},
                [
                    *variant.settings,
                    *(word for name, word in words if name in mine),
                    f"run={json.dumps(str(job.run))}",
                    f"data.path={json.dumps(data)}",
                    f"training.seed={seed}",
                ],
            )
            jobs.append(dataclasses.replace(job, recipe=_resolved(variant, values)))
    return jobs


def _checked(recipe: Path) -> dict:
    load_recipe(recipe)  # says what is wrong with it
    return read_recipe(recipe)


def _model_section(model: str, budget: Path, of_budget: str) -> dict:
    """The model's section of its recipe beside the budget's; else its name alone.

    Beside `sparsectr_synthetic.yaml` din's recipe is `din_synthetic.yaml`, beside
    others `din.yaml`. Sections are taken as they are written: a resolved one could not
    be overridden any more by a key that sets others.
    """
    if model == TFRS:
        return {}
    for name in (budget.name.replace(of_budget, model, 1), f"{model}.yaml"):
        own = budget.with_name(name)
        if own.is_file() and load_recipe(own).model.name == model:
            return {**_checked(own).get("model", {}), "name": model}
    return {"name": model}


def _resolved(variant: Variant, values: dict) -> dict:
    if variant.model != TFRS:
        return configs.to_mapping(configs.parse(Config, values))
    if values.pop("model"):
        raise UserError(f"`{TFRS}` has no keys `model.…` that could be set.")
    recipe = configs.to_mapping(configs.parse(Config, values))
    if recipe["objective"] != configs.to_mapping(ObjectiveConfig()):
        raise UserError(
            f"`{TFRS}` is trained on the log loss alone: compare it without other "
            f"terms. Received: objective={recipe['objective']}"
        )
    if recipe["distillation"] is not None:
        raise UserError(
            f"`{TFRS}` has no teacher: compare it without one. "
            f"Received: distillation={recipe['distillation']}"
        )
    return {**recipe, "model": TFRS}


def _addressed(word: str, names: set[str]) -> tuple[str | None, str]:
    """`name:key=value` as (name, key=value); (None, word) if it is for all."""
    name, colon, rest = word.partition(":")
    if not colon or "=" in name:
        return None, word
    if name not in names:
        raise UserError(unknown_name("model of an override", name, names))
    return name, rest


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
        _check_recipe(job)
    failed: list[Job] = []
    with _lock(jobs[0].folder) as lock:
        for place, job in enumerate(jobs, 1):
            where = f"[{place}/{len(jobs)}] {job.name}"
            if read_finished(job.run, split, candidates) is not None:
                _log.info("%s: finished before", where)
            elif job.variant not in [other.variant for other in failed]:
                _log.info("%s: log in %s", where, job.log)
                started = time.perf_counter()
                status = _run(job, split, candidates, lock)
                seconds = time.perf_counter() - started
                if status:
                    failed.append(job)
                    _log.error("%s failed: %s", where, _last_line(job.log))
                else:
                    _log.info("%s took %.0f s", where, seconds)
    return failed


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
    """Keeps a comparison to the data that it was begun with.

    Args:
        folder: of the comparison.
        data: that it shall go on with.

    Raises:
        UserError: if it was begun with others.
    """
    path, mark = folder / _DATA, fingerprint(data)
    begun = (folder / "recipes").is_dir()
    found = path.read_text("utf-8").strip() if path.is_file() else None
    if found != mark and (begun or found):
        raise UserError(
            f"The comparison in '{folder}' was begun with other data than "
            f"'{data.folder}' holds now. Choose another `--output`, or remove it. The "
            f"data are {mark}. Received: {found}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(path, mark + "\n")


def _check_recipe(job: Job) -> None:
    if not job.recipe_file.is_file():
        return
    begun = yaml.safe_load(files.read_text(job.recipe_file))
    if job.variant.model == TFRS:
        begun["model"] = {}
    one, other = _resolved(job.variant, begun), dict(job.recipe)
    for recipe in (one, other):
        del recipe["run"]  # a comparison may be moved
    changed = configs.differences(one, other)
    if changed:
        raise UserError(
            f"Run '{job.run}' was begun with another recipe. Choose another "
            f"`--output`, or remove it and '{job.recipe_file}'. The two differ in "
            f"{', '.join(changed)}."
        )


def _run(job: Job, split: str, candidates: int, lock: int) -> int:
    for path in (job.recipe_file, job.log, job.run):
        path.parent.mkdir(parents=True, exist_ok=True)
    job.recipe_file.write_text(yaml.safe_dump(job.recipe, sort_keys=False), "utf-8")
    peer = job.variant.model == TFRS
    words = ["ctr_tf", "bench", "tfrs"] if peer else ["ctr_tf.compare.run"]
    command = [sys.executable, "-m", *words, "--config", str(job.recipe_file)]
    command += ["--split", split, "--candidates", str(candidates)]
    with job.log.open("a", encoding="utf-8") as log:
        return subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, pass_fds=[lock]
        ).returncode


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[int]:
    """Held by this process and its runs: one that is killed may leave a run behind."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"Another process is at work on the comparison in '{folder}'."
            ) from error
        yield file.fileno()


def _last_line(path: Path) -> str:
    lines = path.read_text("utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")
