"""Files of raw tables → shards, after a look at their columns; shards → batches."""

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

import pyarrow as pa

from ctr_tf.errors import UserError
from pipelines.sources import text
from pipelines.sources.columns import Column, coerce
from pipelines.sources.parquet_files import (
    open_parquet,
    parquet_shards,
    read_parquet,
)
from pipelines.sources.raw_files import RawFile, readable
from pipelines.sources.source import Batch, Shard
from pipelines.sources.text_files import read_text, text_shards


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
        UserError: if a file lacks a required column, has one of those twice, or is not
            what its name says.
    """
    raw_files = [p if isinstance(p, RawFile) else RawFile.named(p) for p in paths]
    raw_files = [dataclasses.replace(f, format=f.format or "csv") for f in raw_files]
    heads = {file: _head(file, dialect) for file in raw_files}
    found = {file: head.names for file, head in heads.items() if not head.is_empty}
    _check_required(table, columns, heads)
    _check_unique(columns, heads)
    known = {column.name for column in columns}
    everything = {name for names in found.values() for name in names}
    unused = tuple(sorted(everything - known)) if report_unused else ()
    is_whole = all(head.is_whole for head in heads.values())
    absent = tuple(sorted(known - everything)) if is_whole else ()
    # A field of JSON lines may come late: all are read, wherever they are.
    if any(file.format == "jsonl" for file in found):
        everything |= known
    used = tuple(column.name for column in columns if column.name in everything)
    shards = []
    for file in raw_files:
        if file not in found:
            shards.append(file.shard(table, used, 0, 0))
        elif file.format == "parquet":
            shards += parquet_shards(table, file, columns, used)
        else:
            shards += text_shards(table, file, used, dialect)
    replace = dataclasses.replace
    return [replace(shard, unused=unused, absent=absent) for shard in shards]


@dataclasses.dataclass(frozen=True)
class _Head:
    """What the beginning of a file shows.

    Args:
        names: of its columns, those included that its folders give.
        is_whole: whether no other column can come; JSON lines tell it line by line.
        is_empty: whether the file has no byte.
    """

    names: tuple[str, ...] = ()
    is_whole: bool = True
    is_empty: bool = False


def _head(file: RawFile, dialect: text.Dialect) -> _Head:
    if file.is_empty:
        return _Head(is_empty=True)
    constants = tuple(name for name, _ in file.constants)
    if file.format == "parquet":
        with open_parquet(file.path) as parquet:
            return _Head((*parquet.schema_arrow.names, *constants))
    with readable(file.path, 1), file.open() as stream:
        head = stream.read(text.HEAD_BYTES)
        is_whole = not stream.read(1)
    if not head:  # of a compressed file
        return _Head(is_empty=True)
    is_csv = file.format == "csv"
    names = dialect.names or text.field_names(head, is_csv)
    # Of lines none of which is an object each is rejected by itself.
    is_whole = is_csv or (bool(names) and is_whole)
    return _Head((*names, *constants), is_whole)


def names_of(files: Iterable[RawFile]) -> set[str]:
    """The columns that the beginnings of files show."""
    return {name for file in files for name in _head(file, text.CSV).names}


def _check_required(
    table: str, columns: Sequence[Column], heads: dict[RawFile, _Head]
) -> None:
    """Raises UserError for a column that no row of a file can have.

    A field that some files of JSON lines have may be absent from others: that costs the
    rows that lack it.
    """
    lines = [head for file, head in heads.items() if file.format == "jsonl"]
    lines = [head for head in lines if not head.is_empty]
    somewhere = {name for head in lines for name in head.names}
    for file, head in heads.items():
        names: Collection[str] = head.names
        if file.format == "jsonl":
            if not all(head.is_whole for head in lines):
                continue
            names = somewhere
        for column in columns:
            if column.required and not head.is_empty and column.name not in names:
                raise UserError(
                    f"{file.path}: the required column '{column.name}' is missing. "
                    f"Columns found: {', '.join(head.names) or '(none)'}"
                )


def _check_unique(columns: Sequence[Column], heads: dict[RawFile, _Head]) -> None:
    """Raises UserError for a column of a file of which nobody can say which is meant.

    One that a folder gives stands for that of the file.
    """
    for file, head in heads.items():
        found = Counter(head.names)
        for column in columns:
            times = found[column.name]
            if times > 1 and column.name not in dict(file.constants):
                raise UserError(
                    f"{file.path}: the column '{column.name}' must be there once. "
                    f"Received: {times} columns of that name"
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
    if shard.is_empty:
        return
    columns = [column for column in columns if column.name in shard.columns]
    constants = dict(shard.constants)
    own = [column for column in columns if column.name not in constants]
    if shard.format == "parquet":
        batches = read_parquet(shard, own)
    else:
        batches = read_text(shard, own, dialect)
    for batch in batches:
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
        raw=batch.raw,
    )
    if rejected:  # the same value in every row
        return dataclasses.replace(
            batch, rows=batch.rows.slice(0, 0), rejected=batch.rejected + rejected,
            row_numbers=kept,
        )  # fmt: skip
    for column in columns:
        rows[column.name] = typed[column.name]
    return dataclasses.replace(batch, rows=pa.table(rows))
