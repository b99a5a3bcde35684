"""What to try next, and what mattered, by Optuna.

There is no study of Optuna's beside the trials' folders: it is made anew, in memory,
of what is known, and the sampler of a trial is seeded by its number. So the next values
depend on the trials before alone, and not on how often the work was interrupted.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ctr_tf.tuning.ranges import Range
from ctr_tf.tuning.space import Space, lies_in

_SPREAD_TRIALS = 6  # before the sampler learns from what it has seen
_TRIES = 100  # to find values that were not tried before
_DIGITS = 4  # of a value: recipes are read by people
FEWEST = 5  # trials of which it can be told what mattered


@dataclasses.dataclass(frozen=True)
class Tried:
    """What is known of a trial.

    Args:
        values: dotted key → value.
        value: what it reached; None if it failed.
    """

    values: dict[str, Any]
    value: float | None


def propose(
    space: Space, known: Sequence[Tried], number: int, seed: int = 0
) -> dict[str, Any] | None:
    """Values for the next trial.

    The first ones are spread over the space by a Halton sequence, which leaves no large
    part of it out as a few random values may; the others are by the tree-structured
    Parzen estimator.

    Args:
        space: to choose from.
        known: the trials before; those outside the space tell nothing.
        number: of the trial.
        seed: of the study.

    Returns:
        Dotted key → value, as no trial before had them; None if none are found.
    """
    before = [tried.values for tried in known]
    for attempt in range(_TRIES):
        if number <= 1 + _SPREAD_TRIALS:
            values = _spread(space, number + attempt, seed)
        else:
            values = _learned(space, known, [seed, number, attempt])
        if values not in before:
            return values
    return None


def _spread(space: Space, place: int, seed: int) -> dict[str, Any]:
    """The point at a place of a sequence."""
    from scipy.stats import qmc  # takes a second

    sequence = qmc.Halton(len(space), rng=seed)
    shares = sequence.random(place + 1)[-1].tolist()
    return {
        key: _at(given, share)
        for (key, given), share in zip(space.items(), shares, strict=True)
    }


def _at(given: Range | tuple, share: float) -> Any:
    """The value that a share, 0 … 1, of what is given lies below."""
    if isinstance(given, tuple):
        return given[int(share * len(given))]
    low, high = given.low, given.high
    if isinstance(low, int):  # the last one is as likely as the others
        high += 1
    value = low * (high / low) ** share if given.log else low + (high - low) * share
    return math.floor(value) if isinstance(low, int) else _rounded(given, value)


def _learned(space: Space, known: Sequence[Tried], seeds: list[int]) -> dict[str, Any]:
    import optuna

    (word,) = np.random.SeedSequence(seeds).generate_state(1)
    sampler = optuna.samplers.TPESampler(seed=int(word), n_startup_trials=1)
    asked = _study(space, known, sampler).ask(_distributions(space))
    return {key: _value(space[key], asked.params[key]) for key in space}


def importances(space: Space, known: Sequence[Tried]) -> dict[str, float]:
    """Share of the variance of what was reached that each key explains (fANOVA).

    Args:
        space: that was chosen from.
        known: trials; those that failed or lie outside tell nothing.

    Returns:
        Dotted key → share, most first; empty for fewer than `FEWEST` trials, or where
        all reached the same.
    """
    import optuna

    told = [t for t in known if t.value is not None and lies_in(space, t.values)]
    if len(told) < FEWEST or len({tried.value for tried in told}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    study = _study(space, told, optuna.samplers.RandomSampler(seed=0))
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _study(space: Space, known: Sequence[Tried], sampler: Any) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    states = optuna.trial.TrialState
    for tried in known:
        if lies_in(space, tried.values):
            failed = tried.value is None
            study.add_trial(
                optuna.trial.create_trial(
                    # A pruned trial without a value counts as worse than all others.
                    state=states.PRUNED if failed else states.COMPLETE,
                    value=tried.value,
                    params={k: _word(space[k], tried.values[k]) for k in space},
                    distributions=_distributions(space),
                )
            )
    return study


def _distributions(space: Space) -> dict[str, Any]:
    from optuna import distributions as of

    result: dict[str, Any] = {}
    for key, given in space.items():
        if isinstance(given, tuple):
            words = [json.dumps(value) for value in given]
            result[key] = of.CategoricalDistribution(words)
        elif isinstance(given.low, int) and isinstance(given.high, int):
            result[key] = of.IntDistribution(given.low, given.high, log=given.log)
        else:
            result[key] = of.FloatDistribution(given.low, given.high, log=given.log)
    return result


def _word(given: Range | tuple, value: Any) -> Any:
    """A value as Optuna has it, which knows no lists."""
    return json.dumps(value) if isinstance(given, tuple) else value


def _value(given: Range | tuple, word: Any) -> Any:
    if isinstance(given, tuple):
        return json.loads(word)
    if isinstance(given.low, int):
        return int(word)
    return _rounded(given, word)


def _rounded(given: Range, value: float) -> float:
    return min(max(float(f"{value:.{_DIGITS}g}"), given.low), given.high)
