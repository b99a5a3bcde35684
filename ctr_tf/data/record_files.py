"""Record files: how they are named, framed, compressed, and what their index says.

A TFRecord file is one `length, crc of the length, record, crc of the record` after
another. A compressed one is cut into members of `BLOCK` records, each compressed by
itself: any reader of its format reads them as one, and ours begins at any of them.

Beside every file lies its index, an array of `INDEX`, one entry a record. By it a
record is read without those before it, and its size is known without reading it.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence

import google_crc32c
import numpy as np
from isal import igzip, isal_zlib

COMPRESSIONS = {"none": "", "gzip": ".gz"}  # name → what a file's name ends in
BLOCK = 64  # records; those of a file are counted from its first
# Offset in the file: of the record, or of the member that has it; behaviors and
# candidates of the record.
INDEX = np.dtype([("offset", "<u8"), ("history", "<u4"), ("slate", "<u4")])
FRAME_BYTES = 8 + 4 + 4  # around a record
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
_GZIP_LEVEL = 2  # of 3; see "What a sample costs" in benchmarks/RESULTS.md
_GZIP_BITS = isal_zlib.MAX_WBITS + 16  # a gzip header, without a time


def file_name(split: str, shard: int, num_shards: int, compression: str) -> str:
    """Path in the data set, such as `test/part-00001-of-00008.tfrecord`."""
    ending = COMPRESSIONS[compression]
    return f"{split}/part-{shard:05d}-of-{num_shards:05d}.tfrecord{ending}"


def index_name(name: str) -> str:
    """Path of the index of a record file."""
    return f"{name}.index"


def frame(records: Sequence[bytes]) -> list[bytes]:
    """Frames records, so that they need only be written one after another."""
    header, pack = _Headers(), _CRC.pack
    return [
        header[len(record)] + record + pack(_masked_crc32c(record))
        for record in records
    ]


def unframe(framed: bytes) -> Iterator[bytes]:
    """Records that were framed one after another.

    Raises:
        ValueError: where a record is damaged or cut off.
    """
    headers, place, end = _Headers(), 0, len(framed)
    while place < end:
        if place + FRAME_BYTES > end:
            raise ValueError("a record is cut off")
        (length,) = _LENGTH.unpack_from(framed, place)
        start = place + _LENGTH.size + _CRC.size
        if framed[place:start] != headers[length]:
            raise ValueError("there is no record, or its length is corrupt")
        place = start + length + _CRC.size
        if place > end:
            raise ValueError("a record is cut off")
        record = framed[start : start + length]
        if _CRC.unpack_from(framed, start + length)[0] != _masked_crc32c(record):
            raise ValueError("a record is corrupt")
        yield record


def compressor(compression: str) -> Callable[[bytes], bytes]:
    """What makes a member of a file of framed records."""
    return _gzip if compression == "gzip" else bytes


def decompressor(compression: str) -> Callable[[bytes], bytes]:
    """What makes framed records of members of a file.

    It raises ValueError where they are damaged.
    """
    return _gunzip if compression == "gzip" else bytes


def _gzip(data: bytes) -> bytes:
    packer = isal_zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_BITS)
    return packer.compress(data) + packer.flush()


def _gunzip(data: bytes) -> bytes:
    try:
        return igzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"gzip: {error}") from error


class _Headers(dict):
    """Length of a record → what stands before it."""

    def __missing__(self, length: int) -> bytes:
        size = _LENGTH.pack(length)
        self[length] = header = size + _CRC.pack(_masked_crc32c(size))
        return header


def _masked_crc32c(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF
