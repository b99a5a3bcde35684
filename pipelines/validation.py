"""Which raw rows are fit for use, and what becomes of those that are not.

Every row of a batch is either kept, with its columns in the types of the schema and its
time as the log counts it, or put aside with a reason. A row has one reason, the first
of: a required field is missing, a value is not of its type, the time is impossible, the
label is neither 0 nor 1.
"""

import base64
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.errors import UserError
from ctr_tf.schema import TIME_UNITS, USER_KEY, Schema
from ctr_tf.time import MAX_TIME, MIN_TIME
from pipelines.sources.columns import Column, canonical_columns, typed
from pipelines.sources.source import Batch

ROW = "_row"  # where a row came from: its shard and its number there
ORIGIN = b"origin"
ROW_BITS = 40


def rejected_line(table: str, reason: str, source: str, row: str | bytes | dict) -> str:
    """One line of `rejected/`, JSON, from which the row can be read again.

    Args:
        table: the raw table.
        reason: why it is unfit.
        source: where it stands.
        row: as `Rejected` has it; bytes are written in base64 as `row_base64`.
    """
    line = {"table": table, "reason": reason, "source": source, "row": row}
    if isinstance(row, bytes):
        line["row_base64"] = base64.b64encode(row).decode()
        del line["row"]
    return json.dumps(line, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    return str(value)


def rejected_rows(
    name: str, table: pa.Table, index: np.ndarray, reason: str, origins: dict[int, str]
) -> list[str]:
    """Lines of `rejected/` for rows that a later step found unfit.

    Args:
        name: of the raw table.
        table: validated rows, with their `ROW`.
        index: positions of the unfit ones.
        reason: the same for all.
        origins: shard number → file, see `origins_of`.
    """
    lines = []
    for row in table.take(pa.array(index, pa.int64())).to_pylist():
        place = row.pop(ROW)
        origin = origins[place >> ROW_BITS]
        source = f"{origin}:{place & ((1 << ROW_BITS) - 1)}"
        lines.append(rejected_line(name, reason, source, row))
    return lines


def origins_of(tables: list[pa.Table]) -> dict[int, str]:
    """Shard number → file of the rows in these tables."""
    origins = {}
    for table in tables:
        if len(table):
            shard = table.column(ROW)[0].as_py() >> ROW_BITS
            origins[shard] = table.schema.metadata[ORIGIN].decode()
    return origins


def validate(
    batch: Batch, shard: int, schema: Schema
) -> tuple[pa.Table, list[str], int]:
    """Keeps the rows that are fit for use.

    Args:
        batch: as a source read it.
        shard: number of the shard it came from.
        schema: of the data set.

    Returns:
        The rows kept: known columns only, canonical types, `time` in the log's unit,
        `ROW`; a line of `rejected/` for every other row, those of the reader included;
        and how many of those were clicked, as far as that is known.
    """
    rejected = list(batch.rejected)
    reasons = np.full(len(batch.rows), "", object)
    all_clicked = batch.table == "exposures" and schema.all_clicked
    if all_clicked and schema.labels[0] in batch.rows.column_names:
        raise UserError(
            "By the schema's `all_clicked` no row has the label "
            f"'{schema.labels[0]}'. Received: {batch.origin}, which has it"
        )
    wanted = canonical_columns(batch.table, schema, _id_type(batch.rows))
    columns = {}
    for column in wanted:
        if column.name in batch.rows.column_names:
            columns[column.name], bad = _typed(batch.rows, column)
            for i, fault in bad.items():
                reasons[i] = reasons[i] or f"bad value of {column.name}, {fault}"
    required = [column.name for column in wanted if column.required]
    for name in required:
        missing = np.ones(len(reasons), bool)
        if name in columns:
            missing = _mask(columns[name].is_null())
        _reject(reasons, missing, f"missing field {name}")
    if "time" in columns:
        _check_time(columns["time"], schema.time_unit, reasons)
        if "click_time" in columns:
            _check_click_time(columns, schema.ticks, reasons)
    for label in schema.labels if batch.table == "exposures" else ():
        if label in columns:
            value = pc.fill_null(columns[label], 0).to_numpy(zero_copy_only=False)
            unfit = (value != 0) & (value != 1)
            _reject(reasons, unfit, f"label {label} is neither 0 nor 1")
    clicked = sum(r.clicked for r in batch.rejected)
    if batch.table == "exposures" and schema.labels[0] in columns:
        is_click = _mask(pc.equal(columns[schema.labels[0]], 1))
        clicked += int((is_click & (reasons != "")).sum())
    if batch.table == "exposures":
        columns |= _of_clicks(columns, len(reasons), schema)
    if all_clicked:
        clicked = len(batch.rejected) + int((reasons != "").sum())
        columns[schema.labels[0]] = pa.array(np.ones(len(reasons), np.int8))
    columns = {
        name: values
        for name, values in columns.items()
        if name in required or values.null_count < len(values)
    }
    columns[ROW] = pa.array(batch.numbers() + (shard << ROW_BITS), pa.int64())
    table = pa.table(columns, metadata={ORIGIN: batch.origin})
    if (reasons != "").any():
        for reason in sorted(set(reasons) - {""}):
            rejected += batch.reject(np.flatnonzero(reasons == reason), reason)
        table = table.filter(pa.array(reasons == ""))
    lines = [
        rejected_line(batch.table, entry.reason, entry.source, entry.raw)
        for entry in rejected
    ]
    return table, lines, clicked


def _of_clicks(
    columns: dict[str, pa.Array], count: int, schema: Schema
) -> dict[str, pa.Array]:
    """What exposures become as behaviors, where the schema says it and no row does."""
    found = {}
    for feature in schema.of("behavior"):
        if feature.of_clicks is None:
            continue
        name, kind = f"behavior_{feature.name}", feature.arrow_type
        own = columns.get(name, pa.nulls(count, kind))
        found[name] = pc.fill_null(own, pa.scalar(feature.of_clicks, kind))
    return found


def _typed(rows: pa.Table, column: Column) -> tuple[pa.Array, dict[int, str]]:
    """A column in its type, and the rows whose value cannot have it.

    What the reader has typed already stays as it is, and so does a whole number that
    is a request's id.
    """
    raw = rows.column(column.name).combine_chunks()
    if column.name == "request_id" and pa.types.is_integer(raw.type):
        return raw.cast(pa.int64()), {}
    if raw.type == column.type and (pa.types.is_string(raw.type) or not column.feature):
        return raw, {}
    return typed(raw, column, len(raw))


def _id_type(rows: pa.Table) -> pa.DataType:
    present = USER_KEY in rows.column_names
    integer = present and pa.types.is_integer(rows.schema.field(USER_KEY).type)
    return pa.int64() if integer else pa.string()


def _check_time(raw: pa.Array, unit: str, reasons: np.ndarray) -> None:
    time = pc.fill_null(raw, 0).to_numpy(zero_copy_only=False) // TIME_UNITS[unit]
    _reject(reasons, time < 0, "negative time")
    _reject(reasons, time == 0, "time is zero")
    if unit != "seconds":
        reason = f"time before 1973: times are read as {unit}, perhaps they are seconds"
        early = time < MIN_TIME
        _reject(reasons, early, f"{reason}; set the schema's time_unit")
    absurd = time >= MAX_TIME
    if absurd.any():
        finer = [u for u, scale in TIME_UNITS.items() if scale > TIME_UNITS[unit]]
        hint = f", perhaps they are {' or '.join(finer)}" if finer else ""
        reason = f"time after the year 2242: times are read as {unit}{hint}"
        _reject(reasons, absurd, f"{reason}; set the schema's time_unit")


def _check_click_time(
    columns: dict[str, pa.Array], ticks: int, reasons: np.ndarray
) -> None:
    time, click_time = columns["time"], columns["click_time"]
    _reject(reasons, _mask(pc.less(click_time, time)), "click_time is before time")
    absurd = _mask(pc.greater_equal(click_time, MAX_TIME * ticks))
    _reject(reasons, absurd, "click_time is after the year 2242")


def _reject(reasons: np.ndarray, unfit: np.ndarray | None, reason: str) -> None:
    if unfit is not None:
        reasons[unfit & (reasons == "")] = reason


def _mask(array: pa.Array) -> np.ndarray:
    return pc.fill_null(array, False).to_numpy(zero_copy_only=False)
