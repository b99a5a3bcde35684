"""Tensors in TF Serving's JSON: arrays ⇄ nested lists."""

import base64
import binascii
import json
from typing import Any

import numpy as np

from serving.dtypes import numpy_dtype
from serving.errors import ServingError, invalid

_B64 = "b64"
_BYTES_SUFFIX = "_bytes"  # tensors of such a name are binary
_SHOWN = 100  # characters of a wrong value


def to_json(name: str, array: np.ndarray) -> object:
    """A tensor as JSON; NaN is written as NaN, which TF Serving reads.

    Args:
        name: of the tensor; strings of one that ends in `_bytes` are encoded.
        array: objects are strings or bytes.
    """
    if array.dtype == object:
        convert = _encoded if name.endswith(_BYTES_SUFFIX) else _text
        flat = np.empty(array.size, object)
        flat[:] = [convert(value) for value in array.ravel()]
        return flat.reshape(array.shape).tolist()
    if array.dtype.kind not in "iub" and array.dtype != np.float64:
        # The shortest decimal that is this float32, not the float64 beside it.
        array = array.astype(np.float32).astype("U").astype(np.float64)
    return array.tolist()


def from_json(name: str, value: object, dtype: str) -> np.ndarray:
    """A tensor of nested lists; every list of a level must be equally long.

    Args:
        name: of the tensor, for errors.
        value: as read from JSON.
        dtype: as TensorFlow names it.

    Returns:
        The array; strings are bytes objects.

    Raises:
        ServingError: INVALID_ARGUMENT, names the tensor.
    """
    shape: list[int] = []
    level: list = [value]
    while level and isinstance(level[0], list):
        size = len(level[0])
        for row in level:
            if not isinstance(row, list) or len(row) != size:
                raise invalid(
                    f'Tensor "{name}": encountered list at unexpected size, or a value '
                    f"among lists, at level: {len(shape)} expected size: {size}. "
                    f"Received: {show(row)}"
                )
        shape.append(size)
        level = [item for row in level for item in row]
    if dtype == "string":
        flat = np.empty(len(level), object)
        flat[:] = [_to_bytes(name, item) for item in level]
    else:
        flat = _numbers(name, level, dtype)
    return flat.reshape(shape)


def is_encoded(value: object) -> bool:
    """Whether a value is an object that holds a string in base64."""
    return (
        isinstance(value, dict)
        and value.keys() == {_B64}
        and isinstance(value[_B64], str)
    )


def show(value: object) -> str:
    """A wrong value for an error, the beginning of a long one."""
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _numbers(name: str, values: list, dtype: str) -> np.ndarray:
    narrow = numpy_dtype(dtype)
    is_floating = narrow.kind not in "biu"  # bfloat16 has a kind of its own
    accepted: tuple[type, ...] = (bool,) if narrow.kind == "b" else (int,)
    if is_floating:
        accepted = (int, float)
    for value in values:
        if type(value) not in accepted:
            raise _type_error(name, value, dtype)
    try:
        array = np.array(values, np.float64 if is_floating else narrow)
    except OverflowError as error:
        raise _type_error(name, max(values, key=abs), dtype) from error
    with np.errstate(over="ignore"):
        result = array.astype(narrow)
    if is_floating:
        lost = np.isfinite(array) & ~np.isfinite(result.astype(np.float64))
        if lost.any():
            raise invalid(
                f'Tensor "{name}": cannot convert JSON value: {array[lost][0]} to '
                f"{dtype} without loss of precision."
            )
    return result


def _to_bytes(name: str, value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise invalid(
                f'Tensor "{name}" has a string that is no Unicode.'
            ) from error
    if not is_encoded(value):
        raise _type_error(name, value, "string")
    try:
        return base64.b64decode(value[_B64], validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f'Tensor "{name}": unable to base64 decode.') from error


def _type_error(name: str, value: object, dtype: str) -> ServingError:
    return invalid(
        f'Tensor "{name}": JSON Value: {show(value)} Type: {type(value).__name__} '
        f"is not of expected type: {dtype}"
    )


def _encoded(value: str | bytes) -> dict:
    data = value.encode() if isinstance(value, str) else value
    return {_B64: base64.b64encode(data).decode()}


def _text(value: str | bytes) -> str | dict:
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _encoded(value)
