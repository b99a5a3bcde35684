"""Tensors in messages: arrays ⇄ TensorFlow's `TensorProto`."""

import math
from typing import Any

import numpy as np

from serving.dtypes import NAMES, NUMBERS, name_of, numpy_dtype

MAX_BYTES = 16 << 20  # of a message that a server of ours takes
# Type that is served → field of the message that holds its values.
FIELDS = {
    "string": "string_val",
    "bool": "bool_val",
    "float16": "half_val",
    "bfloat16": "half_val",
    "float32": "float_val",
    "float64": "double_val",
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), "int_val"),
}


def to_proto(value: np.ndarray, proto: Any, typed: bool = False) -> None:
    """Writes an array into an empty message.

    Args:
        value: objects are strings or bytes.
        proto: to write to.
        typed: numbers as values in the field of their type, as TF Serving answers,
            rather than as bytes, which is faster.
    """
    name = name_of(value.dtype)
    proto.dtype = NUMBERS[name]
    for size in value.shape:
        proto.tensor_shape.dim.add(size=size)
    if name == "string":
        proto.string_val.extend(
            v.encode() if isinstance(v, str) else v for v in value.ravel().tolist()
        )
    elif typed:
        field = FIELDS[name]
        values = value.view(np.uint16) if field == "half_val" else value
        getattr(proto, field).extend(values.ravel().tolist())
    else:
        proto.tensor_content = value.tobytes()


def to_array(proto: Any) -> np.ndarray:
    """Reads a message as TensorFlow does: too few values repeat the last, none are 0.

    Args:
        proto: of a server's answer.

    Returns:
        The array; strings are bytes objects.
    """
    name = NAMES[proto.dtype]
    shape = [dim.size for dim in proto.tensor_shape.dim]
    dtype = numpy_dtype(name)
    if proto.tensor_content:
        return np.frombuffer(proto.tensor_content, dtype).reshape(shape).copy()
    values = getattr(proto, FIELDS[name])
    if FIELDS[name] == "half_val":
        found = np.array(values, np.uint16).view(dtype)
    else:
        found = np.array(values, dtype)
    if not len(found):
        return np.zeros(shape, dtype)
    missing = math.prod(shape) - len(found)
    return np.pad(found, (0, max(missing, 0)), "edge").reshape(shape)
