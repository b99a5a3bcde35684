"""Rows of numbers on disk, which LightGBM reads block by block.

LightGBM keeps a byte a value, its bin. What it makes them of may be many times that and
lies in a temporary file.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import lightgbm
import numpy as np


class StoredRows(lightgbm.Sequence):
    """Rows in a temporary file.

    Args:
        batches: rows float32 `[n, F]` and labels `[n]`, those of a batch together.
        columns: F.
        folder: where the temporary folder is made; the system's place by default.

    Attributes:
        labels: float32, of all rows.
    """

    batch_size = 1 << 16

    def __init__(
        self,
        batches: Iterable[tuple[np.ndarray, np.ndarray]],
        columns: int,
        folder: str | Path | None = None,
    ):
        self._folder = tempfile.TemporaryDirectory(prefix=".rows-", dir=folder)
        path = Path(self._folder.name) / "rows"
        labels = [np.zeros(0, np.float32)]
        with path.open("wb") as file:
            for rows, of_rows in batches:
                file.write(np.ascontiguousarray(rows, np.float32).data)
                labels.append(np.asarray(of_rows, np.float32))
        self.labels = np.concatenate(labels)
        self._rows = np.memmap(path, np.float32, "r", shape=(len(self.labels), columns))

    def __getitem__(self, index: int | slice | list[int]) -> np.ndarray:
        # LightGBM takes float64 alone from a sequence's single rows.
        return np.asarray(self._rows[index], np.float64)

    def __len__(self) -> int:
        return len(self.labels)
