"""Candidates drawn beside clicked ones, for logs that tell only what was taken.

For each clicked exposure items are drawn that its user did not take: of all that the
log had shown strictly before the request; or, by popularity, of what others are shown
next, which is like what was clicked by its age and counts. Drawn candidates are seen by
models like any other; counters, histories and vocabularies do not count them, for
nobody was shown them. What is drawn for an exposure depends on the log, the exposure
and the seed alone, not on parts or workers.
"""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.computed.counters import NO_CLICK, NOT_SHOWN
from ctr_tf.computed.event_index import EventIndex
from ctr_tf.data.negatives import POPULARITY, Negatives
from ctr_tf.errors import UserError, unknown_name
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
from pipelines.items import read_items
from pipelines.sources.source import Shard

_EVENTS = 1 << 20  # exposures that popularity is known by: of larger logs a sample
CHANGING = "join items with several values of "
DRAWN_FROM = "join items in the exposures"
_NEXT = 1_000  # events after a request that popularity draws among
_NEXT_OF_EACH = 4  # at least so many for each candidate that is drawn for a slate
_ROUNDS = 16  # of drawing, while something lacks
_LAST = np.iinfo(np.int64).max >> 1  # a time after all others
_BY = b"by"
TRUTH = "true_probability"
_HASH, _LOW, _HIGH = "_hash", "_low_", "_high_"
_NO_HASH = np.uint64(1 << 63)  # of no value, above those of all values


def check_negatives(
    negatives: Negatives | None, schema: Schema, shards: Iterable[Shard]
) -> None:
    """Raises UserError where a schema and what is drawn do not fit.

    Args:
        negatives: of the job, None for none.
        schema: of the data set.
        shards: of the raw log.
    """
    label = schema.labels[0]
    for shard in shards if schema.all_clicked else ():
        if shard.table == "exposures" and label in shard.unused:
            raise UserError(
                f"By the schema's `all_clicked` no row has the label '{label}'. "
                f"Received: {shard.path}, which has it"
            )
    if negatives is None:
        if schema.all_clicked:
            raise UserError(
                "By the schema's `all_clicked` the log has clicked exposures alone, "
                "from which nothing can be learned: `--negatives` N draws others. "
                "Received: no --negatives"
            )
        return
    own = [f.name for f in schema.of("candidate", "position") if not f.computed]
    if own:
        raise UserError(
            "`--negatives` cannot know, of items that are drawn, the features of role "
            "'candidate' or 'position': make them an item's, or leave them out. "
            f"Received: {', '.join(own)}"
        )
    single = [
        f.name
        for f in schema.of("item")
        if f.length == 1 and f.name != ITEM_KEY and not f.is_text
    ]
    if negatives.within is not None and negatives.within not in single:
        what = "item feature of single values for `--negatives_within`"
        raise UserError(unknown_name(what, negatives.within, single))


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


def changing(items: pa.Table) -> dict[str, int]:
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
    """

    OUTPUTS = ("counts",)

    def __init__(self, work: str, negatives: Negatives):
        self._work = work
        self._negatives = negatives

    def process(self, pool: Pool, items: list[str]) -> Iterable[Any]:
        """Writes the items in an order of theirs, and what draws are made among."""
        folder = as_path(self._work) / "pool"
        table, drawn = pool.items, pa.table({})
        counts = {CHANGING + name: count for name, count in changing(table).items()}
        counts |= {DRAWN_FROM: len(table)} if counts else {}
        yield beam.pvalue.TaggedOutput("counts", counts)
        hashes = [n for n in table.column_names if n.startswith((_LOW, _HIGH))]
        table = table.drop_columns(hashes) if hashes else table
        if len(table):
            code = numpy(table, "time"), rank(column(table, ITEM_KEY))[0]
            table = table.take(pa.array(order_by(*code)))
            table = add_columns(table, _group=self._groups(table, items))
            drawn = self._drawn(table, pool.events)
        write_table(folder / "items", table.replace_schema_metadata())
        by = {_BY: self._negatives.by.encode()}
        write_table(folder / "drawn", drawn.replace_schema_metadata(by))
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
        values = column(shared, name)
        own = column(table, name)
        if own is not None:
            values = own if values is None else pc.coalesce(own, values)
        if values is None:
            return np.zeros(len(table), np.int64)
        return content_codes(values) + 1


@dataclasses.dataclass(frozen=True)
class DrawnFrom:
    """What a `WritePool` has written.

    Args:
        items: ascending by their earliest time: `item_id` and item features.
        first: that time of each item.
        group: of each item.
        index: of the times in each group.
        item: rows of `items`, by group and time.
        is_next: whether what comes next is drawn, or all that was before.
    """

    items: pa.Table
    first: np.ndarray
    group: np.ndarray
    index: EventIndex
    item: np.ndarray
    is_next: bool

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
        if not self.is_next:
            return begin, start - begin
        count = np.maximum(_NEXT, _NEXT_OF_EACH * wanted)
        stop = np.minimum(start + count, self.index.before(group, _LAST))
        start = np.maximum(begin, stop - count)  # at the log's end, the latest
        return start, stop - start


@functools.lru_cache(maxsize=1)
def read_pool(path: str) -> DrawnFrom | None:
    """Reads a pool, once a worker process; None without exposures."""
    items = read_table(as_path(path) / "items")
    if not len(items):
        return None
    drawn = read_table(as_path(path) / "drawn")
    group, time, item = (numpy(drawn, name) for name in ("_group", "time", "_item"))
    first, of_item = numpy(items, "time"), numpy(items, "_group")
    index = EventIndex(group, time)
    is_next = bool(len(drawn) and drawn.schema.metadata == {_BY: POPULARITY.encode()})
    items = items.drop_columns(["time", "_group"])
    return DrawnFrom(items, first, of_item, index, item, is_next)


def add_negatives(
    shown: pa.Table,
    behaviors: pa.Table,
    item_ids: pa.Array,
    pool: DrawnFrom | None,
    negatives: Negatives,
    schema: Schema,
) -> tuple[pa.Table, pa.Array, dict[str, int]]:
    """Adds drawn candidates to the slates of a bucket of users.

    Args:
        shown: exposures, see `merge_exposures`.
        behaviors: of the log, with `_user`, `_item` and `time`.
        item_ids: that the codes `_item` stand for.
        pool: to draw from.
        negatives: what to draw.
        schema: of the data set.

    Returns:
        The exposures, each slate in an order that tells nothing; the ids of all items;
        and counts for the manifest.
    """
    label = numpy(shown, schema.labels[0]) if len(shown) else np.empty(0)
    clicked = np.flatnonzero(label == 1)
    if pool is None or not len(clicked):
        shown = _shuffled(shown, negatives.seed) if len(shown) else shown
        return shown, item_ids, {}
    shown = _with_first_context(shown, schema)
    draws = _Draws(shown, clicked, behaviors, item_ids, pool, negatives)
    source, code = draws.draw(schema.ticks)
    place = draws.place_of(code)
    new = np.unique(code[place < 0])
    place[place < 0] = len(item_ids) + np.searchsorted(new, code[place < 0])
    ids = pc.take(column(pool.items, ITEM_KEY), pa.array(new)).cast(item_ids.type)
    drawn = _rows(shown.take(pa.array(source)), pool.items.take(pa.array(code)), schema)
    drawn = drawn.set_column(
        drawn.column_names.index("_item"), "_item", pa.array(place)
    )
    counts = {
        "join negatives drawn": len(code),
        "join negatives lacking": len(clicked) * negatives.each - len(code),
        **draws.known_before(source, code),
    }
    table = concat([shown.replace_schema_metadata(), drawn])
    return _shuffled(table, negatives.seed), pa.concat_arrays([item_ids, ids]), counts


def _with_first_context(shown: pa.Table, schema: Schema) -> pa.Table:
    """All rows of a slate with the context of its first one, which is the request's."""
    first = np.flatnonzero(begins_of(numpy(shown, "_slate")))
    of_row = np.repeat(first, np.diff(np.append(first, len(shown))))
    for feature in schema.context:
        if feature.name in shown.column_names:
            place = shown.column_names.index(feature.name)
            values = column(shown, feature.name).take(pa.array(of_row))
            shown = shown.set_column(place, feature.name, values)
    return shown


def _rows(of_clicked: pa.Table, items: pa.Table, schema: Schema) -> pa.Table:
    """Drawn candidates: their items' features, and all else that their slates have."""
    rows, count = of_clicked.replace_schema_metadata(), len(of_clicked)
    ours = {f.name for f in schema.of("item")}
    given: dict[str, Any] = {name: np.zeros(count, np.int8) for name in schema.labels}
    given |= {"_click_time": np.full(count, NO_CLICK)}
    given |= {"time": np.full(count, NOT_SHOWN)}
    for place, name in enumerate(rows.column_names):
        kind = rows.schema.field(name).type
        if name in given:
            values = pa.array(given[name], kind)
        elif name in ours:
            values = column(items, name)
            values = pa.nulls(count, kind) if values is None else values.cast(kind)
        elif name.startswith("behavior_") or name in ("click_time", TRUTH):
            values = pa.nulls(count, kind)
        else:
            continue
        rows = rows.set_column(place, name, values)
    return rows


def _shuffled(table: pa.Table, seed: int) -> pa.Table:
    """Candidates of each slate in an order by chance: the clicked one is anywhere."""
    state = hash_ids(column(table, ITEM_KEY)) ^ mixed(np.array([seed], np.uint64))
    state = mixed(state ^ numpy(table, "_request_time").astype(np.uint64))
    by_time = [numpy(table, name) for name in ("_user", "_request_time", "_slate")]
    order = order_by(*by_time, (state >> np.uint64(40)).astype(np.int64))
    return table.take(pa.array(order))


class _Draws:
    """Draws for the clicked exposures of a bucket; see `add_negatives`."""

    def __init__(
        self,
        shown: pa.Table,
        clicked: np.ndarray,
        behaviors: pa.Table,
        item_ids: pa.Array,
        pool: DrawnFrom,
        negatives: Negatives,
    ):
        self._pool = pool
        self._negatives = negatives
        self._clicked = clicked
        ids = column(pool.items, ITEM_KEY)
        self._code_of_place = (
            pc.fill_null(pc.index_in(item_ids.cast(ids.type), value_set=ids), -1)
            .to_numpy(zero_copy_only=False)
            .astype(np.int64)
        )
        self._user = numpy(shown, "_user")
        self._slate = numpy(shown, "_slate")
        self._time = numpy(shown, "_request_time")
        item = self._code_of_place[numpy(shown, "_item")]
        self._item = item  # every exposure's item is in the pool
        self._taken = self._taken_index(
            (self._user[clicked], item[clicked], numpy(shown, "time")[clicked]),
            behaviors,
        )
        users = hash_ids(column(shown, USER_KEY))[clicked]
        state = mixed(users ^ mixed(np.array([negatives.seed], np.uint64)))
        state = mixed(state ^ self._time[clicked].astype(np.uint64))
        self._state = mixed(state ^ hash_ids(column(shown, ITEM_KEY))[clicked])

    def _taken_index(
        self, clicks: Sequence[np.ndarray], behaviors: pa.Table
    ) -> EventIndex:
        """When users took items: clicks and behaviors."""
        taken = [np.array(values) for values in clicks]
        if len(behaviors):
            names = ("_user", "_item", "time")
            user, place, time = (numpy(behaviors, name) for name in names)
            item = self._code_of_place[place]
            own = item >= 0
            more = user[own], item[own], time[own]
            taken = [np.concatenate(pair) for pair in zip(taken, more, strict=True)]
        return EventIndex(self._pair(taken[0], taken[1]), taken[2])

    def _pair(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        return user * len(self._pool.items) + item

    def place_of(self, code: np.ndarray) -> np.ndarray:
        """Codes of the bucket's own items, -1 for others, of items of the pool."""
        place = np.full(len(self._pool.items), -1)
        own = np.flatnonzero(self._code_of_place >= 0)
        place[self._code_of_place[own]] = own
        return place[code]

    def draw(self, ticks: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws until each clicked exposure has its number, or the rounds are over.

        Args:
            ticks: units of the log's time in a second.

        Returns:
            The exposure that each is drawn for, and the item in the pool.
        """
        pool, clicked = self._pool, self._clicked
        time, own = self._time[clicked], self._item[clicked]
        slate = self._slate[clicked]
        wanted = self._negatives.each * np.bincount(slate)[slate]
        start, size = pool.ranges(own, time, wanted)
        lacking = np.where(size > 0, self._negatives.each, 0)
        used = np.unique(self._in_slate(self._slate, self._item))
        found: list[tuple[np.ndarray, np.ndarray]] = []
        for turn in range(_ROUNDS):
            which = np.repeat(np.arange(len(clicked)), lacking)
            if not len(which):
                break
            number = np.arange(len(which)) - np.repeat(
                np.cumsum(lacking) - lacking, lacking
            )
            number = (number + turn * self._negatives.each).astype(np.uint64)
            chance = mixed(self._state[which] ^ mixed(number + np.uint64(1)))
            share = (chance >> np.uint64(11)).astype(np.float64) * 2.0**-53
            item = pool.item[start[which] + (share * size[which]).astype(np.int64)]
            keys = self._in_slate(self._slate[clicked[which]], item)
            first = np.zeros(len(keys), bool)
            first[np.unique(keys, return_index=True)[1]] = True
            fits = first & ~np.isin(keys, used) & ~self._took(which, item, ticks)
            which, item = which[fits], item[fits]
            used = np.union1d(used, keys[fits])
            lacking -= np.bincount(which, minlength=len(clicked))
            found.append((which, item))
        which, item = (
            np.concatenate([np.empty(0, np.int64), *parts])
            for parts in (zip(*found, strict=True) if found else ((), ()))
        )
        return clicked[which], item

    def _in_slate(self, slate: np.ndarray, item: np.ndarray) -> np.ndarray:
        return slate * len(self._pool.items) + item

    def _took(self, which: np.ndarray, item: np.ndarray, ticks: int) -> np.ndarray:
        """Whether the user took an item near the request, before or after it."""
        row = self._clicked[which]
        pair, time = self._pair(self._user[row], item), self._time[row]
        window = self._negatives.window_ticks(ticks)
        if window is None:
            since, until = np.zeros_like(time), np.full_like(time, 1 << 62)
        else:
            since, until = time - window, time + window + 1
        index = self._taken
        return index.before(pair, until) > index.before(pair, since)

    def known_before(self, source: np.ndarray, code: np.ndarray) -> dict[str, int]:
        """Of clicked and drawn ones: what users took before, or nobody was shown."""
        counts = {}
        for what, rows, item in (
            ("clicks", self._clicked, self._item[self._clicked]),
            ("negatives", source, code),
        ):
            pair, time = self._pair(self._user[rows], item), self._time[rows]
            before = self._taken.before(pair, time) > self._taken.before(pair, 0)
            counts[f"join {what} of items taken before"] = int(before.sum())
            unseen = self._pool.first[item] >= time
            counts[f"join {what} of items not shown before"] = int(unseen.sum())
        return counts
