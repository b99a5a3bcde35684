"""Record files: how they are named, compressed, and framed.

A TFRecord file is one `length, crc of the length, record, crc of the record` after
another.
"""

import struct
from collections.abc import Sequence

import google_crc32c

COMPRESSIONS = {"none": "", "gzip": ".gz"}  # name → what a file's name ends in
FRAME_BYTES = 8 + 4 + 4  # around a record
_MASK_DELTA = 0xA282EAD8


def file_name(split: str, shard: int, num_shards: int, compression: str) -> str:
    """Path in the data set, such as `test/part-00001-of-00008.tfrecord`."""
    ending = COMPRESSIONS[compression]
    return f"{split}/part-{shard:05d}-of-{num_shards:05d}.tfrecord{ending}"


def frame(records: Sequence[bytes]) -> list[bytes]:
    """Frames records, so that they need only be written one after another."""
    header, pack = _Headers(), struct.Struct("<I").pack
    return [
        header[len(record)] + record + pack(_masked_crc32c(record))
        for record in records
    ]


class _Headers(dict):
    """Length of a record → what stands before it."""

    def __missing__(self, length: int) -> bytes:
        size = struct.pack("<Q", length)
        self[length] = header = size + struct.pack("<I", _masked_crc32c(size))
        return header


def _masked_crc32c(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF
