"""Which columns a raw table has, and how values as found become their types.

A value that cannot become its column's type costs its own row, never its neighbors.
Everything is vectorised; only where a cast fails the array is halved again and again
until the values at fault stand alone.
"""

import dataclasses
import decimal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.errors import UserError
from ctr_tf.schema import ITEM_KEY, USER_KEY, Feature, Schema
from ctr_tf.schema.feature import WORDS
from ctr_tf.schema.nulls import null_numbers, null_texts
from pipelines.sources.source import Rejected

LIST_SEPARATOR = "|"
_TIME_UNITS = {"seconds": "s", "milliseconds": "ms", "microseconds": "us"}
_CAST_ERRORS = (
    pa.ArrowInvalid,
    pa.ArrowTypeError,
    pa.ArrowNotImplementedError,
    OverflowError,
    UnicodeError,  # a lone surrogate
)
# From here on not every whole number has a floating-point number of its own.
_INEXACT_FROM = {"halffloat": 2.0**11, "float": 2.0**24, "double": 2.0**53}


class _Inexact(pa.ArrowInvalid):
    """A floating-point number whose last digits are lost."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a raw file.

    Args:
        name: in the file.
        type: that its values get.
        required: whether the file must have it and every row a value in it.
        time_unit: of a time, `"s"`, `"ms"` or `"us"`: timestamps found become int64
            in this unit, integers are in it already.
        says_click: whether a 1 says that an exposure was clicked.
        null_values: spellings of a missing value; of numbers those that are numbers.
        feature: of the schema, whose kind says what values it takes.
    """

    name: str
    type: pa.DataType
    required: bool = False
    time_unit: str | None = None
    says_click: bool = False
    null_values: tuple[str | int | float, ...] = ("",)
    feature: Feature | None = None

    @property
    def wanted(self) -> str:
        """What a value must be, in words."""
        if self.feature and self.feature.wanted != WORDS[self.feature.dtype]:
            return self.feature.wanted
        if pa.types.is_list(self.type):
            return f"a list of {Column('', self.type.value_type).wanted}"
        if pa.types.is_integer(self.type):
            return "an integer"
        if pa.types.is_floating(self.type):
            return "a finite number"
        return "a text without line breaks"


def time_column(name: str, schema: Schema) -> Column:
    """A required time, in the schema's unit."""
    unit, nulls = _TIME_UNITS[schema.time_unit], schema.null_values
    return Column(name, pa.int64(), True, time_unit=unit, null_values=nulls)


def canonical_columns(
    table: str, schema: Schema, user_id_type: pa.DataType
) -> tuple[Column, ...]:
    """The columns of a raw table in the general format.

    Args:
        table: one of `source.TABLES`.
        schema: of the data set.
        user_id_type: Arrow type of `user_id`.
    """
    declared = [f for f in schema.features if not f.computed]
    nulls = schema.null_values
    item_id = next(f for f in declared if f.name == ITEM_KEY and f.role == "item")
    user_id = next((f for f in declared if f.name == USER_KEY), None)
    own = schema.nulls_of(user_id) if user_id else nulls
    user = Column(USER_KEY, user_id_type, True, null_values=own, feature=user_id)
    item = Column(
        ITEM_KEY,
        _type(item_id),
        True,
        null_values=schema.nulls_of(item_id),
        feature=item_id,
    )
    event = [user, time_column("time", schema), item]

    def features(*roles: str, prefix: str = "") -> list[Column]:
        return [
            Column(
                prefix + f.name,
                _type(f),
                null_values=schema.nulls_of(f),
                feature=f,
            )
            for f in declared
            if f.role in roles and (table == "items" or not f.is_text)
        ]

    if table == "exposures":
        columns = [
            *event,
            *(
                Column(
                    name,
                    pa.int8(),
                    True,
                    says_click=name == schema.labels[0],
                    null_values=nulls,
                )
                for name in schema.labels[1 if schema.all_clicked else 0 :]
            ),
            Column("request_id", pa.string(), null_values=nulls),
            *features("item", "candidate", "position", "context"),
            *features("behavior", prefix="behavior_"),
            dataclasses.replace(time_column("click_time", schema), required=False),
            Column("true_probability", pa.float32(), null_values=nulls),
        ]
    elif table == "behaviors":
        columns = [*event, *features("item", "behavior")]
    elif table == "users":
        columns = [user, *features("user")]
    else:
        columns = [item, *features("item")]
    unique: dict[str, Column] = {}
    for column in columns:
        unique.setdefault(column.name, column)
    return tuple(unique.values())


def _type(feature: Feature) -> pa.DataType:
    single = feature.arrow_type
    return pa.list_(single) if feature.max_values > 1 else single


def check_type(column: Column, found: pa.DataType, path: str) -> None:
    """Raises UserError if no value of a file's column could become the type wanted."""
    try:
        _cast(pa.nulls(0, found), column)
    except pa.ArrowNotImplementedError:
        raise UserError(
            f"{path}: column '{column.name}' must hold {column.wanted} a row. "
            f"Received: {found}"
        ) from None


def coerce(
    values: Mapping[str, pa.ChunkedArray | Sequence],
    columns: Sequence[Column],
    numbers: np.ndarray,
    origin: str,
    raw: Callable[[int], str | bytes | dict] | None,
) -> tuple[pa.Table, np.ndarray, list[Rejected]]:
    """Turns values as found into typed columns and puts bad rows aside.

    Args:
        values: column name → values; absent columns are null.
        columns: those wanted.
        numbers: 1-based row or line numbers, one a row.
        origin: of the rows, for the rejected.
        raw: row or line number → the row as it stands in the file.

    Returns:
        The table of good rows, their numbers, and the rejected rows.
    """
    arrays = []
    faults: dict[int, str] = {}
    for column in columns:
        array, bad = typed(values.get(column.name), column, len(numbers))
        for i, fault in bad.items():
            faults.setdefault(i, f"bad value of {column.name}, {fault}")
        if column.required and array.null_count:
            missing = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))
            for i in missing.tolist():
                faults.setdefault(i, f"missing field {column.name}")
        arrays.append(array)
    table = pa.table(arrays, names=[column.name for column in columns])
    if not faults:
        return table, numbers, []
    assert raw is not None  # whoever reads a file can show its rows
    keep = np.ones(len(numbers), bool)
    keep[list(faults)] = False
    clicked = np.zeros(len(numbers), bool)
    for column, array in zip(columns, arrays, strict=True):
        if column.says_click:
            clicked |= pc.fill_null(pc.equal(array, 1), False).to_numpy(False)
    rejected = [
        Rejected(
            faults[i], f"{origin}:{numbers[i]}", raw(int(numbers[i])), bool(clicked[i])
        )
        for i in sorted(faults)
    ]
    return table.filter(pa.array(keep)), numbers[keep], rejected


def typed(values: Any, column: Column, count: int) -> tuple[pa.Array, dict[int, str]]:
    """Types one column.

    Args:
        values: as found, None where there are none.
        column: that they belong to.
        count: of rows.

    Returns:
        The values with the column's type, null where that is impossible, and the
        positions of those with what is wrong, such as "not an integer".
    """
    if values is None:
        return pa.nulls(count, column.type), {}
    try:
        return _cast(values, column), {}
    except _CAST_ERRORS as error:
        if count == 1:
            fault = str(error) if isinstance(error, _Inexact) else ""
            return pa.nulls(1, column.type), {0: fault or f"not {column.wanted}"}
    middle = count // 2
    left, bad = typed(values[:middle], column, middle)
    right, bad_right = typed(values[middle:], column, count - middle)
    bad |= {middle + i: fault for i, fault in bad_right.items()}
    return pa.concat_arrays([left, right]), bad


def _cast(values: Any, column: Column) -> pa.Array:
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else None
    array = pa.array(values) if array is None else array
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    if pa.types.is_string(array.type):
        array = _without_nulls(array, column)
    if column.time_unit:
        array = _time(array, column.time_unit)
    if pa.types.is_list(column.type):
        return _cast_lists(array, column)
    return _checked(_without_nulls(_plain(array, column.type), column), column)


def _cast_lists(array: pa.Array, column: Column) -> pa.Array:
    """Lists whose values are cast like single ones; a text is taken apart.

    An empty list is a missing value of a feature, so that all find null there.
    """
    if pa.types.is_string(array.type):
        array = pc.split_pattern(array, LIST_SEPARATOR)
    elif pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.list_(array.type.value_type))
    if not pa.types.is_list(array.type):
        return array.cast(column.type)
    single = dataclasses.replace(column, type=column.type.value_type)
    values = _cast(array.flatten(), single)
    length = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
    offsets = np.append(0, np.cumsum(length)).astype(np.int32)
    is_missing = array.is_null() if column.feature is None else pa.array(length == 0)
    return pa.ListArray.from_arrays(offsets, values, mask=is_missing)


def _without_nulls(array: pa.Array, column: Column) -> pa.Array:
    """The values, null where they are a spelling of a missing one."""
    spellings: frozenset = frozenset()
    if pa.types.is_string(array.type):
        spellings = null_texts(column.null_values)
    elif pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        dtype = np.dtype(array.type.to_pandas_dtype()).name
        spellings = null_numbers(column.null_values, dtype)
    if not spellings:
        return array
    is_missing = pc.is_in(array, pa.array(list(spellings), array.type))
    return pc.if_else(is_missing, pa.scalar(None, array.type), array)


def _plain(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    if pa.types.is_floating(array.type):
        array = pc.if_else(pc.is_nan(array), None, array)
        if not pa.types.is_floating(wanted):
            _check_exact(array)
        if pa.types.is_float16(array.type):  # with which Arrow computes nothing
            array = array.cast(pa.float32())
        if pa.types.is_string(wanted):
            return _number_texts(array)
    if not pa.types.is_string(array.type):
        # 64-bit integers need not be exact in a float32 feature.
        return array.cast(wanted, safe=not pa.types.is_floating(wanted))
    if pa.types.is_floating(wanted):
        return _plain(array.cast(pa.float64()), wanted)
    try:
        return array.cast(wanted)
    except pa.ArrowInvalid:
        if not pa.types.is_integer(wanted):
            raise
        return _whole_numbers(array, wanted)


def _check_exact(array: pa.Array) -> None:
    """Raises where floating-point numbers are too large to tell whole ones apart."""
    wide = array.cast(pa.float64())
    lost = pc.greater_equal(pc.abs(wide), _INEXACT_FROM[str(array.type)])
    lost = pc.and_(lost, pc.is_finite(wide))
    if pc.any(lost).as_py():
        raise _Inexact(f"a {array.type} too large to be an exact integer")


def _number_texts(array: pa.Array) -> pa.Array:
    """Texts of floating-point numbers, of whole ones those of integers."""
    wide = array.cast(pa.float64())
    is_whole = pc.and_(pc.is_finite(wide), pc.equal(wide, pc.floor(wide)))
    whole = pc.if_else(is_whole, wide, None).cast(pa.int64())
    return pc.coalesce(whole.cast(pa.string()), array.cast(pa.string()))


def _whole_numbers(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Integers from other spellings of them: 7.0, 7e3, true."""
    for spelling, value in (
        (r"\.0+$", ""),
        (r"(?i)^true$", "1"),
        (r"(?i)^false$", "0"),
    ):
        array = pc.replace_substring_regex(array, spelling, value)
    try:
        return array.cast(wanted)
    except pa.ArrowInvalid:
        if not pc.any(pc.match_substring_regex(array, "[.eE]")).as_py():
            raise
        texts = array.to_pylist()
    whole = [None if text is None else whole_number(text) for text in texts]
    if any(
        n is None and text is not None for n, text in zip(whole, texts, strict=True)
    ):
        raise pa.ArrowInvalid("no whole number")
    return pa.array(whole, wanted)


def whole_number(text: str) -> int | None:
    """The integer that a number's text says exactly, below 10^20; None for others."""
    try:
        number = decimal.Decimal(text)
    except decimal.InvalidOperation:  # no number, or an absurd exponent
        return None
    if not number.is_finite() or number.adjusted() >= 20:
        return None
    return int(number) if number == number.to_integral_value() else None


def _time(array: pa.Array, unit: str) -> pa.Array:
    if pa.types.is_string(array.type):
        for kind in (pa.int64(), pa.timestamp("ns"), pa.timestamp("ns", "UTC")):
            try:
                array = _plain(array, kind)
                break
            except pa.ArrowInvalid:
                continue
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return array.cast(pa.timestamp(unit), safe=False).cast(pa.int64())
    return array


def _checked(array: pa.Array, column: Column) -> pa.Array:
    """Raises ArrowInvalid where a value has the type but is no allowed value."""
    if not pa.types.is_primitive(array.type):
        array.validate(full=True)  # bytes that are no UTF-8
    if column.feature is not None:
        single = array.flatten() if pa.types.is_list(array.type) else array
        if column.feature.unfit(single) is not None:
            raise pa.ArrowInvalid(column.wanted)
    if pa.types.is_floating(array.type):
        fine = pc.is_finite(array)
    elif pa.types.is_string(array.type):
        if column.feature is not None and column.feature.is_text:
            return array
        broken = (pc.match_substring(array, mark) for mark in "\n\r")
        fine = pc.invert(pc.or_(*broken))
    else:
        return array
    if pc.all(fine, min_count=0).as_py():
        return array
    raise pa.ArrowInvalid(column.wanted)
