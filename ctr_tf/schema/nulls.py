"""How a log writes that a value is missing, beside null and NaN: `null_values`.

The jobs' columns and serving's requests both read it here. A spelling that is a number
also stands for that number, where values are numbers.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np

NullValues = tuple[str | int | float, ...]


@functools.cache
def null_texts(null_values: NullValues) -> frozenset[str]:
    """Texts that stand for a missing value; the empty one always does."""
    return frozenset(("", *map(str, null_values)))


@functools.cache
def null_numbers(null_values: NullValues, dtype: str) -> frozenset[int | float]:
    """Numbers that stand for a missing value.

    Args:
        null_values: of the schema or of a feature.
        dtype: of the values, as NumPy names it; what it cannot hold is left out.
    """
    found = [n for n in map(_number, map(str, null_values)) if n is not None]
    if np.dtype(dtype).kind == "f":
        return frozenset(_as(dtype, number) for number in found)
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    whole = (number for number in found if number % 1 == 0)
    return frozenset(int(number) for number in whole if least <= number <= most)


def without_nulls(values: Sequence, null_values: NullValues, dtype: str) -> list:
    """Values from JSON, None for those that are spelled as missing.

    Args:
        values: of any type; what is none of the feature's stays as it is.
        null_values: of the feature.
        dtype: of the feature.
    """
    kinds, result = set(map(type, values)), list(values)
    if str in kinds:
        texts = null_texts(null_values)
        result = [None if type(v) is str and v in texts else v for v in result]
    if dtype != "string" and kinds & {int, float}:
        if numbers := null_numbers(null_values, dtype):
            result = [
                None if type(v) in (int, float) and _as(dtype, v) in numbers else v
                for v in result
            ]
    return result


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _as(dtype: str, number: int | float) -> int | float:
    """The number as a value of the dtype is compared: a float32 is rounded first."""
    if np.dtype(dtype).kind != "f":
        return number
    try:
        with np.errstate(over="ignore"):
            return float(np.array(number, np.float64).astype(dtype))
    except OverflowError:  # an integer beyond all floats
        return math.inf
