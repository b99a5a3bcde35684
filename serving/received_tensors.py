"""Tensors of requests that our server receives: TensorFlow's, or what is wrong."""

import math

import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto

from serving.errors import invalid
from serving.tensors import FIELDS, MAX_BYTES

_STRING_BYTES = 24  # of a string's record inside TensorFlow
_MAX_RANK = 254


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
    if received not in FIELDS:
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
