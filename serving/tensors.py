"""Tensors in messages: arrays ⇄ TensorFlow's `TensorProto`."""

import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto

from serving.errors import invalid

MAX_BYTES = 16 << 20  # of a message that a server of ours takes
_STRING_BYTES = 24  # of a string's record inside TensorFlow
_MAX_RANK = 254
# Type that is served → field of the message that holds its values.
_FIELDS = {
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


def to_proto(value: np.ndarray, proto: TensorProto, typed: bool = False) -> None:
    """Writes an array into an empty message.

    Args:
        value: objects are strings or bytes.
        proto: to write to.
        typed: numbers as values in the field of their type, as TF Serving answers,
            rather than as bytes, which is faster.
    """
    dtype = tf.string if value.dtype == object else tf.as_dtype(value.dtype)
    proto.dtype = dtype.as_datatype_enum
    for size in value.shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype == tf.string:
        proto.string_val.extend(
            v.encode() if isinstance(v, str) else v for v in value.ravel().tolist()
        )
    elif typed:
        field = _FIELDS[dtype.name]
        values = value.view(np.uint16) if field == "half_val" else value
        getattr(proto, field).extend(values.ravel().tolist())
    else:
        proto.tensor_content = value.tobytes()


def from_proto(name: str, proto: TensorProto) -> tf.Tensor:
    """Reads a tensor of a request as TensorFlow does: too few values repeat the last.

    Args:
        name: of the input, for errors.
        proto: as received.

    Raises:
        ServingError: INVALID_ARGUMENT, names the input.
    """
    dtype = _dtype(name, proto)
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if (
        proto.tensor_shape.unknown_rank
        or len(shape) > _MAX_RANK
        or min(shape, default=0) < 0
    ):
        received = "unknown rank" if proto.tensor_shape.unknown_rank else shape[:10]
        raise invalid(
            f'Input "{name}" must have a known shape of no negative size. '
            f"Received: {received}"
        )
    count = math.prod(shape)
    each = _STRING_BYTES if dtype == tf.string else dtype.size
    if count * each > MAX_BYTES:
        raise invalid(
            f'Input "{name}" of shape {shape} would take {count * each:,} bytes, more '
            f"than the {MAX_BYTES:,} a message may have."
        )
    _check_content(name, proto, dtype, count)
    try:
        return tf.io.parse_tensor(proto.SerializeToString(), dtype)
    except tf.errors.OpError as error:
        raise invalid(
            f'Input "{name}" is no tensor of type {dtype.name} and shape {shape}.'
        ) from error


def _dtype(name: str, proto: TensorProto) -> tf.DType:
    try:
        received = tf.as_dtype(proto.dtype).name
    except TypeError:  # a number that is no type
        received = proto.dtype
    if received not in _FIELDS:
        raise invalid(
            f'Input "{name}" has a dtype that is not served. Received: {received}'
        )
    return tf.as_dtype(received)


def _check_content(name: str, proto: TensorProto, dtype: tf.DType, count: int) -> None:
    """TensorFlow itself would leave out without a word what is too much."""
    if proto.tensor_content:
        if dtype == tf.string:
            raise invalid(f'Input "{name}" must hold its strings in string_val.')
        unit, needed, found = "bytes", count * dtype.size, len(proto.tensor_content)
        wrong = needed != found
    else:
        values = [v for field, v in proto.ListFields() if field.name.endswith("_val")]
        unit, needed, found = "values", count, sum(map(len, values))
        wrong = needed < found
    if wrong:
        raise invalid(
            f'Input "{name}" of {dtype.name} must hold {needed} {unit}. '
            f"Received: {found}"
        )
