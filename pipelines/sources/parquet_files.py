"""Reading Parquet files by row groups."""

import contextlib
import functools
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ctr_tf.errors import UserError
from pipelines.sources.batches import batch_of
from pipelines.sources.columns import Column, check_type, coerce
from pipelines.sources.raw_files import RawFile, open_file
from pipelines.sources.source import Batch, Rejected, Shard

SHARD_ROWS = 1 << 20  # in whole row groups
BATCH_ROWS = 1 << 17  # that are read at once


def open_parquet(path: str) -> pq.ParquetFile:
    """Opens a file.

    Raises:
        FileNotFoundError: names the path.
        UserError: names the path of what is not Parquet.
    """
    try:
        file = pq.ParquetFile(open_file(path))
        _ = file.schema_arrow  # made when it is asked for
        return file
    except (pa.ArrowException, OSError, UnicodeError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise UserError(f"{path}: not a Parquet file, or cut off ({error})") from None


def parquet_shards(
    table: str, file: RawFile, columns: Sequence[Column], used: tuple[str, ...]
) -> list[Shard]:
    """Divides a file by its row groups.

    Args:
        table: of the file.
        file: to divide.
        columns: those the source reads.
        used: names of those that the table has.

    Raises:
        UserError: if a column cannot become what it must be, or the file is changed.
    """
    with open_parquet(file.path) as parquet:
        metadata, schema = parquet.metadata, parquet.schema_arrow
    for column in columns:
        if column.name in schema.names:
            check_type(column, schema.field(column.name).type, file.path)
    groups = range(metadata.num_row_groups)
    told = sum(metadata.row_group(group).num_rows for group in groups)
    if told != metadata.num_rows:
        raise UserError(
            f"{file.path}: not the Parquet file that was written: it has "
            f"{metadata.num_rows:,} rows. Received: row groups of {told:,}"
        )
    shards, start, first_row, rows = [], 0, 1, 0
    for group in groups:
        rows += metadata.row_group(group).num_rows
        if rows >= SHARD_ROWS or group == metadata.num_row_groups - 1:
            shards.append(file.shard(table, used, start, group + 1, first_row))
            start, first_row, rows = group + 1, first_row + rows, 0
    return shards or [file.shard(table, used, 0, 0)]


def read_parquet(shard: Shard, columns: Sequence[Column]) -> Iterator[Batch]:
    """Reads a shard of `parquet_shards`; a row group that is corrupt is rejected."""
    with open_parquet(shard.path) as file:
        present = [c.name for c in columns if c.name in file.schema_arrow.names]
        first_row = shard.first_row
        assert shard.stop is not None  # as `parquet_shards` makes them
        for group in range(shard.start, shard.stop):
            end = first_row + file.metadata.row_group(group).num_rows
            try:
                batches = file.iter_batches(
                    BATCH_ROWS, row_groups=[group], columns=present
                )
                for batch in batches:
                    numbers = np.arange(first_row, first_row + len(batch))
                    values = {name: batch.column(name) for name in present}
                    raw = functools.partial(_row, batch, first_row)
                    typed = coerce(values, columns, numbers, shard.origin, raw)
                    first_row += len(batch)
                    yield batch_of(shard, *typed, raw)
                if first_row < end:
                    raise pa.ArrowInvalid("it has fewer rows than the file says")
            except (OSError, pa.ArrowException, UnicodeError) as error:
                yield _unreadable(shard, columns, group, range(first_row, end), error)
            first_row = end


def _row(batch: pa.RecordBatch, first: int, number: int) -> dict:
    row = batch.slice(number - first, 1)
    try:
        return row.to_pylist()[0]
    except (UnicodeDecodeError, ValueError, OverflowError):  # such as a year 292,278
        columns = zip(row.schema.names, row.columns, strict=True)
        return {name: _plain_value(column) for name, column in columns}


def _plain_value(column: pa.Array) -> object:
    for kind in (column.type, pa.binary(), pa.int64()):
        with contextlib.suppress(pa.ArrowException, ValueError, OverflowError):
            return column.cast(kind)[0].as_py()
    return str(column)


def _unreadable(
    shard: Shard, columns: Sequence[Column], group: int, rows: range, error: Exception
) -> Batch:
    """The rows of a row group, or what is left of them, that cannot be read."""
    reason = f"corrupt row group {group} of {shard.origin}"
    row = {"error": str(error)}  # all that there is of it
    rejected = [Rejected(reason, f"{shard.origin}:{n}", row) for n in rows]
    empty = pa.table({c.name: pa.nulls(0, c.type) for c in columns})
    return batch_of(shard, empty, np.zeros(0, np.int64), rejected)
