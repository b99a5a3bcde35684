"""Counters over all users, by way of sums: no worker holds all events of a value.

A bucket of users adds up its events of each value by the buckets of the counter's
resolution, and asks once for all its candidates that have a value and a time in common.
Whoever counts a value adds up those sums, so that what it holds grows with the time
that the log covers, not with its events: half of a year in minutes is 262,800 rows of a
value, of however many exposures.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.computed.counters import NO_CLICK, NOT_SHOWN, Counter
from ctr_tf.computed.event_index import EventIndex, GroupSums
from pipelines.arrow import column, concat, numpy, order_by, rank

_BLOCK = 1 << 20  # rows that are added up, or answered, at once
_COLUMNS = ("key", "time", "shown", "clicked", "first")
_NOTHING = pa.table({name: pa.array([], pa.int64()) for name in _COLUMNS})


def event_sums(events: pa.Table, counter: Counter) -> pa.Table:
    """Sums of a bucket of users.

    Args:
        events: see `pipelines.counting.counted_events`.
        counter: of these events.

    Returns:
        A row a `key` and bucket of time, `time`: how many were `shown`, or done, and
        `clicked`; and where the counter tells an age the `first` one's time.
    """
    shown = _of_kind(events, "time", NOT_SHOWN, counter)
    clicked = _of_kind(events, "_click_time", NO_CLICK, counter)
    return _added([shown, clicked])


def _of_kind(events: pa.Table, kind: str, no_event: int, counter: Counter) -> pa.Table:
    """Impressions, by `time`, or clicks, by `_click_time`, as sums of one each."""
    own = events.filter(pc.not_equal(events.column(kind), no_event))
    time, is_click = numpy(own, kind), kind == "_click_time"
    columns = {
        "key": column(own, "key"),
        "time": counter.bucket_of(time),
        "shown": np.full(len(own), not is_click, np.int64),
        "clicked": np.full(len(own), is_click, np.int64),
    }
    if counter.tells_age:
        columns["first"] = pa.array(time, mask=np.full(len(own), is_click))
    return pa.table(columns)


def _added(sums: list[pa.Table]) -> pa.Table:
    """Sums of sums, in any order."""
    table = concat(sums)
    how = {"shown": "sum", "clicked": "sum"}
    how |= {"first": "min"} if "first" in table.column_names else {}
    by_key = table.group_by(["key", "time"], use_threads=False)
    added = by_key.aggregate(list(how.items()))
    columns = {name: added.column(name) for name in ("key", "time")}
    for name, function in how.items():
        columns[name] = added.column(f"{name}_{function}")
    return pa.table(columns)


def add_up(sums: Iterable[pa.Table]) -> pa.Table:
    """Sums of many buckets of users, or of none, of which few are held at once."""
    waiting: list[pa.Table] = []
    kept = rows = 0
    for table in sums:
        waiting.append(table)
        rows += len(table)
        if rows > 2 * kept + _BLOCK:
            waiting = [_added(waiting)]
            kept = rows = len(waiting[0])
    return _added(waiting) if waiting else _NOTHING


@dataclasses.dataclass
class Questions:
    """What a bucket of users asks of a counter.

    Args:
        table: `key`, `as_of` and `row`, each pair once, and its number.
        row_of: int32, the row that each candidate asks; -1 without a value.
    """

    table: pa.Table
    row_of: np.ndarray


def questions(events: pa.Table, counter: Counter, count: int) -> Questions:
    """What a bucket of users asks of a counter for its candidates.

    Args:
        events: see `pipelines.counting.counted_events`.
        counter: of these events.
        count: of the candidates.
    """
    asking = events.filter(pc.greater_equal(events.column("row"), 0))
    code, keys = rank(column(asking, "key"))
    as_of = numpy(asking, "_request_time")
    as_of = as_of if counter.tells_age else counter.bucket_of(as_of)
    times, place = np.unique(as_of, return_inverse=True)
    pairs, row = np.unique(code * len(times) + place, return_inverse=True)
    row_of = np.full(count, -1, np.int32)
    row_of[numpy(asking, "row")] = row
    columns = {
        "key": keys.take(pa.array(pairs // max(len(times), 1))),
        "as_of": times[pairs % max(len(times), 1)],
        "row": np.arange(len(pairs), dtype=np.int32),
    }
    return Questions(pa.table(columns), row_of)


class SharedCounts:
    """Answers of a counter, from the sums of all users.

    Args:
        counter: whose.
        sums: see `add_up`.
    """

    def __init__(self, counter: Counter, sums: pa.Table):
        self._counter = counter
        code, self._keys = rank(column(sums, "key"))
        time = numpy(sums, "time")
        order = order_by(code, time)
        self._index = EventIndex(code, time)
        self._totals = [
            np.append(0, np.cumsum(numpy(sums, name)[order], dtype=np.int64))
            for name in ("shown", "clicked")
        ]
        self._first = np.full(1, -1)
        if counter.tells_age and len(sums):
            first = pc.fill_null(column(sums, "first"), -1).to_numpy()
            self._first = first[order]

    def answer(self, asked: pa.Table) -> pa.Table:
        """The counter's features of questions, beside their `row`."""
        group = np.full(len(asked), -1)
        if len(self._keys):
            place = pc.index_in(column(asked, "key"), value_set=self._keys)
            group = pc.fill_null(place, -1).to_numpy().astype(np.int64)
        shown, clicked = (
            GroupSums(self._index, total, self._first, group) for total in self._totals
        )
        values = self._counter.values(shown, clicked, numpy(asked, "as_of"))
        return pa.table({"row": column(asked, "row"), **values})


def in_blocks(
    asked: Iterable[tuple[int, pa.Table]],
) -> Iterator[list[tuple[int, pa.Table]]]:
    """Questions of buckets of users, as many together as are worth a step."""
    block: list[tuple[int, pa.Table]] = []
    rows = 0
    for number, table in asked:
        block.append((number, table))
        rows += len(table)
        if rows >= _BLOCK:
            yield block
            block, rows = [], 0
    if block:
        yield block
