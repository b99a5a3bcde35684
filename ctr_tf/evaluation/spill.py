"""Rows that need not fit in memory: sorted by a key, or brought together by a hash.

Both keep rows in memory up to a limit and move them to a temporary folder beyond it.
What comes out is the same either way.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ctr_tf.errors import UserError

NUM_BUCKETS = 256


class _Spill:
    """Rows of one structured dtype, buffered up to a limit and then written out."""

    def __init__(self, dtype: np.dtype, memory_rows: int, folder: str | Path | None):
        if memory_rows < 1:
            raise UserError(
                "`memory_rows` must be a positive integer. "
                f"Received: memory_rows={memory_rows!r}"
            )
        self._dtype = np.dtype(dtype)
        self._memory_rows = memory_rows
        self._parent = folder
        self._folder: tempfile.TemporaryDirectory | None = None
        self._buffer: list[np.ndarray] = []
        self._buffered = 0

    def add(self, rows: np.ndarray) -> None:
        """Adds rows of the dtype given at construction."""
        self._buffer.append(rows)
        self._buffered += len(rows)
        if self._buffered > self._memory_rows:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(
                    prefix=".evaluation-", dir=self._parent
                )
            self._write(Path(self._folder.name), self._in_memory())
            self._buffer, self._buffered = [], 0

    @property
    def is_spilled(self) -> bool:
        """Whether rows have been written to disk."""
        return self._folder is not None

    def _in_memory(self) -> np.ndarray:
        if len(self._buffer) != 1:
            self._buffer = [np.concatenate([np.zeros(0, self._dtype), *self._buffer])]
        return self._buffer[0]

    def _files(self, pattern: str) -> list[Path]:
        return sorted(Path(self._folder.name).glob(pattern)) if self._folder else []

    def _write(self, folder: Path, rows: np.ndarray) -> None:
        raise NotImplementedError


class SortedSpill(_Spill):
    """Gives rows back in ascending order of a key: sorted runs, merged by blocks.

    Args:
        dtype: structured dtype of the rows.
        key: the field to sort by.
        memory_rows: rows kept in memory.
        folder: where temporary files go; the system's place by default.
    """

    def __init__(
        self,
        dtype: np.dtype,
        key: str,
        memory_rows: int,
        folder: str | Path | None = None,
    ):
        super().__init__(dtype, memory_rows, folder)
        self._key = key

    def _sorted(self, rows: np.ndarray) -> np.ndarray:
        return rows[np.argsort(rows[self._key], kind="stable")]

    def _write(self, folder: Path, rows: np.ndarray) -> None:
        self._sorted(rows).tofile(folder / f"run-{len(self._files('run-*')):06d}")

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows, ascending; equal keys may lie across two neighboring blocks."""
        rest: list[np.ndarray] = [
            np.memmap(path, self._dtype, "r") for path in self._files("run-*")
        ]
        if self._buffered:
            rest.append(self._sorted(self._in_memory()))
        while len(rest) > 1:
            window = max(self._memory_rows // len(rest), 1)
            # Up to the smallest of the windows' ends, no run can hold back a row.
            bound = min(run[min(window, len(run)) - 1][self._key] for run in rest)
            takes = [
                np.searchsorted(run[:window][self._key], bound, "right") for run in rest
            ]
            parts = [run[:take] for run, take in zip(rest, takes, strict=True)]
            yield self._sorted(np.concatenate(parts))
            rest = [run[take:] for run, take in zip(rest, takes, strict=True)]
            rest = [run for run in rest if len(run)]
        for run in rest:
            for start in range(0, len(run), self._memory_rows):
                yield np.asarray(run[start : start + self._memory_rows])


class HashedSpill(_Spill):
    """Gives rows back in buckets, so that rows of one key come together.

    Args:
        dtype: structured dtype of the rows.
        key: the uint64 field that holds a hash.
        memory_rows: rows kept in memory.
        folder: where temporary files go; the system's place by default.
    """

    def __init__(
        self,
        dtype: np.dtype,
        key: str,
        memory_rows: int,
        folder: str | Path | None = None,
    ):
        super().__init__(dtype, memory_rows, folder)
        self._key = key

    def _split(self, rows: np.ndarray) -> list[np.ndarray]:
        bucket = (rows[self._key] % NUM_BUCKETS).astype(np.uint8)
        rows = rows[np.argsort(bucket, kind="stable")]
        return np.split(
            rows, np.cumsum(np.bincount(bucket, minlength=NUM_BUCKETS))[:-1]
        )

    def _write(self, folder: Path, rows: np.ndarray) -> None:
        for number, part in enumerate(self._split(rows)):
            with open(folder / f"bucket-{number:03d}", "ab") as file:
                part.tofile(file)

    def buckets(self) -> Iterator[np.ndarray]:
        """The buckets that hold rows, one after the other."""
        files = self._files("bucket-*")
        for number, part in enumerate(self._split(self._in_memory())):
            if files:
                part = np.concatenate([np.fromfile(files[number], self._dtype), part])
            if len(part):
                yield part
