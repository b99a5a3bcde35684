"""What candidates can be drawn of: all items of the log's exposures, and when.

Pools of shards add up to that of the whole log (`Pool`), which is written once
(`WritePool`), and read once a worker process (`read_pool`). How candidates are drawn of
it is the work of `pipelines.negatives`.
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.computed.event_index import EventIndex
from ctr_tf.data.negatives import POPULARITY, UNIFORM, Negatives
from ctr_tf.schema import ITEM_KEY, USER_KEY, Schema
from ctr_tf.storage import as_path
from pipelines.arrow import (
    add_columns,
    begins_of,
    column,
    concat,
    content_codes,
    hash_ids,
    mixed,
    numpy,
    order_by,
    rank,
    read_table,
    write_table,
)
from pipelines.items import item_values, read_items

_CHANGING = "join items with several values of "
_DRAWN_FROM = "join items in the exposures"
_EVENTS = 1 << 20  # exposures that popularity is known by: of larger logs a sample
_NEXT = 1_000  # events after a request that popularity draws among
_NEXT_OF_EACH = 4  # at least so many for each candidate that is drawn for a slate
_HASH, _LOW, _HIGH = "_hash", "_low_", "_high_"
_NO_HASH = np.uint64(1 << 63)  # of no value, above those of all values


@dataclasses.dataclass(frozen=True)
class Pool:
    """What can be drawn, of some exposures; pools add up, in any order to the same.

    Args:
        items: one row an item: `item_id`, its earliest `time`, and of each item feature
            that exposures carry a value, with the smallest and the largest hash of its
            values (`_low_<f>`, whose value it is, and `_high_<f>`).
        events: `item_id`, `time` and a hash of exposures, those of the smallest hashes.
    """

    items: pa.Table
    events: pa.Table

    @classmethod
    def of(cls, exposures: pa.Table, schema: Schema) -> "Pool":
        """The pool of some rows.

        Args:
            exposures: validated.
            schema: of the data set.
        """
        columns = {key: column(exposures, key) for key in (ITEM_KEY, "time")}
        for feature in schema.of("item"):
            values = column(exposures, feature.name)
            if values is not None and feature.name != ITEM_KEY:
                low, high = _hashes(values)
                columns |= {feature.name: values, f"{_LOW}{feature.name}": low}
                columns[f"{_HIGH}{feature.name}"] = high
        state = hash_ids(column(exposures, USER_KEY))
        for key in (hash_ids(columns[ITEM_KEY]), numpy(exposures, "time")):
            state = mixed(state ^ key.astype(np.uint64))
        events = add_columns(exposures.select([ITEM_KEY, "time"]), **{_HASH: state})
        return cls(_merged(pa.table(columns)), _sampled(events))


def add_pools(pools: Iterable[Pool]) -> Pool:
    """The pool of all their exposures; without columns where there are none."""
    pools = [pool for pool in pools if len(pool.items)]
    items = concat(pool.items.replace_schema_metadata() for pool in pools)
    events = concat(pool.events.replace_schema_metadata() for pool in pools)
    return Pool(_merged(items), _sampled(events))


def _merged(items: pa.Table) -> pa.Table:
    """One row an item, ascending by its id."""
    if not len(items):
        return items
    item = rank(column(items, ITEM_KEY))[0]
    order = order_by(item, numpy(items, "time"))
    starts = np.flatnonzero(begins_of(item[order]))
    first = items.select([ITEM_KEY, "time"]).take(pa.array(order[starts]))
    columns = {name: column(first, name) for name in first.column_names}
    for name in items.column_names:
        if f"{_LOW}{name}" not in items.column_names:
            continue
        low, high = (_or_none(items, p + name) for p in (_LOW, _HIGH))
        by_low = np.lexsort((low, item))  # the value of the smallest hash comes first
        columns[name] = column(items, name).take(pa.array(by_low[starts]))
        columns[_LOW + name] = pa.array(low[by_low[starts]])
        columns[_HIGH + name] = pa.array(np.maximum.reduceat(high[by_low], starts))
    return pa.table(columns)


def _hashes(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """A hash of each value, for its smallest and its largest; of null the other end."""
    texts = values
    if pa.types.is_list(values.type):
        texts = pc.binary_join(values.cast(pa.list_(pa.string())), "\n")
    texts = texts.cast(pa.string())
    known = pc.is_valid(texts).to_numpy(zero_copy_only=False)
    hashed = hash_ids(pc.fill_null(texts, "")) >> np.uint64(1)
    return np.where(known, hashed, _NO_HASH), np.where(known, hashed, np.uint64(0))


def _or_none(items: pa.Table, name: str) -> np.ndarray:
    """Hashes, of rows of pools without the feature those of null."""
    nothing = _NO_HASH if name.startswith(_LOW) else np.uint64(0)
    values = pc.fill_null(column(items, name), pa.scalar(int(nothing), pa.uint64()))
    return values.to_numpy(zero_copy_only=False)


def _changing(items: pa.Table) -> dict[str, int]:
    """How many items of a pool have several values of a feature, by its name."""
    found = {}
    for name in items.column_names:
        if _LOW + name in items.column_names:
            low, high = numpy(items, _LOW + name), numpy(items, _HIGH + name)
            found[name] = int((low < high).sum())
    return found


def _sampled(events: pa.Table) -> pa.Table:
    if len(events) <= _EVENTS:
        return events
    keys = [(name, "ascending") for name in (_HASH, "time", ITEM_KEY)]
    return events.take(pc.select_k_unstable(events, _EVENTS, sort_keys=keys))


class WritePool(beam.DoFn):
    """The pool of all exposures → a folder that buckets of users draw from.

    Outputs: its path; `counts`.

    Args:
        work: folder for what is needed in between.
        negatives: what is drawn.
        schema: of the data set.
    """

    OUTPUTS = ("counts",)

    def __init__(self, work: str, negatives: Negatives, schema: Schema):
        self._work = work
        self._negatives = negatives
        self._schema = schema

    def process(self, pool: Pool, items: list[str]) -> Iterable[Any]:
        """Writes the items in an order of theirs, and what draws are made among."""
        folder = as_path(self._work) / "pool"
        table, drawn = pool.items, pa.table({})
        counts = {_CHANGING + name: count for name, count in _changing(table).items()}
        counts |= {_DRAWN_FROM: len(table)} if counts else {}
        yield beam.pvalue.TaggedOutput("counts", counts)
        hashes = [n for n in table.column_names if n.startswith((_LOW, _HIGH))]
        table = table.drop_columns(hashes) if hashes else table
        if len(table):
            code = numpy(table, "time"), rank(column(table, ITEM_KEY))[0]
            table = table.take(pa.array(order_by(*code)))
            table = add_columns(table, _group=self._groups(table, items))
            drawn = self._drawn(table, pool.events)
        write_table(folder / "items", table.replace_schema_metadata())
        write_table(folder / "drawn", drawn)
        yield str(folder)

    def _drawn(self, table: pa.Table, events: pa.Table) -> pa.Table:
        """`_group`, `time` and `_item` (its row in the table), ascending by them."""
        ids, time = column(table, ITEM_KEY), numpy(table, "time")
        item = np.arange(len(table))
        if self._negatives.by == POPULARITY:
            event_ids = column(events, ITEM_KEY)
            item = pc.index_in(event_ids, value_set=ids).to_numpy(zero_copy_only=False)
            time = numpy(events, "time")
        group = numpy(table, "_group")[item]
        order = order_by(group, time, item)
        return pa.table(
            {"_group": group[order], "time": time[order], "_item": item[order]}
        )

    def _groups(self, table: pa.Table, items: list[str]) -> np.ndarray:
        """What the draws are made within, a code an item; of no value is one more."""
        name = self._negatives.within
        if name is None:
            return np.zeros(len(table), np.int64)
        shared, _ = read_items(tuple(sorted(items))).of(column(table, ITEM_KEY))
        own = add_columns(table, _item=np.arange(len(table)))
        (feature,) = (f for f in self._schema.of("item") if f.name == name)
        return content_codes(item_values(own, shared, feature)) + 1


@dataclasses.dataclass(frozen=True)
class DrawnFrom:
    """What a `WritePool` has written.

    Args:
        items: ascending by their earliest time: `item_id` and item features.
        first: that time of each item.
        group: of each item.
        index: of the times in each group.
        item: rows of `items`, by group and time.
        negatives: what is drawn.
        ends: of training, validation and test, in the log's unit; draws for a split
            know nothing of what comes at its end or later.
    """

    items: pa.Table
    first: np.ndarray
    group: np.ndarray
    index: EventIndex
    item: np.ndarray
    negatives: Negatives
    ends: tuple[int, int, int]

    def known_until(self, time: np.ndarray) -> np.ndarray:
        """When what draws for requests know ends: with the split of each.

        Args:
            time: of the requests.
        """
        split = np.searchsorted(self.ends[:-1], time, side="right")
        return np.array(self.ends)[split]

    def ranges(
        self, own: np.ndarray, time: np.ndarray, wanted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """What is drawn for requests: where it begins in `item`, and how much it is.

        Args:
            own: items that were clicked.
            time: of the requests.
            wanted: how many are drawn for the slate of each.
        """
        group = self.group[own]
        begin, start = (self.index.before(group, t) for t in (0, time))
        if self.negatives.by == UNIFORM:
            return begin, start - begin
        count = np.maximum(_NEXT, _NEXT_OF_EACH * wanted)
        known = self.index.before(group, self.known_until(time))
        stop = np.minimum(start + count, known)
        start = np.maximum(begin, stop - count)  # at a split's end, the latest
        return start, stop - start


@functools.lru_cache(maxsize=1)
def read_pool(
    path: str, negatives: Negatives, ends: tuple[int, int, int]
) -> DrawnFrom | None:
    """Reads a pool, once a worker process; None without exposures.

    Args:
        path: of its folder.
        negatives: what is drawn.
        ends: see `DrawnFrom`.
    """
    items = read_table(as_path(path) / "items")
    if not len(items):
        return None
    drawn = read_table(as_path(path) / "drawn")
    group, time, item = (numpy(drawn, name) for name in ("_group", "time", "_item"))
    first, of_item = numpy(items, "time"), numpy(items, "_group")
    items = items.drop_columns(["time", "_group"])
    index = EventIndex(group, time)
    return DrawnFrom(items, first, of_item, index, item, negatives, ends)
