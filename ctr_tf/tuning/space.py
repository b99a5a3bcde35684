"""The ranges of a study, seen to fit its recipe before anything is trained."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from ctr_tf import config as configs
from ctr_tf.errors import UserError, unknown_name
from ctr_tf.tuning.ranges import Range, Ranges

_NOT_TUNED = (  # what says where and what is measured, and the luck
    *("run", "data.path", "data.label", "model.name"),
    *("training.monitor", "training.seed", "training.start_from"),
)
_MOST_TRIED = 256  # integers of a range that are all tried on the recipe

Space = dict[str, Range | tuple]


def make_space(ranges: Ranges, resolve: Callable[[Mapping[str, Any]], dict]) -> Space:
    """Checks every range by the recipe.

    Args:
        ranges: dotted key → range or choice.
        resolve: dotted key → value, to the recipe with these values, every default
            resolved.

    Returns:
        The ranges, their values as the recipe understands them.

    Raises:
        UserError: for a key that the recipe lacks or that must not be tuned, or a value
            that the recipe refuses or that makes no difference.
    """
    known = configs.leaves(resolve({}))
    space: Space = {}
    for key, given in ranges.items():
        if key in _NOT_TUNED:
            raise UserError(
                f"`tune.{key}`: all trials must have this in common. Not tuned are "
                f"{', '.join(_NOT_TUNED)}. Received: {key}"
            )
        if key not in known:
            raise UserError(f"`tune`: {unknown_name('key of the recipe', key, known)}")
        space[key] = _understood(key, given, resolve)
    return space


def _understood(
    key: str, given: Range | tuple, resolve: Callable[[Mapping[str, Any]], dict]
) -> Range | tuple:
    def understood(value: Any) -> Any:
        try:
            return configs.leaves(resolve({key: value}))[key]
        except UserError as error:
            raise UserError(f"`tune.{key}`: {error}") from error

    if isinstance(given, tuple):
        return _choice(key, tuple(understood(value) for value in given))
    low, high = understood(given.low), understood(given.high)
    if any(not isinstance(end, int | float) or end is True for end in (low, high)):
        raise UserError(
            f"`tune.{key}` takes no numbers, but a list of what to choose from. "
            f"Received: {given}"
        )
    if low == high:
        raise UserError(_no_difference(key, [given.low, given.high], low))
    if isinstance(low, int) and high - low < _MOST_TRIED:
        for value in range(low, high):
            understood(value)
    return Range(low, high, given.log)


def _choice(key: str, values: tuple) -> tuple:
    for place, value in enumerate(values):
        if value in values[:place]:
            raise UserError(_no_difference(key, list(values), value))
    return values


def _no_difference(key: str, values: list, value: Any) -> str:
    return (
        f"`tune.{key}`: some values make no difference, as they come twice or another "
        f"key decides: {value!r}. Received: {values}"
    )


def lies_in(space: Space, values: Mapping[str, Any]) -> bool:
    """Whether values are of the space, each within its range or choice."""
    return not outside(space, values)


def outside(space: Space, values: Mapping[str, Any]) -> list[str]:
    """The keys whose values do not lie within their range or choice."""
    return [key for key in space if not _holds(space[key], values.get(key))]


def _holds(given: Range | tuple, value: Any) -> bool:
    if isinstance(given, tuple):
        return value in given
    return value is not None and given.low <= value <= given.high


def shown(value: Any) -> str:
    """A value as a recipe has it, in a line."""
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)
