"""Rows of exposures → exposures: each in its slate, once, with the time of its click.

Rows of one slate and item are one exposure: some logs write a click as a second row.
Each label is the largest of the rows'; everything else comes from the first row, by
time, then by content (its columns in the order of their names, null first). A click is
known from the row's `click_time`, or else `feedback_delay` after the row; of several
rows that say it the earliest such time counts, and the first row of that time says what
the click is as a behavior.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.computed.counters import NO_CLICK
from ctr_tf.schema import Schema, parse_duration
from pipelines.arrow import add_columns, column, numpy, order_by, rank, sort_by_content
from pipelines.slates import find_slates
from pipelines.validation import ROW

_LATEST = np.iinfo(np.int64).max


def merge_exposures(rows: pa.Table, schema: Schema) -> pa.Table:
    """Finds the slates of a bucket of users and merges the rows of one exposure.

    Args:
        rows: validated, with codes `_user` and `_item`.
        schema: of the data set.

    Returns:
        One row an exposure, ascending by user, request time, slate, time and item; with
        `_slate`, `_request_time`, `_returned` (see `Slates`) and `_click_time`, the
        time from which its click is known or `NO_CLICK`.
    """
    keys = ("_slate", "_request_time", "_returned", "_click_time")
    if not len(rows):
        return add_columns(rows, **dict.fromkeys(keys, np.empty(0, np.int64)))
    user, item, time = (numpy(rows, key) for key in ("_user", "_item", "time"))
    gap = parse_duration(schema.session_gap) * schema.ticks
    slates = find_slates(user, request_codes(rows), time, item, gap)
    content = [name for name in sorted(rows.column_names) if name[0] != "_"]
    order, begins = sort_by_content(
        add_columns(rows, _slate=slates.slate),
        ("_slate", "_item"),
        others=["time", *content, ROW],
    )
    starts = np.flatnonzero(begins)
    first = order[starts]
    known, clicked = _first_clicks(_click_times(rows, schema)[order], starts)
    by_time = (user, slates.request_time, slates.slate, time, item)
    final = order_by(*(key[first] for key in by_time))
    largest = {
        label: np.maximum.reduceat(numpy(rows, label)[order], starts)[final]
        for label in schema.labels
    }
    first, clicked = first[final], order[clicked][final]
    values = (
        slates.slate[first],
        slates.request_time[first],
        slates.returned[first],
        np.where(known == _LATEST, NO_CLICK, known)[final],
    )
    behavior = {
        name: rows.column(name).take(pa.array(clicked))
        for name in (f"behavior_{f.name}" for f in schema.of("behavior"))
        if name in rows.column_names
    }
    rows = rows.drop_columns([*schema.labels, *behavior]).take(pa.array(first))
    for name, array in behavior.items():
        rows = rows.append_column(name, array)
    return add_columns(rows, **largest, **dict(zip(keys, values, strict=True)))


def _first_clicks(
    known: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of each exposure, when its click is known, and its first row that says so.

    Args:
        known: of rows in the order of exposures, the latest of all times without click.
        starts: the first row of each exposure.
    """
    earliest = np.minimum.reduceat(known, starts)
    size = np.diff(np.append(starts, len(known)))
    says = known == np.repeat(earliest, size)
    row = np.where(says, np.arange(len(known)), len(known))
    return earliest, np.minimum.reduceat(row, starts)


def request_codes(table: pa.Table) -> np.ndarray:
    """Codes of the request ids, ascending like the ids; -1 for none."""
    ids = column(table, "request_id")
    codes = np.full(len(table), -1, np.int64)
    if ids is not None:
        known = pc.is_valid(ids).to_numpy(zero_copy_only=False)
        codes[known] = rank(ids.drop_null())[0]
    return codes


def _click_times(rows: pa.Table, schema: Schema) -> np.ndarray:
    """When the click of each row is known; the latest of all times without one."""
    delay = parse_duration(schema.feedback_delay, may_be_zero=True) * schema.ticks
    known = numpy(rows, "time") + delay
    own = column(rows, "click_time")
    if own is not None:
        known = pc.coalesce(own, pa.array(known)).to_numpy(zero_copy_only=False)
    return np.where(numpy(rows, schema.labels[0]) == 1, known, _LATEST)
