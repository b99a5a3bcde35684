"""Samples of a split by their numbers: found by the index, read block by block."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.record_files import (
    BLOCK,
    INDEX,
    decompressor,
    index_name,
    unframe,
)
from ctr_tf.errors import UserError
from ctr_tf.storage.files import read_ranges


class SampleSizes(NamedTuple):
    """Behaviors and candidates of samples, by the index; int64 both."""

    history: np.ndarray
    slate: np.ndarray


class _Part(NamedTuple):
    """Records of one block of a file that are read together.

    Args:
        file: place in the list of files.
        start: first record in the file that is read.
        stop: one past the last.
        wanted: those that are wanted, counted from `start`.
    """

    file: int
    start: int
    stop: int
    wanted: np.ndarray


class StoredSamples:
    """The samples of a split, wherever in its files.

    Args:
        data: the prepared data set.
        split: of it.

    Attributes:
        samples: of each of its files.
    """

    def __init__(self, data: PreparedData, split: str):
        entries = data.record_files(split)
        self._files = [(path, entry.bytes) for path, entry in entries.items()]
        self.samples = [entry.samples for entry in entries.values()]
        self._ends = np.cumsum(self.samples)
        self._members = data.compression != "none"
        self._decompress = decompressor(data.compression)

    def sizes(self, numbers: np.ndarray) -> SampleSizes:
        """Sizes of samples, without reading them; else as `read`."""
        parts = list(self._parts(numbers))
        found = np.concatenate(
            [
                index[part.wanted + part.start - self._first(part)]
                for part, index in zip(parts, self._indices(parts), strict=True)
            ]
            or [np.empty(0, INDEX)]
        )
        return SampleSizes(*(found[k].astype(np.int64) for k in ("history", "slate")))

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Reads samples; neighbors are best asked for together.

        Args:
            numbers: of the samples in the split, in any order.

        Returns:
            Serialized samples, of dtype object, in this order.

        Raises:
            UserError: names the file and the records that cannot be read.
        """
        parts = list(self._parts(numbers))
        ranges = map(self._range, parts, self._indices(parts))
        records = np.empty(len(numbers), object)
        place = 0
        for part, found in zip(parts, read_ranges(ranges), strict=True):
            block = self._records(part, found)
            for number in part.wanted:
                records[place] = block[number]
                place += 1
        return records

    def _indices(self, parts: list[_Part]) -> list[np.ndarray]:
        found = read_ranges(map(self._index_range, parts))
        return [np.frombuffer(one, INDEX) for one in found]

    def _parts(self, numbers: np.ndarray) -> Iterator[_Part]:
        file = np.searchsorted(self._ends, numbers, side="right")
        record = numbers - (self._ends - self.samples)[file]
        begins = np.flatnonzero(
            (np.diff(file, prepend=-1) != 0)
            | (np.diff(record // BLOCK, prepend=-1) != 0)
            | (np.diff(record, prepend=-1) <= 0)
        )
        ends = [*begins[1:], len(numbers)][: len(begins)]  # nothing in, nothing out
        for begin, end in zip(begins, ends, strict=True):
            start, stop = int(record[begin]), int(record[end - 1]) + 1
            yield _Part(int(file[begin]), start, stop, record[begin:end] - start)

    def _first(self, part: _Part) -> int:
        """The record in the file with which what is read begins."""
        return part.start - part.start % BLOCK if self._members else part.start

    def _last(self, part: _Part) -> int:
        """The one behind those that are read."""
        if not self._members:
            return part.stop
        return min(-(-part.stop // BLOCK) * BLOCK, self.samples[part.file])

    def _index_range(self, part: _Part) -> tuple[Path, int, int]:
        path, _ = self._files[part.file]
        # One more, if there is one: it says where the last one ends.
        stop = min(self._last(part) + 1, self.samples[part.file])
        start, stop = (n * INDEX.itemsize for n in (self._first(part), stop))
        return path.with_name(index_name(path.name)), start, stop

    def _range(self, part: _Part, index: np.ndarray) -> tuple[Path, int, int]:
        path, size = self._files[part.file]
        count = self._last(part) - self._first(part)
        start = int(index["offset"][0])
        stop = int(index["offset"][count]) if count < len(index) else size
        if not start < stop <= size:
            raise self._fault(part, f"the index says bytes {start} to {stop}")
        return path, start, stop

    def _records(self, part: _Part, found: bytes) -> list[bytes]:
        try:
            records = list(unframe(self._decompress(found)))
        except ValueError as error:
            raise self._fault(part, str(error)) from error
        if len(records) != self._last(part) - self._first(part):
            raise self._fault(part, f"the index says where {len(records)} records are")
        return records[part.start - self._first(part) :]

    def _fault(self, part: _Part, what: str) -> UserError:
        path, _ = self._files[part.file]
        return UserError(f"{path}: records {part.start} to {part.stop - 1}: {what}.")
