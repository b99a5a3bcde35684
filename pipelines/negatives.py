"""Candidates drawn beside clicked ones, for logs that tell only what was taken.

For each clicked exposure items are drawn that its user did not take: of all that the
log had shown strictly before the request; or, by popularity, of what others are shown
next, which is like what was clicked by its age and counts. Drawn candidates are seen by
models like any other; counters, histories and vocabularies do not count them, for
nobody was shown them. What is drawn for an exposure depends on the log, the exposure
and the seed alone, not on parts or workers; and of the log, not on what comes at the
end of its split or later.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.computed.counters import NO_CLICK, NOT_SHOWN
from ctr_tf.computed.event_index import EventIndex
from ctr_tf.data.negatives import Negatives
from ctr_tf.errors import UserError, unknown_name
from ctr_tf.schema import ITEM_KEY, USER_KEY, Schema
from pipelines.arrow import (
    add_columns,
    column,
    concat,
    hash_ids,
    mixed,
    numpy,
    order_by,
)
from pipelines.pool import DrawnFrom
from pipelines.sources.source import Shard

_ROUNDS = 16  # of drawing, while something lacks
_SLATE = ("_user", "_request_time", "_slate")
_OF_THE_SHOWN = ("click_time", "true_probability")  # which nothing else has


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


def add_negatives(
    shown: pa.Table,
    behaviors: pa.Table,
    item_ids: pa.Array,
    pool: DrawnFrom,
    schema: Schema,
) -> tuple[pa.Table, pa.Array, dict[str, int]]:
    """Adds drawn candidates to the slates of a bucket of users.

    Args:
        shown: exposures, see `merge_exposures`.
        behaviors: of the log, with `_user`, `_item` and `time`.
        item_ids: that the codes `_item` stand for.
        pool: to draw from.
        schema: of the data set.

    Returns:
        The exposures, in each slate those of the log first, and then the drawn ones;
        the ids of all items; and counts for the manifest.
    """
    if not len(shown):
        return shown, item_ids, {}
    draws = _Draws(shown, behaviors, item_ids, pool, schema)
    if not len(draws.clicked):
        return shown, item_ids, {}
    source, code = draws.draw()
    place = draws.place_of(code)
    new = np.unique(code[place < 0])
    place[place < 0] = len(item_ids) + np.searchsorted(new, code[place < 0])
    ids = pc.take(column(pool.items, ITEM_KEY), pa.array(new)).cast(item_ids.type)
    items = add_columns(pool.items.take(pa.array(code)), _item=place)
    drawn = _rows(shown.take(pa.array(source)), items, schema)
    counts = {
        "join negatives drawn": len(code),
        "join negatives lacking": len(draws.clicked) * pool.negatives.each - len(code),
        **draws.known_before(source, code),
    }
    table = concat([shown.replace_schema_metadata(), drawn])
    by_slate = [numpy(table, name) for name in _SLATE]
    table = table.take(pa.array(order_by(*by_slate, np.arange(len(table)))))
    return table, pa.concat_arrays([item_ids, ids]), counts


def order_by_chance(shown: pa.Table, seed: int) -> np.ndarray:
    """An order of candidates in which the clicked one is anywhere in its slate.

    Args:
        shown: exposures, see `merge_exposures`.
        seed: of the draws.
    """
    state = hash_ids(column(shown, ITEM_KEY)) ^ mixed(np.array([seed], np.uint64))
    state = mixed(state ^ numpy(shown, "_request_time").astype(np.uint64))
    by_slate = [numpy(shown, name) for name in _SLATE]
    return order_by(*by_slate, (state >> np.uint64(40)).astype(np.int64))


def _rows(of_clicked: pa.Table, items: pa.Table, schema: Schema) -> pa.Table:
    """Drawn candidates: what their items are, and all else that their slates have.

    Args:
        of_clicked: the exposures that they are drawn for.
        items: theirs: `_item`, `item_id` and item features.
        schema: of the data set.
    """
    count = len(of_clicked)
    of_item = {"_item"} | {feature.name for feature in schema.of("item")}
    given: dict[str, Any] = {name: np.zeros(count, np.int8) for name in schema.labels}
    given |= {"_click_time": np.full(count, NO_CLICK)}
    given |= {"time": np.full(count, NOT_SHOWN)}
    columns = {}
    for name in of_clicked.column_names:
        values, kind = column(of_clicked, name), of_clicked.schema.field(name).type
        if name in given:
            values = pa.array(given[name], kind)
        elif name in items.column_names and name in of_item:
            values = column(items, name).cast(kind)
        elif name in of_item or name.startswith("behavior_") or name in _OF_THE_SHOWN:
            values = pa.nulls(count, kind)
        columns[name] = values
    return pa.table(columns)


class _Draws:
    """Draws for the clicked exposures of a bucket; see `add_negatives`.

    Attributes:
        clicked: rows of these exposures; without those behind the last split's end,
            which become no samples.
    """

    def __init__(
        self,
        shown: pa.Table,
        behaviors: pa.Table,
        item_ids: pa.Array,
        pool: DrawnFrom,
        schema: Schema,
    ):
        self._pool = pool
        self._negatives = pool.negatives
        self._ticks = schema.ticks
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
        self._item = item  # -1 of what is shown behind the last split's end alone
        label = numpy(shown, schema.labels[0])
        drawn_for = (label == 1) & (item >= 0) & (self._time < pool.ends[-1])
        self.clicked = clicked = np.flatnonzero(drawn_for)
        self._taken = self._taken_index(
            (self._user[clicked], item[clicked], numpy(shown, "time")[clicked]),
            behaviors,
        )
        users = hash_ids(column(shown, USER_KEY))[clicked]
        state = mixed(users ^ mixed(np.array([pool.negatives.seed], np.uint64)))
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
        return EventIndex(self._with_item(taken[0], taken[1]), taken[2])

    def _with_item(self, code: np.ndarray, item: np.ndarray) -> np.ndarray:
        """One code of a user's or a slate's and an item's."""
        return code * len(self._pool.items) + item

    def place_of(self, code: np.ndarray) -> np.ndarray:
        """Codes of the bucket's own items, -1 for others, of items of the pool."""
        place = np.full(len(self._pool.items), -1)
        own = np.flatnonzero(self._code_of_place >= 0)
        place[self._code_of_place[own]] = own
        return place[code]

    def draw(self) -> tuple[np.ndarray, np.ndarray]:
        """Draws until each clicked exposure has its number, or the rounds are over.

        Returns:
            The exposure that each is drawn for, and the item in the pool.
        """
        pool, clicked = self._pool, self.clicked
        time, own = self._time[clicked], self._item[clicked]
        slate = self._slate[clicked]
        wanted = self._negatives.each * np.bincount(slate)[slate]
        start, size = pool.ranges(own, time, wanted)
        lacking = np.where(size > 0, self._negatives.each, 0)
        known = self._item >= 0
        used = np.unique(self._with_item(self._slate[known], self._item[known]))
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
            keys = self._with_item(self._slate[clicked[which]], item)
            first = np.zeros(len(keys), bool)
            first[np.unique(keys, return_index=True)[1]] = True
            fits = first & ~np.isin(keys, used) & ~self._took(which, item)
            which, item = which[fits], item[fits]
            used = np.union1d(used, keys[fits])
            lacking -= np.bincount(which, minlength=len(clicked))
            found.append((which, item))
        which, item = (
            np.concatenate([np.empty(0, np.int64), *parts])
            for parts in (zip(*found, strict=True) if found else ((), ()))
        )
        return clicked[which], item

    def _took(self, which: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Whether the user took an item near the request, before or after it.

        What is taken in a later split is not known: else whoever learns which items are
        never drawn for a user has learned the clicks of the test.
        """
        row = self.clicked[which]
        pair, time = self._with_item(self._user[row], item), self._time[row]
        window = self._negatives.window_ticks(self._ticks)
        since, until = np.zeros_like(time), self._pool.known_until(time)
        if window is not None:
            since, until = time - window, np.minimum(time + window + 1, until)
        index = self._taken
        return index.before(pair, until) > index.before(pair, since)

    def known_before(self, source: np.ndarray, code: np.ndarray) -> dict[str, int]:
        """Of clicked and drawn ones: what users took before, or nobody was shown."""
        counts = {}
        for what, rows, item in (
            ("clicks", self.clicked, self._item[self.clicked]),
            ("negatives", source, code),
        ):
            pair, time = self._with_item(self._user[rows], item), self._time[rows]
            before = self._taken.before(pair, time) > self._taken.before(pair, 0)
            counts[f"join {what} of items taken before"] = int(before.sum())
            unseen = self._pool.first[item] >= time
            counts[f"join {what} of items not shown before"] = int(unseen.sum())
        return counts
