"""Each model of a comparison is tuned, by itself, before it is compared."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctr_tf import config as configs
from ctr_tf.compare.jobs import Job
from ctr_tf.compare.recipes import Recipes, resolved
from ctr_tf.compare.variants import Variant
from ctr_tf.errors import UserError, unknown_name
from ctr_tf.tuning.report import write_report
from ctr_tf.tuning.study import Study, best_of

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What came of a model's trials.

    Args:
        trials: that were done.
        failed: of these.
        monitor: of the validation that decided.
        best: number of the trial whose values were taken; 1 is the recipe as it is, and
            None if all failed, and the recipe's values were taken.
        value: that it reached on validation.
        values: dotted key → value, of that trial.
    """

    trials: int
    failed: int
    monitor: str
    best: int | None
    value: float | None
    values: dict[str, Any]

    @property
    def chosen(self) -> dict[str, Any]:
        """Dotted key → value that the model's runs have instead of their recipe's."""
        return {} if self.best in (None, 1) else self.values


def make_studies(
    rows: Sequence[Variant], recipes: Recipes, folder: Path
) -> dict[str, Study]:
    """A study for each model, all under the same ranges.

    A key `model.…` counts for the models that have it.

    Args:
        rows: of the table.
        recipes: of them.
        folder: of the comparison.

    Returns:
        Model → study, in `folder/tuning/<model>`.

    Raises:
        UserError: for a range that does not fit, or a key that no model has.
    """
    models = list(dict.fromkeys(row.model for row in rows))
    known = {name: _keys_of(name, recipes) for name in models}
    everywhere = _keys_of(recipes.model, recipes).union(*known.values())
    studies = {}
    for name in models:
        ranges: dict = {}
        for key, given in recipes.ranges(name).items():
            if key in known[name] or not key.startswith("model."):
                ranges[key] = given
            elif key in everywhere:
                _log.info("%s has no `%s`: it is not tuned", name, key)
            else:
                told = unknown_name("key of a model", key, everywhere)
                raise UserError(f"`tune`: {told}")
        output = folder / "tuning" / name
        studies[name] = Study(output, name, recipes, ranges, {"training.seed": 0})
    return studies


def _keys_of(model: str, recipes: Recipes) -> set[str]:
    row = Variant(model)
    return set(configs.leaves(resolved(row, recipes.values(row))))


def tune_models(
    studies: Mapping[str, Study], trials: int, jobs: Sequence[Job]
) -> dict[str, Tuned]:
    """Does every model's trials, and writes a report of each.

    Args:
        studies: of `make_studies`.
        trials: of each model.
        jobs: the comparison's runs, which must not have been begun before the trials.

    Returns:
        Model → what came of it.

    Raises:
        UserError: if runs were begun without trials, or trials otherwise than now.
    """
    for job in jobs:
        study = studies[job.variant.model]
        if job.recipe_file.is_file() and not study.is_begun(1):
            raise UserError(
                f"Run '{job.run}' was begun without `--tune`. Choose another "
                f"`--output`, or remove it and '{job.recipe_file}'."
            )
        study.check(trials)
    result = {}
    for name, study in studies.items():
        _log.info("%s: %d trials of %s", name, trials, ", ".join(study.space))
        results = study.run(trials)
        write_report(study, results)
        best = best_of(results)
        result[name] = Tuned(
            trials=len(results),
            failed=sum(found.value is None for found in results),
            monitor=study.monitor,
            best=best.number if best else None,
            value=best.value if best else None,
            values=best.values if best else {},
        )
    return result
