"""The trials of a study: a recipe each, a process each, and what they reached.

A folder of a study holds data.txt, ranges.yaml, recipes/<trial>.yaml, runs/<trial>/ (as
`ctr-tf train` leaves it) and logs/<trial>.txt. These are all that is known of it: the
values of a trial that was begun are those of its recipe, and what it reached is in its
run. A trial is only trained, and of what it reached, only validation counts.
"""

import dataclasses
import json
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ctr_tf import config as configs
from ctr_tf.compare.jobs import (
    Job,
    Work,
    check_recipe,
    do_job,
    evaluated,
    last_line,
    locked,
    read_finished,
)
from ctr_tf.compare.recipes import Recipes, resolved
from ctr_tf.compare.variants import TFRS, Variant
from ctr_tf.errors import UserError
from ctr_tf.storage import files
from ctr_tf.time import duration
from ctr_tf.training.run import METRICS
from ctr_tf.tuning.ranges import Ranges
from ctr_tf.tuning.sampler import Tried, propose
from ctr_tf.tuning.space import make_space, outside

_RANGES = "ranges.yaml"
_HOPELESS = 3  # trials that fail before one has come to its end
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Trial(Job):
    """One run of a study.

    Args:
        number: from 1.
        values: dotted key → value, of the keys that are tuned.
    """

    number: int = 1
    values: dict = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the run's folder."""
        return f"trial-{self.number:03d}"


@dataclasses.dataclass(frozen=True)
class Result(Tried):
    """What came of a trial.

    Args:
        number: of the trial; the first one is the recipe as it is.
        seconds: that the training took, since it was last interrupted.
        error: why it failed; None if it did not.
    """

    number: int = 1
    seconds: float | None = None
    error: str | None = None


class Study:
    """A model's trials under one recipe.

    Args:
        folder: of the study.
        model: name of a model.
        recipes: of it.
        ranges: dotted key → what to try.
        settings: dotted key → value that all trials have.

    Raises:
        UserError: for a range that does not fit the recipe, or if there is none; if
            the recipe does without validation.
    """

    def __init__(
        self,
        folder: Path,
        model: str,
        recipes: Recipes,
        ranges: Ranges,
        settings: Mapping[str, Any] | None = None,
    ):
        self.folder, self.variant = folder, Variant(model)
        self._recipes, self._settings = recipes, dict(settings or {})
        if not ranges:
            raise UserError(
                "There is nothing to tune: every key of the ranges is set on the "
                "command line, or is none of the model's. Received: "
                f"model.name={model}"
            )
        self.space = make_space(ranges, self.recipe)
        training = self.recipe({})["training"]
        if not training["validate"]:
            raise UserError(
                "Trials are judged by their validation. "
                "Received: training.validate=false"
            )
        self.monitor: str = training["monitor"]

    def recipe(self, values: Mapping[str, Any]) -> dict:
        """The recipe with these values, by dotted key; every default resolved."""
        chosen = {**self._settings, **values}
        return resolved(self.variant, self._recipes.values(self.variant, chosen))

    def check(self, trials: int) -> None:
        """Raises UserError if what was begun was begun by another recipe or ranges."""
        path = self.folder / _RANGES
        if path.is_file():
            begun = yaml.safe_load(files.read_text(path))
            if changed := configs.differences(begun, self.ranges()):
                raise UserError(
                    f"The study in '{self.folder}' was begun with other ranges. Choose "
                    "another `--output`, or remove it. The two differ in "
                    f"{', '.join(changed)}."
                )
        for number in range(1, trials + 1):
            if (trial := self._begun(number)) is not None:
                check_recipe(trial)

    def ranges(self) -> dict:
        """Dotted key → range or choice, as a recipe's section `tune` has them."""
        return {
            key: list(given) if isinstance(given, tuple) else configs.to_mapping(given)
            for key, given in self.space.items()
        }

    def run(self, trials: int) -> list[Result]:
        """Does the trials that are not finished, one after the other.

        Args:
            trials: how many there are to be in all.

        Returns:
            What came of each; fewer than asked for where no new values were left, or
            the first ones failed, all of them.

        Raises:
            UserError: if the study was begun by another recipe or other ranges, or
                another process is at work on it.
        """
        self.check(trials)
        results: list[Result] = []
        with locked(self.folder) as lock:
            text = yaml.safe_dump(self.ranges(), sort_keys=False)
            files.write_text(self.folder / _RANGES, text)
            started, done = time.monotonic(), 0
            for number in range(1, trials + 1):
                trial = self._begun(number) or self._next(number, results)
                if trial is None:
                    _log.info("no values are left that were not tried")
                    break
                work = self._work()
                before = work.finished(trial)
                do_job(trial, work, f"[{number}/{trials}] {trial.name}", lock)
                results.append(self._result(trial))
                done += not before
                left = (time.monotonic() - started) / max(done, 1) * (trials - number)
                self._tell(results, left if done else None)
                failed = [result.value is None for result in results]
                if len(failed) == _HOPELESS and all(failed):
                    _log.error("stopped: the first %d trials failed", _HOPELESS)
                    break
        return results

    def is_begun(self, number: int) -> bool:
        """Whether a trial has been begun."""
        return self._trial(number, {}).recipe_file.is_file()

    def _trial(self, number: int, values: Mapping[str, Any]) -> Trial:
        trial = Trial(self.variant, 0, self.folder, {}, number)
        recipe = self.recipe({**values, "run": str(trial.run)})
        leaves = configs.leaves(recipe)
        chosen = {key: leaves[key] for key in self.space}
        return dataclasses.replace(trial, recipe=recipe, values=chosen)

    def _begun(self, number: int) -> Trial | None:
        path = Trial(self.variant, 0, self.folder, {}, number).recipe_file
        if not path.is_file():
            return None
        begun = configs.leaves(yaml.safe_load(files.read_text(path)))
        values = {key: begun[key] for key in self.space if key in begun}
        return self._trial(number, values if number > 1 else {})

    def _next(self, number: int, results: list[Result]) -> Trial | None:
        if number == 1:
            trial = self._trial(1, {})
            if lacking := outside(self.space, trial.values):
                _log.info(
                    "the recipe as it is lies outside of what is tried, and the search "
                    "does not learn from it: %s",
                    ", ".join(f"{key} {trial.values[key]}" for key in lacking),
                )
            return trial
        known = list(results)
        while (values := propose(self.space, known, number)) is not None:
            try:
                return self._trial(number, values)
            except UserError as error:  # values that do not go together
                _log.info("not tried: %s", error)
                known.append(Result(values, None, number))
        return None

    def _work(self) -> Work:
        if self.variant.model == TFRS:
            return evaluated("validation", 1)
        return Work(
            lambda job: [
                *(sys.executable, "-m", "ctr_tf", "train"),
                *("--config", str(job.recipe_file)),
            ],
            lambda job: (job.run / METRICS).is_file(),
        )

    def _result(self, trial: Trial) -> Result:
        if not self._work().finished(trial):
            error = last_line(trial.log)
            return Result(trial.values, None, trial.number, error=error)
        if self.variant.model == TFRS:
            peer = read_finished(trial.run, "validation", 1) or {}
            training, validation = peer["training"], peer["quality"]
        else:
            training = json.loads((trial.run / METRICS).read_text("utf-8"))
            validation = training["validation"]
        value, seconds = validation[self.monitor], training["seconds"]
        return Result(trial.values, value, trial.number, seconds)

    def _tell(self, results: list[Result], left: float | None) -> None:
        last, best = results[-1], best_of(results)
        if last.value is None or best is None:
            return
        _log.info(
            "trial %d: %s %.4f, best %.4f of trial %d%s",
            *(last.number, self.monitor, last.value, best.value, best.number),
            f", about {duration(round(left))} left" if left else "",
        )


def best_of(results: list[Result]) -> Result | None:
    """The first of those that reached most; None if all failed."""
    known = [result for result in results if result.value is not None]
    return max(known, key=lambda result: result.value or 0.0, default=None)
