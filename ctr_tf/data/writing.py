"""Writing records: many samples at once by column, or one sample by itself; and files.

Equal records in equal blocks give equal files.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from isal import isal_zlib

from ctr_tf.data.example import (
    Packed,
    encode_examples,
    encode_feature,
    pack_bytes,
    pack_float,
    pack_int64,
)
from ctr_tf.data.manifest import RecordFile
from ctr_tf.data.record_files import frame
from ctr_tf.data.records import record_spec
from ctr_tf.errors import UserError, unknown_name
from ctr_tf.schema import Schema
from ctr_tf.storage import as_path, files

_GZIP_LEVEL = 2  # of 3; see "What a sample costs" in benchmarks/RESULTS.md
_GZIP_BITS = isal_zlib.MAX_WBITS + 16  # a gzip header, without a time


class SampleWriter:
    """Many samples, put together key by key; of what a record is, the spec decides.

    Args:
        schema: of the samples.
    """

    def __init__(self, schema: Schema):
        self._spec = record_spec(schema)
        self._columns: dict[str, tuple[Packed, np.ndarray, np.ndarray]] = {}

    def add(
        self,
        key: str,
        packed: Packed,
        start: np.ndarray | None = None,
        stop: np.ndarray | None = None,
    ) -> None:
        """Adds one key of all samples.

        Args:
            key: of the record.
            packed: a column.
            start: the first row of each sample; every row is a sample where None.
            stop: one past the last row of each sample.

        Raises:
            UserError: if records have no such key, or another dtype there.
        """
        assert key not in self._columns, key
        if key not in self._spec:
            raise UserError(unknown_name("record key", key, self._spec))
        if packed.dtype != self._spec[key].dtype:
            raise UserError(
                f"'{key}' must be {self._spec[key].dtype}. Received: {packed.dtype}"
            )
        if start is None or stop is None:
            start = np.arange(len(packed.offset) - 1)
            stop = start + 1
        self._columns[key] = packed, start, stop

    def records(self, samples: np.ndarray) -> list[bytes]:
        """Serialized samples.

        Args:
            samples: their numbers, in any order.

        Raises:
            UserError: names the keys that were not added.
        """
        needed = (key for key, field in self._spec.items() if not field.optional)
        missing = [key for key in needed if key not in self._columns]
        if missing:
            raise UserError(
                f"A record must have the keys {missing}. "
                f"Received: {list(self._columns)}"
            )
        features = [
            encode_feature(key, packed, start[samples], stop[samples])
            for key, (packed, start, stop) in self._columns.items()
        ]
        return encode_examples(features)


def serialize(sample: Mapping[str, np.ndarray]) -> bytes:
    """One sample as a serialized `tf.train.Example`.

    Args:
        sample: record key → values, 1-D; bytes are of dtype object.
    """
    start = np.zeros(1, np.int64)
    features = [
        encode_feature(key, _pack(values), start, start + len(values))
        for key, values in sample.items()
    ]
    (record,) = encode_examples(features)
    return record


def _pack(values: np.ndarray) -> Packed:
    if values.dtype == object:
        return pack_bytes(values.tolist())
    if np.issubdtype(values.dtype, np.floating):
        return pack_float(values)
    return pack_int64(values)


def write_records(
    folder: str | Path, name: str, blocks: Iterable[Sequence[bytes]], compression: str
) -> RecordFile:
    """Writes a file of records, block by block; it is whole or not there.

    Args:
        folder: of the data set.
        name: of the file within it.
        blocks: serialized samples.
        compression: a key of `ctr_tf.data.record_files.COMPRESSIONS`.

    Returns:
        Its entry in the manifest.
    """
    with files.writing(as_path(folder) / name) as file:
        sink = _Sink(file)
        samples, packer = 0, None
        if compression == "gzip":
            packer = isal_zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_BITS)
        for records in blocks:
            samples += len(records)
            framed = b"".join(frame(records))
            sink.write(packer.compress(framed) if packer else framed)
        if packer:
            sink.write(packer.flush())
    return RecordFile(name, samples, sink.bytes, sink.digest.hexdigest())


class _Sink:
    """Knows what was written to a file."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.digest = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.digest.update(data)
        self.bytes += len(data)
