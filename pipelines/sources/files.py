"""Reading raw files: Parquet by row groups, JSON lines and CSV by byte ranges.

Any file system that Arrow knows will do: a plain path, or a URI such as `s3://…`.
"""

import contextlib
import dataclasses
import fnmatch
import functools
import posixpath
import re
import urllib.parse
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from pipelines.sources import text
from pipelines.sources.columns import Column, check_type, coerce
from pipelines.sources.source import Batch, Rejected, Shard, Source

SUFFIXES = (".jsonl", ".csv", ".parquet")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}  # ending → Arrow's name
_PART = re.compile(r"-\d+-of-\d+$")
SHARD_BYTES = 32 << 20  # of a text file
BLOCK_BYTES = 4 << 20  # of a text file that are parsed at once
SHARD_ROWS = 1 << 20  # of a Parquet file, in whole row groups
BATCH_ROWS = 1 << 17  # of a Parquet file that are read at once

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
IGNORED = ("schema.yaml", "LICENSE*", "README*", "*.md")


@dataclasses.dataclass(frozen=True)
class RawFile:
    """A file of a raw table.

    Args:
        path: of the file.
        format: `"jsonl"`, `"csv"` (of separated values) or `"parquet"`; None where its
            name does not say.
        compression: Arrow's name of it, None for a plain file.
        stem: its name without all that, in lower case.
        constants: see `Shard`.
    """

    path: str
    format: str | None
    compression: str | None = None
    stem: str = ""
    constants: tuple[tuple[str, str | None], ...] = ()

    @classmethod
    def named(cls, path: str) -> "RawFile":
        """Reads a name: endings in any case, and parts such as `-00000-of-00002`."""
        stem = posixpath.basename(str(path)).lower()
        compression = next((e for e in COMPRESSIONS if stem.endswith(e)), None)
        stem = _PART.sub("", stem.removesuffix(compression or ""))
        ending = next((e for e in SUFFIXES if stem.endswith(e)), None)
        stem = _PART.sub("", stem.removesuffix(ending or ""))
        return cls(
            str(path),
            ending and ending[1:],
            COMPRESSIONS.get(compression),
            stem,
        )

    @property
    def is_empty(self) -> bool:
        """Whether it has no byte."""
        system, inner = _resolve(self.path)
        return system.get_file_info(inner).size == 0

    def open(self) -> pa.NativeFile:
        """Opens it; a compressed one can only be read from its beginning."""
        stream = open_file(self.path)
        if self.compression:
            return pa.CompressedInputStream(stream, self.compression)
        return stream


def files_below(folder: str) -> list[RawFile]:
    """All visible files in a folder and in the folders in it, by path.

    A part whose name has no ending is of the folder's format, or of that which its
    first bytes show. Folders such as `dt=2023-11-20` give their files a column.
    """
    system, inner = _resolve(folder)
    infos = system.get_file_info(fs.FileSelector(inner, recursive=True))
    found = []
    for info in sorted(infos, key=lambda info: info.path):
        parts = posixpath.relpath(info.path, inner).split("/")
        if info.type == fs.FileType.Directory or any(p[0] in "._" for p in parts):
            continue
        if _matches(parts[-1], IGNORED):
            continue
        file = RawFile.named(join(folder, *parts))
        form = file.format or RawFile.named(folder).format
        if form is None and "." in file.stem:
            continue  # of no known format: `check_all_read` tells of it
        keys = [part.split("=", 1) for part in parts[:-1] if "=" in part]
        constants = tuple((key, _folder_value(value)) for key, value in keys)
        form = form or _shown_format(file)
        found.append(dataclasses.replace(file, format=form, constants=constants))
    return found


def _folder_value(text: str) -> str | None:
    return None if text == _NO_VALUE else urllib.parse.unquote(text)


def _shown_format(file: RawFile) -> str:
    with file.open() as stream:
        head = stream.read(64).lstrip()
    if head.startswith(b"PAR1"):
        return "parquet"
    return "jsonl" if head.startswith(b"{") else "csv"


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(name.lower(), p.strip().lower()) for p in patterns)


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


def check_all_read(
    source: Source, folder: str, shards: Sequence[Shard], ignore: str = ""
) -> list[str]:
    """Holds the entries of a folder against what is read of it.

    Args:
        source: of the logs.
        folder: of the raw files.
        shards: that are read.
        ignore: further patterns of names that may be left, with commas between.

    Returns:
        Names of what is not read.

    Raises:
        ValueError: names an entry that nobody reads, and nobody said may be left.
    """
    patterns = (*IGNORED, *source.ignored, *filter(None, ignore.split(",")))
    beside = {join(folder, name) for name in source.read_beside}
    read = {shard.path for shard in shards} | beside
    ignored = []
    for path in _unread(str(folder), read):
        name = posixpath.relpath(path, str(folder))
        if not any(_matches(part, patterns) for part in (name, *name.split("/"))):
            raise ValueError(
                f"Source '{source.name}' does not read '{path}'. Take it "
                "out of the folder, rename it to what the source reads, or say that it "
                f"may be left: --ignore '{name}'. Left anyway are "
                f"{', '.join(patterns)}. Received: {name}"
            )
        ignored.append(name)
    return ignored


def _unread(folder: str, read: set[str]) -> Iterator[str]:
    """Visible files of a folder that are not read, and folders nothing of which is."""
    for info in list_folder(folder):
        path = join(folder, info.base_name)
        if path in read:
            continue
        if any(other.startswith(f"{path}/") for other in read):
            yield from _unread(path, read)
        else:
            yield path


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
    heads = {file: _head(file, dialect) for file in raw_files}
    found = {file: head.names for file, head in heads.items() if not head.is_empty}
    _check_required(table, columns, heads)
    known = {column.name for column in columns}
    everything = {name for names in found.values() for name in names}
    unused = tuple(sorted(everything - known)) if report_unused else ()
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
    return [dataclasses.replace(shard, unused=unused) for shard in shards]


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
        with _open_parquet(file.path) as parquet:
            return _Head((*parquet.schema_arrow.names, *constants))
    with _told(file.path, 1), file.open() as stream:
        head = stream.read(text.HEAD_BYTES)
        is_whole = not stream.read(1)
    if not head:  # of a compressed file
        return _Head(is_empty=True)
    is_csv = file.format == "csv"
    names = dialect.names or text.field_names(head, is_csv)
    # Of lines none of which is an object each is rejected by itself.
    is_whole = is_csv or (bool(names) and is_whole)
    return _Head((*names, *constants), is_whole)


def _check_required(
    table: str, columns: Sequence[Column], heads: dict[RawFile, _Head]
) -> None:
    """Raises ValueError for a column that no row of a file can have.

    A field that some files of JSON lines have may be absent from others: that costs the
    rows that lack it.
    """
    lines = [head for file, head in heads.items() if file.format == "jsonl"]
    lines = [head for head in lines if not head.is_empty]
    somewhere = {name for head in lines for name in head.names}
    for file, head in heads.items():
        names = head.names
        if file.format == "jsonl":
            if not all(head.is_whole for head in lines):
                continue
            names = somewhere
        for column in columns:
            if column.required and not head.is_empty and column.name not in names:
                raise ValueError(
                    f"{file.path}: the required column '{column.name}' is missing. "
                    f"Columns found: {', '.join(head.names) or '(none)'}"
                )


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
    if shard.is_empty:
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
        file = pq.ParquetFile(open_file(path))
        _ = file.schema_arrow  # made when it is asked for
        return file
    except (pa.ArrowException, OSError, UnicodeError) as error:
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
                    raw = functools.partial(_row, batch, first_row)
                    typed = coerce(values, columns, numbers, origin(shard), raw)
                    first_row += len(batch)
                    yield _batch(shard, *typed, raw)
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


def _unreadable(shard, columns, group: int, rows: range, error) -> Batch:
    """The rows of a row group, or what is left of them, that cannot be read."""
    reason = f"corrupt row group {group} of {origin(shard)}"
    row = {"error": str(error)}  # all that there is of it
    rejected = [Rejected(reason, f"{origin(shard)}:{n}", row) for n in rows]
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
            raw = text.Lines(block, line, dialect.encoding)
            line += text.count_lines(block)
            if shard.format == "jsonl":
                rows = _without_absent(rows, columns)
            yield _batch(shard, rows, numbers, rejected, raw)


def _without_absent(rows: pa.Table, columns: Sequence[Column]) -> pa.Table:
    """Leaves out optional columns of which the rows have no value."""
    return rows.select(
        [c.name for c in columns if c.required or rows[c.name].null_count < len(rows)]
    )


def _batch(shard: Shard, rows: pa.Table, numbers, rejected, raw=None) -> Batch:
    return Batch(
        table=shard.table,
        rows=rows,
        origin=origin(shard),
        first_row=int(numbers[0]) if len(numbers) else shard.first_row,
        rejected=rejected,
        row_numbers=numbers,
        raw=raw,
    )
