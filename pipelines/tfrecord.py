"""TFRecord framing: `length, crc of the length, record, crc of the record`."""

import struct
from collections.abc import Sequence

import google_crc32c

_MASK_DELTA = 0xA282EAD8


def masked_crc32c(data: bytes) -> int:
    """The checksum that TFRecord files carry."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def frame(records: Sequence[bytes]) -> list[bytes]:
    """Frames records, so that they need only be written one after another."""
    header, pack = _Headers(), struct.Struct("<I").pack
    return [
        header[len(record)] + record + pack(masked_crc32c(record)) for record in records
    ]


class _Headers(dict):
    def __missing__(self, length: int) -> bytes:
        size = struct.pack("<Q", length)
        self[length] = header = size + struct.pack("<I", masked_crc32c(size))
        return header
