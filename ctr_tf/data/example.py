"""tf.train.Example in bulk: columns are encoded once, a sample's lists are slices.

A packed protobuf list is the concatenation of its encoded values. So a whole sorted
column is encoded in one vectorized pass, and the list of any range of its rows (the
behaviors of a request, the candidates of a slate) is a slice of those bytes, however
many ranges overlap. Only headers are added a sample, and those depend on lengths alone.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

_TAGS = {"bytes": 0x0A, "float32": 0x12, "int64": 0x1A}  # fields 1, 2, 3 of Feature
_DELIMITED_1, _DELIMITED_2 = b"\x0a", b"\x12"  # length-delimited fields 1 and 2


@dataclasses.dataclass(frozen=True)
class Packed:
    """Encoded values of one column.

    Args:
        dtype: `"int64"`, `"float32"` or `"bytes"`.
        data: the encoded values, one after another.
        offset: int64, one more than values; value i is `data[offset[i]:offset[i+1]]`.
    """

    dtype: str
    data: bytes
    offset: np.ndarray


def varint(value: int) -> bytes:
    """One non-negative number as a protobuf varint."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def pack_int64(values: np.ndarray) -> Packed:
    """Encodes integers as varints.

    Args:
        values: any integer dtype, 1-D.
    """
    if values.dtype == np.uint8 and (not len(values) or values.max() < 0x80):
        return Packed("int64", values.tobytes(), np.arange(len(values) + 1))
    rest = values.astype(np.int64).view(np.uint64)
    largest = int(rest.max(initial=0))
    width = max(1, -(-largest.bit_length() // 7))
    length = np.ones(len(rest), np.int64)
    for place in range(1, width):
        length += rest >= np.uint64(1 << 7 * place)
    wide = np.empty((len(rest), width), np.uint8)
    for place in range(width):
        wide[:, place] = rest >> np.uint64(7 * place)
    wide |= 0x80
    wide[np.arange(len(rest)), length - 1] &= 0x7F
    data = wide[np.arange(width) < length[:, None]]
    return Packed("int64", data.tobytes(), np.append(0, np.cumsum(length)))


def pack_float(values: np.ndarray) -> Packed:
    """Encodes numbers as 32-bit floats.

    Args:
        values: any real dtype, 1-D.
    """
    data = values.astype("<f4").tobytes()
    return Packed("float32", data, 4 * np.arange(len(values) + 1))


def pack_bytes(values: Sequence[bytes]) -> Packed:
    """Encodes byte strings."""
    encoded = [_DELIMITED_1 + varint(len(value)) + value for value in values]
    lengths = [len(value) for value in encoded]
    return Packed(
        "bytes", b"".join(encoded), np.append(0, np.cumsum(lengths, dtype=np.int64))
    )


def encode_feature(
    name: str,
    packed: Packed,
    start: np.ndarray | None = None,
    stop: np.ndarray | None = None,
) -> list[bytes]:
    """One feature of many samples.

    Args:
        name: key in the Example.
        packed: the column.
        start: the first row of each sample; every row is a sample where None.
        stop: one past the last row of each sample.

    Returns:
        The feature's entry in the map of `tf.train.Features`, one a sample.
    """
    header, data = _Headers(name, packed.dtype), packed.data
    if start is None:
        begins, ends = packed.offset[:-1], packed.offset[1:]
    else:
        begins, ends = packed.offset[start], packed.offset[stop]
    return [
        header[end - begin] + data[begin:end]
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
    ]


def encode_examples(features: Sequence[list[bytes]]) -> list[bytes]:
    """Puts features together.

    Args:
        features: results of `encode_feature`, for the same samples.

    Returns:
        Serialized `tf.train.Example`s.
    """
    header = _ExampleHeaders()
    bodies = map(b"".join, zip(*features, strict=True))
    return [header[len(body)] + body for body in bodies]


class _ExampleHeaders(dict):
    """Length of the features → what stands before them."""

    def __missing__(self, length: int) -> bytes:
        self[length] = header = _DELIMITED_1 + varint(length)
        return header


class _Headers(dict):
    """Length of the packed values → what stands before them."""

    def __init__(self, name: str, dtype: str):
        super().__init__()
        key = name.encode()
        self._key = _DELIMITED_1 + varint(len(key)) + key
        self._tag = bytes([_TAGS[dtype]])
        self._is_packed = dtype != "bytes"

    def __missing__(self, length: int) -> bytes:
        inner = b""
        if length and self._is_packed:
            inner = _DELIMITED_1 + varint(length)
        values = self._tag + varint(len(inner) + length) + inner
        value = _DELIMITED_2 + varint(len(values) + length)
        entry = self._key + value + values
        self[length] = header = _DELIMITED_1 + varint(len(entry) + length) + entry
        return header
