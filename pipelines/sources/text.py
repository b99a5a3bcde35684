"""Blocks of text lines, JSON or separated values, as typed columns.

Arrow's readers parse a whole block at once. Where that fails, or where a block's rows
are not exactly its lines, the block is parsed again line by line, so that a bad line
is rejected by itself and all others survive. A row is one line: values hold no line
breaks.
"""

import csv
import dataclasses
import functools
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.json as arrow_json

from pipelines.sources.columns import Column, coerce, whole_number
from pipelines.sources.source import Rejected

HEAD_BYTES = 1 << 20  # read to learn which fields a JSON lines file has
_PARSE_ERRORS = (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UNIT_SEPARATOR = "\x1f"  # stands in for separators of several characters

_FEW_LINES = 64
_BETWEEN_OBJECTS = re.compile(rb"}[ \t\r]*\n(?=[ \t]*{)")


class _Number(str):
    """A number with a point or an exponent, as it stands in the file."""


Parsed = tuple[pa.Table, np.ndarray, list[Rejected]]


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a text file writes its rows; by default as the general format's CSV does.

    Args:
        names: of the columns, where the file has no header line.
        separator: between two values; may have several characters.
        quotes: whether a value in double quotes may hold the separator.
        encoding: of the text.
    """

    names: tuple[str, ...] | None = None
    separator: str = ","
    quotes: bool = True
    encoding: str = "utf-8"

    @property
    def delimiter(self) -> str:
        """The one character that separates the values of a `plain` block."""
        return self.separator if len(self.separator) == 1 else _UNIT_SEPARATOR

    def plain(self, block: bytes) -> bytes:
        """A block in UTF-8, its values separated by one character."""
        if self.encoding != "utf-8":
            block = block.decode(self.encoding).encode("utf-8")
        if self.separator != self.delimiter:
            block = block.replace(self.separator.encode(), self.delimiter.encode())
        return block


CSV = Dialect()


def line_blocks(
    stream: pa.NativeFile, start: int, stop: int | None, size: int
) -> Iterator[bytes]:
    """Reads a byte range as blocks of whole lines.

    Args:
        stream: a file.
        start: first byte, the beginning of a line.
        stop: one past the last byte, the end of a line; None for the file's end, which
            need not be known.
        size: of a block, about; a longer line makes a longer block.
    """
    if stream.seekable():
        stream.seek(start)
    else:
        stream.read(start)
    stop = sys.maxsize if stop is None else stop
    rest = b""
    while start < stop:
        chunk = stream.read(min(size, stop - start))
        if not chunk:
            break
        start += len(chunk)
        end = len(chunk) if start >= stop else chunk.rfind(b"\n") + 1
        if end:
            yield rest + chunk[:end]
            rest = chunk[end:]
        else:
            rest += chunk
    if rest:
        yield rest


def first_line(stream: pa.NativeFile) -> bytes:
    """The first line of a file, its line break included."""
    block = next(line_blocks(stream, 0, None, 1 << 16), b"")
    return block[: block.find(b"\n") + 1] or block


def count_lines(block: bytes) -> int:
    """Lines of a block, the last one with or without its line break."""
    return block.count(b"\n") + (not block.endswith(b"\n"))


class Lines:
    """Lines of a block by their numbers, as they stand in the file.

    Args:
        block: whole lines.
        first: number of the first one.
        encoding: of the text; a line that is none is given as bytes.
    """

    def __init__(self, block: bytes, first: int, encoding: str = "utf-8"):
        self._block = block
        self._first = first
        self._encoding = encoding

    @functools.cached_property
    def _lines(self) -> list[bytes]:
        return self._block.split(b"\n")

    def __call__(self, number: int) -> str | bytes:
        """The line, without its line break."""
        line = self._lines[number - self._first].rstrip(b"\r")
        try:
            return line.decode(self._encoding)
        except UnicodeDecodeError:
            return line


def csv_fields(line: bytes) -> list[str]:
    """The names in the header line of a CSV file, without the spaces around them."""
    text = line.removeprefix(_BYTE_ORDER_MARK).decode("utf-8", "replace")
    return [name.strip() for name in next(csv.reader([text.rstrip("\r\n")]), [])]


def field_names(head: bytes, is_csv: bool) -> list[str]:
    """The columns of a text file: a header's, or the fields of JSON objects.

    Args:
        head: the file's beginning, whole lines.
        is_csv: whether it has a header.
    """
    if is_csv:
        return csv_fields(head.split(b"\n", 1)[0])
    names: dict[str, None] = {}
    for line in head.splitlines():
        row = _json_object(line)
        names.update(dict.fromkeys(row or ()))
    return list(names)


class JsonParser:
    """Parses blocks of JSON lines.

    Arrow is told the type of every column, and guesses none: first that wanted, then
    that in which a block's first row has it. What neither can hold exactly is halved
    until a few lines are left, which are read one by one.

    Args:
        columns: those wanted; other fields are ignored.
    """

    def __init__(self, columns: Sequence[Column]):
        self._columns = columns

    def parse(self, block: bytes, first_line: int, origin: str) -> Parsed:
        """Good rows, their line numbers, and the rejected lines."""
        lines = count_lines(block)
        types = {column.name: column.type for column in self._columns}
        for choice in (types, self._types_found(block)):
            table = _read_json(block, choice)
            if table is not None and len(table) == lines and _one_object_a_line(block):
                return _coerce_block(table, self._columns, block, first_line, origin)
        if lines <= _FEW_LINES:
            return _parse_lines(block, first_line, origin, self._columns, _json_object)
        middle = block.find(b"\n", len(block) // 2) + 1
        if not 0 < middle < len(block):
            middle = block.rfind(b"\n", 0, len(block) // 2) + 1
        before, after = block[:middle], block[middle:]
        first = self.parse(before, first_line, origin)
        second = self.parse(after, first_line + count_lines(before), origin)
        return (
            pa.concat_tables([first[0], second[0]]).combine_chunks(),
            np.concatenate([first[1], second[1]]),
            first[2] + second[2],
        )

    def _types_found(self, block: bytes) -> dict[str, pa.DataType]:
        """Types in which the block's first row has the columns."""
        row = _json_object(block[: block.find(b"\n") + 1] or block) or {}
        types = {}
        for column in self._columns:
            types[column.name] = _type_found(row.get(column.name), column.type)
        return types


def _type_found(value: object, wanted: pa.DataType) -> pa.DataType:
    if isinstance(value, list):
        single = wanted.value_type if pa.types.is_list(wanted) else wanted
        return pa.list_(_type_found(value[0] if value else None, single))
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        return wanted if pa.types.is_floating(wanted) else pa.int64()
    if isinstance(value, _Number):  # exact in no type of Arrow's but its text
        return wanted if pa.types.is_floating(wanted) else pa.null()
    return pa.string() if isinstance(value, str) else wanted


def _read_json(block: bytes, types: dict[str, pa.DataType]) -> pa.Table | None:
    try:
        return arrow_json.read_json(
            pa.BufferReader(block),
            arrow_json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            arrow_json.ParseOptions(
                explicit_schema=pa.schema(list(types.items())),
                unexpected_field_behavior="ignore",
            ),
        )
    except _PARSE_ERRORS:
        return None


def _one_object_a_line(block: bytes) -> bool:
    """Whether every line begins and ends as an object does, none with two of them.

    Holds where Arrow found as many objects as there are lines.
    """
    ends = count_lines(block) - 1
    if block.count(b"}\n{") == ends:
        return True
    return len(_BETWEEN_OBJECTS.findall(block)) == ends


class CsvParser:
    """Parses blocks of lines of separated values.

    Args:
        header: the file's column names.
        columns: those wanted; others are ignored.
        dialect: how the lines are written.
    """

    def __init__(
        self,
        header: Sequence[str],
        columns: Sequence[Column],
        dialect: Dialect = CSV,
    ):
        self._header = list(header)
        self._columns = columns
        self._dialect = dialect
        self._layout = arrow_csv.ParseOptions(
            delimiter=dialect.delimiter, quote_char='"' if dialect.quotes else False
        )
        self._options = arrow_csv.ConvertOptions(
            include_columns=[c.name for c in columns if c.name in header],
            # Values are typed by their columns, one by one, not by Arrow's guess.
            column_types={column.name: pa.string() for column in columns},
            null_values=[""],
            strings_can_be_null=True,
        )

    def parse(self, block: bytes, first_line: int, origin: str) -> Parsed:
        """Good rows, their line numbers, and the rejected lines."""
        # To Arrow a carriage return alone ends a line.
        if block.count(b"\r") != block.count(b"\r\n"):
            return self._parse_lines(block, first_line, origin)
        try:
            plain = self._dialect.plain(block)
            table = arrow_csv.read_csv(
                pa.BufferReader(plain),
                arrow_csv.ReadOptions(
                    use_threads=False,
                    block_size=len(plain) + 1,
                    column_names=self._header,
                ),
                self._layout,
                self._options,
            )
        except _PARSE_ERRORS:
            table = None
        if table is not None and len(table) == count_lines(block):
            encoding = self._dialect.encoding
            return _coerce_block(
                table, self._columns, block, first_line, origin, encoding
            )
        return self._parse_lines(block, first_line, origin)

    def _parse_lines(self, block: bytes, first_line: int, origin: str) -> Parsed:
        encoding = self._dialect.encoding
        return _parse_lines(
            block, first_line, origin, self._columns, self._row, encoding
        )

    def _row(self, line: bytes) -> dict | None:
        dialect = self._dialect
        quoting: Any = csv.QUOTE_MINIMAL if dialect.quotes else csv.QUOTE_NONE
        try:
            text = dialect.plain(line).decode("utf-8")
            fields = next(
                csv.reader(
                    [text], delimiter=dialect.delimiter, quoting=quoting, strict=True
                )
            )
        except (csv.Error, UnicodeDecodeError):
            return None
        if len(fields) != len(self._header):
            return None
        return {
            name: value or None
            for name, value in zip(self._header, fields, strict=True)
        }


def _json_object(line: bytes) -> dict | None:
    try:
        row = json.loads(line, parse_float=_Number)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _value(value: object, wanted: pa.DataType) -> object:
    """A value of one row; a number as exact as the column can hold it."""
    if isinstance(value, list) and pa.types.is_list(wanted):
        values = [_value(single, wanted.value_type) for single in value]
        if len({type(single) for single in values if single is not None}) > 1:
            values = [_as_text(single) for single in values]
        return values
    if not isinstance(value, _Number):
        return value
    if pa.types.is_floating(wanted):
        return float(value)
    whole = whole_number(value)
    if whole is None:
        return str(value)
    return whole if pa.types.is_integer(wanted) else str(whole)


def _as_text(value: object) -> object:
    """One of a list's values of several types, typed by its text like all others."""
    if isinstance(value, bool):
        return json.dumps(value)
    return str(value) if isinstance(value, int | float) else value


def _coerce_block(
    table: pa.Table,
    columns: Sequence[Column],
    block: bytes,
    first_line: int,
    origin: str,
    encoding: str = "utf-8",
) -> Parsed:
    numbers = np.arange(first_line, first_line + len(table))
    values = dict(zip(table.column_names, table.columns, strict=True))
    return coerce(values, columns, numbers, origin, Lines(block, first_line, encoding))


def _parse_lines(
    block: bytes,
    first_line: int,
    origin: str,
    columns: Sequence[Column],
    parse: Callable[[bytes], dict | None],
    encoding: str = "utf-8",
) -> Parsed:
    rows, numbers, rejected = [], [], []
    raw = Lines(block, first_line, encoding)
    for number, line in enumerate(block.removesuffix(b"\n").split(b"\n"), first_line):
        line = line.rstrip(b"\r")
        if not line.strip():
            continue
        row = parse(line)
        if row is None:
            source = f"{origin}:{number}"
            rejected.append(Rejected("unparsable", source, raw(number)))
            continue
        rows.append(row)
        numbers.append(number)
    values = {
        column.name: [_value(row.get(column.name), column.type) for row in rows]
        for column in columns
    }
    table, kept, more = coerce(
        values, columns, np.array(numbers, np.int64), origin, raw
    )
    return table, kept, rejected + more
