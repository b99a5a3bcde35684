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

from ctr_tf.schema import ITEM_KEY, TIME_UNITS, USER_KEY, Feature, Schema
from ctr_tf.time import MAX_TIME
from pipelines.sources.source import Batch

ROW = "_row"  # where a row came from: its shard and its number there
ORIGIN = b"origin"
ROW_BITS = 40
_ARROW_TYPES = {"int64": pa.int64(), "string": pa.string(), "float32": pa.float32()}
_EARLIEST_OF_FINER_UNITS = 100_000_000


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
        line["row_base64"] = base64.b64encode(line.pop("row")).decode()
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
    columns = {}
    for name, wanted in _columns(batch, schema).items():
        if name in batch.rows.column_names:
            raw = batch.rows.column(name).combine_chunks()
            columns[name], unfit = _cast(raw, wanted)
            _reject(reasons, unfit, f"bad value of {name}")
    for name in required_columns(batch.table, schema):
        missing = columns[name].is_null() if name in columns else None
        if missing is None:
            _reject(reasons, np.ones(len(reasons), bool), f"missing field {name}")
        elif columns[name].null_count:
            _reject(reasons, _mask(missing), f"missing field {name}")
    if "time" in columns:
        _check_time(columns["time"], schema.time_unit, reasons)
        if "click_time" in columns:
            _check_click_time(columns, schema.ticks, reasons)
    for label in schema.labels if batch.table == "exposures" else ():
        if label in columns:
            value = pc.fill_null(columns[label], 0).to_numpy(zero_copy_only=False)
            unfit = (value != 0) & (value != 1)
            _reject(reasons, unfit, f"label {label} is neither 0 nor 1")
    for name, feature in _features(batch.table, schema).items():
        if name in columns:
            unfit = _unfit(feature, columns[name])
            _reject(reasons, unfit, f"bad value of {name}, not {feature.wanted}")
    clicked = sum(r.clicked for r in batch.rejected)
    if batch.table == "exposures" and schema.labels[0] in columns:
        is_click = _mask(pc.equal(columns[schema.labels[0]], 1))
        clicked += int((is_click & (reasons != "")).sum())
    required = required_columns(batch.table, schema)
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


def required_columns(table: str, schema: Schema) -> tuple[str, ...]:
    """The columns that a row of a raw table cannot do without."""
    return {
        "exposures": (USER_KEY, "time", ITEM_KEY, *schema.labels),
        "behaviors": (USER_KEY, "time", ITEM_KEY),
        "users": (USER_KEY,),
        "items": (ITEM_KEY,),
    }[table]


def feature_columns(table: str, schema: Schema) -> dict[str, Feature]:
    """Column → feature that a raw table may carry, without those required."""
    declared = [f for f in schema.features if not f.computed and f.name != ITEM_KEY]
    roles = {
        "exposures": ("item", "context", "candidate"),
        "behaviors": ("item", "behavior"),
        "users": ("user",),
        "items": ("item",),
    }[table]
    columns = {f.name: f for f in declared if f.role in roles and f.name != USER_KEY}
    if table == "exposures":
        columns |= {f"behavior_{f.name}": f for f in declared if f.role == "behavior"}
    return columns


def _features(table: str, schema: Schema) -> dict[str, Feature]:
    """Column → feature, `item_id` and `user_id` among them where they are features."""
    features = feature_columns(table, schema)
    for key, roles in ((ITEM_KEY, ("item",)), (USER_KEY, ("user",))):
        features |= {f.name: f for f in schema.of(*roles) if f.name == key}
    return features


def _unfit(feature: Feature, values: pa.Array) -> np.ndarray | None:
    """Which rows have a value that the kind cannot take."""
    if feature.length == 1:
        return feature.unfit(values)
    unfit = feature.unfit(values.flatten())
    if unfit is None:
        return None
    length = pc.fill_null(pc.list_value_length(values), 0).to_numpy()
    result = np.zeros(len(values), bool)
    result[np.repeat(np.arange(len(values)), length)[unfit]] = True
    return result


def _columns(batch: Batch, schema: Schema) -> dict[str, pa.DataType]:
    item = next(f for f in schema.features if f.name == ITEM_KEY)
    wanted = {ITEM_KEY: _ARROW_TYPES[item.dtype]}
    if batch.table != "items":
        wanted[USER_KEY] = _id_type(batch.rows, USER_KEY)
    if batch.table in ("exposures", "behaviors"):
        wanted["time"] = pa.int64()
    if batch.table == "users":
        del wanted[ITEM_KEY]
    if batch.table == "exposures":
        wanted |= dict.fromkeys(schema.labels, pa.int8())
        wanted["click_time"] = pa.int64()
        wanted["request_id"] = _id_type(batch.rows, "request_id")
        wanted["true_probability"] = pa.float32()
    for name, feature in feature_columns(batch.table, schema).items():
        single = feature.arrow_type
        wanted[name] = pa.list_(single) if feature.length > 1 else single
    return wanted


def _id_type(rows: pa.Table, name: str) -> pa.DataType:
    present = name in rows.column_names
    integer = present and pa.types.is_integer(rows.schema.field(name).type)
    return pa.int64() if integer else pa.string()


def _cast(raw: pa.Array, wanted: pa.DataType) -> tuple[pa.Array, np.ndarray | None]:
    """Casts a column; returns it and which values could not be cast (now null)."""
    if pa.types.is_list(wanted) and not pa.types.is_list(raw.type):
        raw = pa.ListArray.from_arrays(np.arange(len(raw) + 1, dtype=np.int32), raw)
    if pa.types.is_floating(raw.type) and raw.type != wanted:
        raw = pc.if_else(pc.is_nan(raw), pa.scalar(None, raw.type), raw)
    try:
        values, unfit = raw.cast(wanted), None
    except pa.ArrowInvalid:
        cast = [_cast_one(value, wanted) for value in raw]
        values = pa.array(cast, wanted)
        unfit = _mask(values.is_null()) & ~_mask(raw.is_null())
    if pa.types.is_floating(wanted):
        infinite = _mask(pc.is_inf(values))
        if infinite.any():
            unfit = infinite if unfit is None else infinite | unfit
    return values, unfit


def _cast_one(value: pa.Scalar, wanted: pa.DataType) -> object:
    try:
        return value.cast(wanted).as_py()
    except pa.ArrowInvalid:
        return None


def _check_time(raw: pa.Array, unit: str, reasons: np.ndarray) -> None:
    time = pc.fill_null(raw, 0).to_numpy(zero_copy_only=False) // TIME_UNITS[unit]
    _reject(reasons, time < 0, "negative time")
    _reject(reasons, time == 0, "time is zero")
    if unit != "seconds":
        reason = f"time before 1973: times are read as {unit}, perhaps they are seconds"
        early = time < _EARLIEST_OF_FINER_UNITS
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
