"""Tensors on the wire (`TensorProto`) and in memory (NumPy)."""

import math

import ml_dtypes
import numpy as np

from serving.server.errors import invalid
from serving.server.protos import TensorProto, types_pb2

# DataType → (NumPy dtype, field of the proto that holds it). Strings are bytes objects.
_TYPES = {
    types_pb2.DT_FLOAT: (np.dtype(np.float32), "float_val"),
    types_pb2.DT_DOUBLE: (np.dtype(np.float64), "double_val"),
    types_pb2.DT_INT32: (np.dtype(np.int32), "int_val"),
    types_pb2.DT_UINT8: (np.dtype(np.uint8), "int_val"),
    types_pb2.DT_INT16: (np.dtype(np.int16), "int_val"),
    types_pb2.DT_INT8: (np.dtype(np.int8), "int_val"),
    types_pb2.DT_UINT16: (np.dtype(np.uint16), "int_val"),
    types_pb2.DT_STRING: (np.dtype(object), "string_val"),
    types_pb2.DT_INT64: (np.dtype(np.int64), "int64_val"),
    types_pb2.DT_BOOL: (np.dtype(bool), "bool_val"),
    types_pb2.DT_HALF: (np.dtype(np.float16), "half_val"),
    types_pb2.DT_BFLOAT16: (np.dtype(ml_dtypes.bfloat16), "half_val"),
    types_pb2.DT_UINT32: (np.dtype(np.uint32), "uint32_val"),
    types_pb2.DT_UINT64: (np.dtype(np.uint64), "uint64_val"),
}
_ENUMS = {dtype: enum for enum, (dtype, _) in _TYPES.items()}
_STRING_BYTES = 24  # of a string's record inside TensorFlow
_MAX_RANK = 254
_FLOAT_VAL_TAG = b"\x2a"  # field 5, length-delimited: packed floats


def numpy_dtype(enum: int) -> np.dtype | None:
    """The NumPy dtype of a `DataType`; none for one that is not served."""
    return _TYPES[enum][0] if enum in _TYPES else None


def enum_of(array: np.ndarray) -> int:
    """The `DataType` of an array."""
    return _ENUMS[array.dtype]


def type_name(enum: int) -> str:
    """`int64` for `DT_INT64`; a number that is no type stays a number."""
    if enum not in types_pb2.DataType.values():
        return str(enum)
    return types_pb2.DataType.Name(enum).removeprefix("DT_").lower()


def from_proto(name: str, proto: TensorProto, max_bytes: int) -> np.ndarray:
    """Reads a tensor as TensorFlow does: too few values repeat the last one.

    Args:
        name: of the input, for errors.
        proto: as received.
        max_bytes: that the tensor may take in memory.

    Raises:
        ServingError: INVALID_ARGUMENT, names the input.
    """
    if proto.dtype not in _TYPES:
        raise invalid(
            f'Input "{name}" has a dtype that is not served. '
            f"Received: {type_name(proto.dtype)}"
        )
    dtype, field = _TYPES[proto.dtype]
    shape = _shape(name, proto)
    count = math.prod(shape)
    size = _STRING_BYTES if dtype.kind == "O" else dtype.itemsize
    if count * size > max_bytes:
        raise invalid(
            f'Input "{name}" of shape {list(shape)} would take {count * size:,} bytes, '
            f"more than the {max_bytes:,} a message may have."
        )
    if content := proto.tensor_content:
        return _from_content(name, proto.dtype, content, dtype, shape, count)
    values = getattr(proto, field)
    if len(values) > count:
        raise invalid(
            f'Input "{name}" of shape {list(shape)} must hold {count} values. '
            f"Received: {len(values)}"
        )
    return _from_values(values, dtype, field, count).reshape(shape)


def _shape(name: str, proto: TensorProto) -> tuple[int, ...]:
    shape = tuple([dim.size for dim in proto.tensor_shape.dim])
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
    return shape


def _from_content(name, enum, content, dtype, shape, count) -> np.ndarray:
    if dtype.kind == "O":
        raise invalid(f'Input "{name}" must hold its strings in string_val.')
    if len(content) != count * dtype.itemsize:
        raise invalid(
            f'Input "{name}" of shape {list(shape)} and type {type_name(enum)} '
            f"must hold {count * dtype.itemsize} bytes. Received: {len(content)}"
        )
    if dtype.kind == "b":  # any other byte than 0 and 1 would be no bool
        return (np.frombuffer(content, np.uint8) != 0).reshape(shape)
    return np.frombuffer(content, dtype).reshape(shape)


def _from_values(values, dtype: np.dtype, field: str, count: int) -> np.ndarray:
    if field == "half_val":
        given = np.array(values, np.int32).astype(np.uint16).view(dtype)
    elif field == "int_val":
        given = np.array(values, np.int32).astype(dtype)
    elif dtype.kind == "O":
        given = np.empty(len(values), object)
        given[:] = values
    else:
        given = np.array(values, dtype)
    if len(given) == count:
        return given
    array = np.empty(count, dtype)
    array[: len(given)] = given
    filler = b"" if dtype.kind == "O" else 0
    array[len(given) :] = given[-1] if len(given) else filler
    return array


def to_proto(array: np.ndarray, proto: TensorProto) -> None:
    """Writes a tensor into the typed field, as TF Serving does."""
    proto.dtype = enum_of(array)
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    field = _TYPES[proto.dtype][1]
    if field == "float_val":
        content = np.ascontiguousarray(array, "<f4").tobytes()
        if content:
            length = _varint(len(content))
            proto.MergeFromString(_FLOAT_VAL_TAG + length + content)
    elif field == "half_val":
        getattr(proto, field).extend(array.view(np.uint16).ravel().tolist())
    else:
        getattr(proto, field).extend(array.ravel().tolist())


def _varint(number: int) -> bytes:
    result = bytearray()
    while number > 0x7F:
        result.append(number & 0x7F | 0x80)
        number >>= 7
    result.append(number)
    return bytes(result)
