"""Rows for the store, typed and refused as the jobs do it.

From Python objects, from JSON lines, from the files of a raw log.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.schema import Schema
from pipelines.sources.jsonl import Jsonl
from pipelines.sources.source import TABLES, Batch, Source
from pipelines.sources.text import JsonParser, Lines
from pipelines.validation import rejected_line, validate
from serving.online.asked import plain

_AHEAD = 60  # seconds by which clocks may differ


def typed_rows(
    table: str, rows: Iterable[Mapping], schema: Schema
) -> tuple[list[dict], list[str]]:
    """Rows of Python objects; see `typed_lines`."""
    lines = [_line(f"rows[{i}]", row) for i, row in enumerate(rows)]
    return typed_lines(table, lines, schema)


def _line(place: str, row: Mapping) -> bytes:
    """A row as a line of JSON."""
    try:
        return json.dumps({name: plain(value) for name, value in row.items()}).encode()
    except TypeError as error:
        raise UserError(f"`{place}` is not JSON: {error}. Received: {row!r}") from error


def typed_lines(
    table: str, lines: list[bytes], schema: Schema, first: int = 1
) -> tuple[list[dict], list[str]]:
    """Rows of JSON lines.

    Args:
        table: of the raw log.
        lines: one object each.
        schema: of the data set.
        first: number of the first line, for the rejected.

    Returns:
        Column → value, of the rows that are fit; and a line of `rejected/` of others.
    """
    if table not in TABLES:
        raise UserError(unknown_name("table", table, TABLES))
    if not lines:
        return [], []
    block = b"\n".join(lines)
    parser = JsonParser(Jsonl().columns(table, schema))
    found, numbers, rejected = parser.parse(block, first, table)
    batch = Batch(table, found, table, first, rejected, numbers, Lines(block, first))
    kept, told, _ = validate(batch, 0, schema)
    return python_rows(kept), told


def source_tables(
    source: Source, folder: str, schema: Schema
) -> Iterator[tuple[str, pa.Table, list[str]]]:
    """All rows of a raw log: table, rows that are fit, lines of the others."""
    for number, shard in enumerate(source.shards(folder, schema)):
        for batch in source.read(shard, schema):
            rows, rejected, _ = validate(batch, number, schema)
            yield shard.table, rows, rejected


def not_in_future(
    table: str, rows: list[dict], schema: Schema, origin: str
) -> tuple[list[dict], list[str]]:
    """Rows that have happened, and lines of `rejected/` of those that cannot have.

    One event of next year, taken for the latest, would make all others late. What may
    be ahead, as clocks differ, is taken off the hour by which others may be late.

    Args:
        table: of the raw log.
        rows: typed.
        schema: of the data set.
        origin: for the rejected.
    """
    if table not in ("exposures", "behaviors"):
        return rows, []
    latest = int((time.time() + _AHEAD) * schema.ticks)
    kept = [row for row in rows if row["time"] <= latest]
    if len(kept) == len(rows):
        return rows, []
    reason = f"time is more than {_AHEAD} s ahead of the clock"
    return kept, [
        rejected_line(table, reason, origin, row)
        for row in rows
        if row["time"] > latest
    ]


def python_rows(table: pa.Table) -> list[dict]:
    """Rows of a typed table as Python has them."""
    columns = {name: _values(table.column(name)) for name in table.column_names}
    return [
        dict(zip(columns, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]


def _values(column: pa.ChunkedArray) -> list:
    """Values as Python has them, NaN as None."""
    if pa.types.is_floating(column.type):
        values = column.to_numpy()
        return [None if np.isnan(v) else v for v in values.astype(float).tolist()]
    return column.to_pylist()
