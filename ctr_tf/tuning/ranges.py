"""A recipe's section `tune`: which keys may take which values.

    tune:
      optimizer.learning_rate: {low: 3.0e-4, high: 1.0e-2, log: true}
      training.row_dropout.behavior: {low: 0.0, high: 0.4}
      model.dim: [16, 32, 64]
      model.head_units: [[32], [64, 32]]

A list is a choice, a mapping a range, of integers where the key takes nothing else. The
keys may be nested as well, which is what `tune.model.dim=[16,32]` on a command line
makes of them. Whether a recipe has the keys and takes the values is `make_space`'s to
see.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ctr_tf import config as configs
from ctr_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class Range:
    """All values between two.

    Args:
        low: the smallest.
        high: the largest.
        log: whether they are tried evenly on a logarithmic scale.
    """

    low: int | float
    high: int | float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UserError(
                f"`low` must be less than `high`. Received: low={self.low}, "
                f"high={self.high}"
            )
        if self.log and not self.low > 0:
            raise UserError(
                "A range on a logarithmic scale (`log`) begins above 0. Received: "
                f"low={self.low}"
            )


Ranges = Mapping[str, Range | tuple]  # dotted key → a range or a choice

# Of recipes that say nothing: what matters for every model.
DEFAULT_RANGES: Ranges = {
    "optimizer.learning_rate": Range(3e-4, 1e-2, log=True),
    "optimizer.table_learning_rate": Range(1e-3, 1e-1, log=True),
    "optimizer.weight_decay": (None, 1e-3, 1e-2, 1e-1),
    "training.row_dropout.behavior": Range(0.0, 0.4),
    "training.row_dropout.candidate": Range(0.0, 0.4),
    "training.unknown_values.behavior": Range(0.0, 0.4),
    "training.unknown_values.candidate": Range(0.0, 0.4),
    "objective.listwise": Range(0.0, 0.5),
}


def read_ranges(values: Any, key: str = "tune") -> dict[str, Range | tuple]:
    """Reads the section.

    Args:
        values: nested keys and values; the later one counts where a key comes twice.
        key: of the section, for errors.

    Returns:
        Dotted key → a `Range` or the tuple of a choice.

    Raises:
        UserError: names the key and what is wrong with its range.
    """
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise UserError(f"`{key}` must hold keys and ranges. Received: {values!r}")
    result: dict[str, Range | tuple] = {}
    for name, value in values.items():
        full = f"{key}.{name}"
        if isinstance(value, Mapping) and not _is_range(value):
            inner = read_ranges(value, full)
            result |= {f"{name}.{rest}": given for rest, given in inner.items()}
        else:
            result[str(name)] = _read(value, full)
    return result


def _is_range(value: Mapping) -> bool:
    return not value or any(field.name in value for field in dataclasses.fields(Range))


def _read(value: Any, key: str) -> Range | tuple:
    if isinstance(value, Range):
        return value
    if isinstance(value, Mapping):
        return configs.parse(Range, value, key, "key of a range")
    if isinstance(value, list | tuple) and len(value) > 1:
        return tuple(value)
    raise UserError(
        f"`{key}` must be a list of two values or more, or a range such as "
        f"{{low: 0.0, high: 0.4}}. Received: {value!r}"
    )
