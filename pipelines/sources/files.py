"""Reading raw files: Parquet by row groups, JSON lines and CSV by byte ranges.

Any file system that Arrow knows will do: a plain path, or a URI such as `s3://…`.
"""

import logging
import posixpath
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from pipelines.sources import text
from pipelines.sources.columns import Column, check_type, coerce
from pipelines.sources.source import Batch, Shard

SUFFIXES = (".jsonl", ".csv", ".parquet")
SHARD_BYTES = 32 << 20  # of a text file
BLOCK_BYTES = 4 << 20  # of a text file that are parsed at once
SHARD_ROWS = 1 << 20  # of a Parquet file, in whole row groups
BATCH_ROWS = 1 << 17  # of a Parquet file that are read at once

_log = logging.getLogger(__name__)


def open_file(path: str) -> pa.NativeFile:
    """Opens a file for random access.

    Raises:
        FileNotFoundError: names the path.
    """
    system, inner = _resolve(path)
    try:
        return system.open_input_file(inner)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file '{path}'.") from None


def list_folder(folder: str) -> list[fs.FileInfo]:
    """The visible files and folders in a folder, by name.

    Raises:
        FileNotFoundError: names the folder.
    """
    system, inner = _resolve(folder)
    if system.get_file_info(inner).type != fs.FileType.Directory:
        raise FileNotFoundError(f"There is no folder '{folder}'.")
    infos = system.get_file_info(fs.FileSelector(inner))
    visible = (info for info in infos if info.base_name[0] not in "._")
    return sorted(visible, key=lambda info: info.base_name)


def join(folder: str, *names: str) -> str:
    """The path of something in a folder, plain or URI."""
    return posixpath.join(str(folder), *names)


def find_file(folder: str, name: str, obtained: str | None = None) -> str:
    """The path of a file that a source needs.

    Args:
        folder: where it should be.
        name: of the file.
        obtained: where people get it.

    Raises:
        FileNotFoundError: names the file, what the folder holds instead, and where the
            file is obtained.
    """
    names = [info.base_name for info in list_folder(folder)]
    if name not in names:
        raise missing_file(folder, f"'{name}'", names, obtained)
    return join(folder, name)


def missing_file(
    folder: str, what: str, found: Sequence[str], obtained: str | None = None
) -> FileNotFoundError:
    """Words the error for a file that a folder does not hold.

    Args:
        folder: where it should be.
        what: the file, or the files one of which would do.
        found: the names of what the folder holds.
        obtained: where people get it.
    """
    source = f" It is obtained from {obtained}." if obtained else ""
    return FileNotFoundError(
        f"There is no {what} in '{folder}'.{source} Found: {', '.join(found) or '-'}."
    )


def table_shards(
    table: str,
    paths: Sequence[str],
    columns: Sequence[Column],
    report_unused: bool = False,
    dialect: text.Dialect = text.CSV,
) -> list[Shard]:
    """Divides the files of one table into shards, after a look at their columns.

    Args:
        table: its name.
        paths: files, each `.jsonl`, `.parquet`, or one of separated values.
        columns: those the source reads, optional ones included.
        report_unused: log which other columns the files have.
        dialect: of separated values.

    Raises:
        FileNotFoundError: names the path.
        ValueError: if a file lacks a required column, or is not what its name says.
    """
    found = {path: _columns_found(path, dialect) for path in paths}
    known = {column.name for column in columns}
    for path, names in found.items():
        for column in columns:
            if column.required and column.name not in names:
                raise ValueError(
                    f"{path}: the required column '{column.name}' is missing. "
                    f"Columns found: {', '.join(names) or '(none)'}"
                )
    everything = {name for names in found.values() for name in names}
    unused = sorted(everything - known)
    if report_unused and unused:
        _log.info("%s: columns that are not used: %s", table, ", ".join(unused))
    used = tuple(column.name for column in columns if column.name in everything)
    shards = []
    for path in paths:
        if path.endswith(".parquet"):
            shards += _parquet_shards(table, path, columns, used)
        else:
            shards += _text_shards(table, path, used, dialect)
    return shards


def read_shard(
    shard: Shard, columns: Sequence[Column], dialect: text.Dialect = text.CSV
) -> Iterator[Batch]:
    """Reads one shard of `table_shards` with the types of `columns`.

    Args:
        shard: a shard.
        columns: as given to `table_shards`.
        dialect: as given to `table_shards`.
    """
    columns = [column for column in columns if column.name in shard.columns]
    if shard.path.endswith(".parquet"):
        yield from _read_parquet(shard, columns)
    else:
        yield from _read_text(shard, columns, dialect)


def origin(shard: Shard) -> str:
    """How people know the shard's file: its name, with its folder in a folder table."""
    folder, name = posixpath.split(shard.path)
    folder = posixpath.basename(folder)
    inside = folder.split(".")[0] == shard.table
    return f"{folder}/{name}" if inside else name


def _resolve(path: str) -> tuple[fs.FileSystem, str]:
    if "://" in str(path):
        return fs.FileSystem.from_uri(str(path))
    return fs.LocalFileSystem(), str(path)


def _columns_found(path: str, dialect: text.Dialect) -> list[str]:
    if path.endswith(".parquet"):
        with _open_parquet(path) as file:
            return file.schema_arrow.names
    if dialect.names:
        return list(dialect.names)
    with open_file(path) as stream:
        head = next(text.line_blocks(stream, 0, None, text.HEAD_BYTES), b"")
    return text.field_names(head, path)


def _open_parquet(path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(open_file(path))
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not a Parquet file, or cut off ({error})") from None


def _parquet_shards(table, path, columns, used) -> list[Shard]:
    with _open_parquet(path) as file:
        metadata, schema = file.metadata, file.schema_arrow
    for column in columns:
        if column.name in schema.names:
            check_type(column, schema.field(column.name).type, path)
    shards, start, first_row, rows = [], 0, 1, 0
    for group in range(metadata.num_row_groups):
        rows += metadata.row_group(group).num_rows
        if rows >= SHARD_ROWS or group == metadata.num_row_groups - 1:
            shards.append(Shard(table, path, start, group + 1, first_row, used))
            start, first_row, rows = group + 1, first_row + rows, 0
    return shards


def _read_parquet(shard: Shard, columns: Sequence[Column]) -> Iterator[Batch]:
    with _open_parquet(shard.path) as file:
        present = [c.name for c in columns if c.name in file.schema_arrow.names]
        first_row = shard.first_row
        batches = file.iter_batches(
            BATCH_ROWS, row_groups=range(shard.start, shard.stop), columns=present
        )
        for batch in batches:
            numbers = np.arange(first_row, first_row + len(batch))
            first_row += len(batch)
            values = {name: batch.column(name) for name in present}
            yield _batch(
                shard,
                *coerce(
                    values,
                    columns,
                    numbers,
                    origin(shard),
                    raw=lambda i, batch=batch: batch.slice(i, 1).to_pylist()[0],
                ),
            )


def _text_shards(
    table: str, path: str, used: tuple[str, ...], dialect: text.Dialect
) -> list[Shard]:
    """Ranges that begin and end at line breaks, with the number of their first line."""
    shards = []
    with open_file(path) as stream:
        start, line = 0, 1
        if path.endswith(".csv") and not dialect.names:
            start, line = len(text.first_line(stream)), 2
        size = stream.size()
        if size - start <= SHARD_BYTES:
            return [Shard(table, path, start, size, line, used)]
        for block in text.line_blocks(stream, start, size, SHARD_BYTES):
            stop = start + len(block)
            shards.append(Shard(table, path, start, stop, line, used))
            start, line = stop, line + text.count_lines(block)
    return shards


def _read_text(
    shard: Shard, columns: Sequence[Column], dialect: text.Dialect
) -> Iterator[Batch]:
    with open_file(shard.path) as stream:
        if shard.path.endswith(".jsonl"):
            parser = text.JsonParser(columns)
        else:
            header = dialect.names or text.csv_fields(text.first_line(stream))
            parser = text.CsvParser(header, columns, dialect)
        line = shard.first_row
        blocks = text.line_blocks(stream, shard.start, shard.stop, BLOCK_BYTES)
        for block in blocks:
            parsed = parser.parse(block, line, origin(shard))
            line += text.count_lines(block)
            yield _batch(shard, *parsed)


def _batch(shard: Shard, rows: pa.Table, numbers: np.ndarray, rejected) -> Batch:
    return Batch(
        table=shard.table,
        rows=rows,
        origin=origin(shard),
        first_row=int(numbers[0]) if len(numbers) else shard.first_row,
        rejected=rejected,
        row_numbers=numbers,
    )
