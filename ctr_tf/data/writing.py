"""Writing records: many samples at once by column, or one sample by itself; and files.

Equal records give equal files.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ctr_tf.data.example import (
    Packed,
    encode_examples,
    encode_feature,
    pack_bytes,
    pack_float,
    pack_int64,
)
from ctr_tf.data.manifest import RecordFile
from ctr_tf.data.record_files import BLOCK, INDEX, compressor, frame, index_name
from ctr_tf.data.records import record_spec
from ctr_tf.errors import UserError, unknown_name
from ctr_tf.schema import Schema
from ctr_tf.storage import as_path, files

_COUNTED = ("behavior_time", "label")  # one value a behavior, one a candidate


@dataclasses.dataclass(frozen=True)
class Samples:
    """Serialized samples, and how large they are.

    Args:
        records: one a sample.
        history: behaviors of each.
        slate: candidates of each.
    """

    records: Sequence[bytes]
    history: np.ndarray
    slate: np.ndarray

    @classmethod
    def of(cls, samples: Sequence[Mapping[str, np.ndarray]]) -> "Samples":
        """Serializes samples, see `serialize`."""
        return cls(
            [serialize(sample) for sample in samples],
            np.array([len(sample["behavior_time"]) for sample in samples], np.int64),
            np.array([len(sample["label"]) for sample in samples], np.int64),
        )


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

    def samples(self, samples: np.ndarray) -> Samples:
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
        history, slate = (self._lengths(key)[samples] for key in _COUNTED)
        return Samples(encode_examples(features), history, slate)

    def _lengths(self, key: str) -> np.ndarray:
        _, start, stop = self._columns[key]
        return stop - start


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
    folder: str | Path, name: str, blocks: Iterable[Samples], compression: str
) -> RecordFile:
    """Writes a file of records and its index; each is whole or not there.

    Args:
        folder: of the data set.
        name: of the file within it.
        blocks: samples, as many at once as there are.
        compression: a key of `ctr_tf.data.record_files.COMPRESSIONS`.

    Returns:
        Its entry in the manifest.
    """
    compress = compressor(compression)
    seekable = compression == "none"  # by record; else by member
    index: list[np.ndarray] = [np.empty(0, INDEX)]
    with files.writing(as_path(folder) / name) as file:
        sink = _Sink(file)
        for block in _regrouped(blocks):
            entries = np.empty(len(block.records), INDEX)
            framed = frame(block.records)
            entries["offset"] = sink.bytes
            if seekable:
                entries["offset"][1:] += np.cumsum(
                    [len(f) for f in framed[:-1]], dtype="u8"
                )
            entries["history"], entries["slate"] = block.history, block.slate
            index.append(entries)
            sink.write(compress(b"".join(framed)))
    packed = np.concatenate(index)
    files.write_bytes(as_path(folder) / index_name(name), packed.tobytes())
    digest = hashlib.sha256(packed.tobytes()).hexdigest()
    return RecordFile(name, len(packed), sink.bytes, sink.digest.hexdigest(), digest)


def _regrouped(blocks: Iterable[Samples]) -> Iterator[Samples]:
    """The same samples, `BLOCK` at once; the last may be fewer."""
    records: list[bytes] = []
    history = slate = np.empty(0, np.int64)
    for block in blocks:
        records += block.records
        history = np.concatenate([history, block.history])
        slate = np.concatenate([slate, block.slate])
        whole = len(records) // BLOCK * BLOCK
        for start in range(0, whole, BLOCK):
            part = slice(start, start + BLOCK)
            yield Samples(records[part], history[part], slate[part])
        records, history, slate = records[whole:], history[whole:], slate[whole:]
    if records:
        yield Samples(records, history, slate)


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
