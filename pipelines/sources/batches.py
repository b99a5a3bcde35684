"""Batches: of a shard, of rows made of other rows; rows that are there twice."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from pipelines.sources.source import Batch, Rejected, Shard


def batch_of(
    shard: Shard,
    rows: pa.Table,
    numbers: np.ndarray,
    rejected: list[Rejected],
    raw: Callable[[int], str | bytes | dict] | None = None,
) -> Batch:
    """A batch of rows that were read of a shard.

    Args:
        shard: that was read.
        rows: with the types of the source's columns.
        numbers: int64, of each row in the file.
        rejected: rows that could not be read.
        raw: see `Batch`.
    """
    return Batch(
        table=shard.table,
        rows=rows,
        origin=shard.origin,
        first_row=int(numbers[0]) if len(numbers) else shard.first_row,
        rejected=rejected,
        row_numbers=numbers,
        raw=raw,
    )


def derived(
    batch: Batch,
    rows: pa.Table,
    parent: np.ndarray | None = None,
    rejected: Sequence[Rejected] | None = None,
) -> Batch:
    """A batch of rows that were made of another batch's rows.

    Args:
        batch: the other batch.
        rows: the new rows.
        parent: position in `batch.rows` that each of them came from, or a mask of
            those kept; None: they are as many, and in the same order.
        rejected: of the new batch; those of `batch` where None.
    """
    numbers = batch.numbers()
    return Batch(
        batch.table,
        rows,
        batch.origin,
        batch.first_row,
        list(batch.rejected if rejected is None else rejected),
        numbers if parent is None else numbers[parent],
        batch.raw,
    )


def first_of_each(rows: pa.Table, keys: Sequence[str]) -> np.ndarray:
    """Marks the first row of every combination of keys.

    Args:
        rows: a table.
        keys: names of integer columns without nulls.

    Returns:
        bool, one a row; False where an earlier row has the same keys.
    """
    columns = [rows[key].to_numpy() for key in keys]
    order = np.lexsort(columns)
    same = np.ones(max(len(order) - 1, 0), bool)
    for column in columns:
        same &= column[order[1:]] == column[order[:-1]]
    first = np.ones(len(order), bool)
    first[order[1:][same]] = False
    return first
