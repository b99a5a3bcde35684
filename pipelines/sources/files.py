"""Reading raw files: Parquet by row groups, JSON lines and CSV by byte ranges.

Any file system that Arrow knows will do: a plain path, or a URI such as `s3://…`.
"""

import contextlib
import dataclasses
import functools
import logging
import posixpath
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.sources import text
from pipelines.sources.columns import Column, check_type, coerce
from pipelines.sources.raw_files import RawFile, open_file
from pipelines.sources.source import Batch, Rejected, Shard

SHARD_BYTES = 32 << 20  # of a text file
BLOCK_BYTES = 4 << 20  # of a text file that are parsed at once
SHARD_ROWS = 1 << 20  # of a Parquet file, in whole row groups
BATCH_ROWS = 1 << 17  # of a Parquet file that are read at once


_log = logging.getLogger(__name__)


def table_shards(
    table: str,
    paths: Sequence[str | RawFile],
    columns: Sequence[Column],
    report_unused: bool = False,
    dialect: text.Dialect = text.CSV,
) -> list[Shard]:
    """Divides the files of one table into shards, after a look at their columns.

    Args:
        table: its name.
        paths: files; one whose name does not tell its format has separated values.
        columns: those the source reads, optional ones included.
        report_unused: log which other columns the files have.
        dialect: of separated values.

    Raises:
        FileNotFoundError: names the path.
        ValueError: if a file lacks a required column, or is not what its name says.
    """
    raw_files = [p if isinstance(p, RawFile) else RawFile.named(p) for p in paths]
    raw_files = [dataclasses.replace(f, format=f.format or "csv") for f in raw_files]
    found = {}
    for file in raw_files:
        if file.is_empty:
            _log.warning("%s: the file is empty", file.path)
            continue
        names = _columns_found(file, dialect)
        found[file] = [*names, *(name for name, _ in file.constants)]
    known = {column.name for column in columns}
    for file, names in found.items():
        for column in columns:
            if column.required and column.name not in names:
                raise ValueError(
                    f"{file.path}: the required column '{column.name}' is missing. "
                    f"Columns found: {', '.join(names) or '(none)'}"
                )
    everything = {name for names in found.values() for name in names}
    unused = sorted(everything - known)
    if report_unused and unused:
        _log.info("%s: columns that are not used: %s", table, ", ".join(unused))
    # A field of JSON lines may come late: all are read, wherever they are.
    if any(file.format == "jsonl" for file in found):
        everything |= known
    used = tuple(column.name for column in columns if column.name in everything)
    shards = []
    for file in raw_files:
        if file not in found:
            shards.append(_shard(table, file, used, 0, 0))
        elif file.format == "parquet":
            shards += _parquet_shards(table, file, columns, used)
        else:
            shards += _text_shards(table, file, used, dialect)
    return shards


def _shard(table: str, file: RawFile, used, start, stop, first_row=1) -> Shard:
    return Shard(
        table,
        file.path,
        start,
        stop,
        first_row,
        used,
        file.format,
        file.compression,
        file.constants,
    )


def read_shard(
    shard: Shard, columns: Sequence[Column], dialect: text.Dialect = text.CSV
) -> Iterator[Batch]:
    """Reads one shard of `table_shards` with the types of `columns`.

    Args:
        shard: a shard.
        columns: as given to `table_shards`.
        dialect: as given to `table_shards`.
    """
    if shard.stop == 0:
        return
    columns = [column for column in columns if column.name in shard.columns]
    constants = dict(shard.constants)
    own = [column for column in columns if column.name not in constants]
    read = _read_parquet if shard.format == "parquet" else _read_text
    for batch in read(shard, own, dialect):
        if len(own) < len(columns):
            given = [column for column in columns if column.name in constants]
            batch = _with_constants(batch, given, constants)
        yield batch


def _with_constants(
    batch: Batch, columns: Sequence[Column], constants: dict[str, str | None]
) -> Batch:
    count = len(batch.rows)
    values = {
        column.name: pa.array([constants[column.name]] * count, pa.string())
        for column in columns
    }
    rows = {name: batch.rows[name] for name in batch.rows.column_names}
    typed, kept, rejected = coerce(
        values,
        columns,
        batch.numbers(),
        batch.origin,
        raw=lambda i: {**batch.rows.slice(i, 1).to_pylist()[0], **constants},
    )
    if rejected:  # the same value in every row
        return dataclasses.replace(
            batch, rows=batch.rows.slice(0, 0), rejected=batch.rejected + rejected,
            row_numbers=kept,
        )  # fmt: skip
    for column in columns:
        rows[column.name] = typed[column.name]
    return dataclasses.replace(batch, rows=pa.table(rows))


def origin(shard: Shard) -> str:
    """How people know the shard's file: its name, with its folder in a folder table."""
    folder, name = posixpath.split(shard.path)
    folder = posixpath.basename(folder)
    inside = folder.split(".")[0] == shard.table
    return f"{folder}/{name}" if inside else name


def _columns_found(file: RawFile, dialect: text.Dialect) -> list[str]:
    if file.format == "parquet":
        with _open_parquet(file.path) as parquet:
            return parquet.schema_arrow.names
    if dialect.names:
        return list(dialect.names)
    with _told(file.path, 1), file.open() as stream:
        head = next(text.line_blocks(stream, 0, None, text.HEAD_BYTES), b"")
    return text.field_names(head, file.format == "csv")


@contextlib.contextmanager
def _told(path: str, line: int):
    """Names the file that Arrow cannot read on, such as a compressed one cut off."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(
            f"{path}: cannot be read from line {line:,} on: it is cut off, or not what "
            f"its name says ({error})"
        ) from None


def _open_parquet(path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(open_file(path))
    except (pa.ArrowInvalid, OSError, UnicodeError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path}: not a Parquet file, or cut off ({error})") from None


def _parquet_shards(table, file: RawFile, columns, used) -> list[Shard]:
    with _open_parquet(file.path) as parquet:
        metadata, schema = parquet.metadata, parquet.schema_arrow
    for column in columns:
        if column.name in schema.names:
            check_type(column, schema.field(column.name).type, file.path)
    groups = range(metadata.num_row_groups)
    told = sum(metadata.row_group(group).num_rows for group in groups)
    if told != metadata.num_rows:
        raise ValueError(
            f"{file.path}: not the Parquet file that was written: it has "
            f"{metadata.num_rows:,} rows. Received: row groups of {told:,}"
        )
    shards, start, first_row, rows = [], 0, 1, 0
    for group in groups:
        rows += metadata.row_group(group).num_rows
        if rows >= SHARD_ROWS or group == metadata.num_row_groups - 1:
            shards.append(_shard(table, file, used, start, group + 1, first_row))
            start, first_row, rows = group + 1, first_row + rows, 0
    return shards or [_shard(table, file, used, 0, 0)]


def _read_parquet(
    shard: Shard, columns: Sequence[Column], dialect: text.Dialect
) -> Iterator[Batch]:
    with _open_parquet(shard.path) as file:
        present = [c.name for c in columns if c.name in file.schema_arrow.names]
        first_row = shard.first_row
        for group in range(shard.start, shard.stop):
            end = first_row + file.metadata.row_group(group).num_rows
            try:
                batches = file.iter_batches(
                    BATCH_ROWS, row_groups=[group], columns=present
                )
                for batch in batches:
                    numbers = np.arange(first_row, first_row + len(batch))
                    values = {name: batch.column(name) for name in present}
                    raw = functools.partial(_row, batch)
                    typed = coerce(values, columns, numbers, origin(shard), raw)
                    first_row += len(batch)
                    yield _batch(shard, *typed)
                if first_row < end:
                    raise pa.ArrowInvalid("it has fewer rows than the file says")
            except (OSError, pa.ArrowInvalid, UnicodeError) as error:
                yield _unreadable(shard, columns, group, range(first_row, end), error)
            first_row = end


def _row(batch: pa.RecordBatch, index: int) -> dict:
    row = batch.slice(index, 1)
    try:
        return row.to_pylist()[0]
    except UnicodeDecodeError:  # shown as bytes
        columns = zip(row.schema.names, row.columns, strict=True)
        return {
            name: (c.cast(pa.binary()) if pa.types.is_string(c.type) else c)[0].as_py()
            for name, c in columns
        }


def _unreadable(shard, columns, group: int, rows: range, error) -> Batch:
    """The rows of a row group, or what is left of them, that cannot be read."""
    reason = f"corrupt row group {group} of {origin(shard)}"
    rejected = [Rejected(reason, f"{origin(shard)}:{n}", str(error)) for n in rows]
    empty = pa.table({c.name: pa.nulls(0, c.type) for c in columns})
    return _batch(shard, empty, np.zeros(0, np.int64), rejected)


def _text_shards(
    table: str, file: RawFile, used: tuple[str, ...], dialect: text.Dialect
) -> list[Shard]:
    """Ranges that begin and end at line breaks, with the number of their first line."""
    shards = []
    with _told(file.path, 1), file.open() as stream:
        start, line = 0, 1
        if file.format == "csv" and not dialect.names:
            start, line = len(text.first_line(stream)), 2
        if file.compression:
            return [_shard(table, file, used, start, None, line)]
        size = stream.size()
        if size - start <= SHARD_BYTES:
            return [_shard(table, file, used, start, size, line)]
        for block in text.line_blocks(stream, start, size, SHARD_BYTES):
            stop = start + len(block)
            shards.append(_shard(table, file, used, start, stop, line))
            start, line = stop, line + text.count_lines(block)
    return shards


def _read_text(
    shard: Shard, columns: Sequence[Column], dialect: text.Dialect
) -> Iterator[Batch]:
    file = RawFile(shard.path, shard.format, shard.compression)
    if shard.format == "jsonl":
        parser = text.JsonParser(columns)
    else:
        with file.open() as stream:
            header = dialect.names or text.csv_fields(text.first_line(stream))
        parser = text.CsvParser(header, columns, dialect)
    line = shard.first_row
    with file.open() as stream:
        blocks = text.line_blocks(stream, shard.start, shard.stop, BLOCK_BYTES)
        while True:
            with _told(shard.path, line):
                block = next(blocks, None)
            if block is None:
                return
            rows, numbers, rejected = parser.parse(block, line, origin(shard))
            line += text.count_lines(block)
            if shard.format == "jsonl":
                rows = _without_absent(rows, columns)
            yield _batch(shard, rows, numbers, rejected)


def _without_absent(rows: pa.Table, columns: Sequence[Column]) -> pa.Table:
    """Leaves out optional columns of which the rows have no value."""
    return rows.select(
        [c.name for c in columns if c.required or rows[c.name].null_count < len(rows)]
    )


def _batch(shard: Shard, rows: pa.Table, numbers: np.ndarray, rejected) -> Batch:
    return Batch(
        table=shard.table,
        rows=rows,
        origin=origin(shard),
        first_row=int(numbers[0]) if len(numbers) else shard.first_row,
        rejected=rejected,
        row_numbers=numbers,
    )
