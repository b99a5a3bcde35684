"""One bucket of users: slates, timelines of behaviors and the windows between them.

All events of a user are in one bucket. One sort by (user, time) orders a bucket's
behaviors; the history of a request is then a range of that order, found by binary
search, so that neither long histories nor many requests of one user cost more.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.computed.counters import NO_CLICK
from ctr_tf.computed.event_index import EventIndex
from ctr_tf.errors import UserError
from ctr_tf.schema import ITEM_KEY, USER_KEY, Schema, parse_duration
from pipelines.arrow import (
    add_columns,
    begins_of,
    column,
    concat,
    numpy,
    rank,
    read_table,
    sort_by_content,
    write_table,
)
from pipelines.exposures import merge_exposures
from pipelines.items import ItemTable
from pipelines.joins import (
    count_behaviors,
    count_clicks,
    count_items,
    count_late_clicks,
    count_users,
)
from pipelines.negatives import add_negatives, order_by_chance
from pipelines.pool import DrawnFrom
from pipelines.slates import find_duplicates
from pipelines.validation import ROW, origins_of, rejected_rows

DUPLICATE_USER = "duplicate user"
TIMES = ("time", "_click_time", "_request_time")  # of an exposure, its click, its slate


@dataclasses.dataclass
class UserBucket:
    """What is known of a bucket of users, still in raw values and the log's own times.

    Args:
        requests: one row a request, ascending by user and time: `_user` (a code),
            `request_id` where known, `_returned` (whether the id was there before),
            `_request_time`, `_size` (of its slate), `_start` and `_stop` (its history,
            a range of `timeline`), context features.
        candidates: one row a candidate, in the order of `requests`: `_item` (a code),
            labels, counters of the user, item and candidate features; until all
            events are counted, also `TIMES`.
        timeline: one row a behavior, ascending by user and time: `_item`, `time`,
            item and behavior features.
        users: one row a user code: `user_id`, user features.
        items: one row an item code: `item_id`, item features.
    """

    requests: pa.Table
    candidates: pa.Table
    timeline: pa.Table
    users: pa.Table
    items: pa.Table

    def write(self, folder: Path) -> None:
        """Writes the tables, without `TIMES`, a file each."""
        for field in dataclasses.fields(self):
            table = getattr(self, field.name)
            if field.name == "candidates":
                table = table.drop_columns(list(TIMES))
            write_table(folder / field.name, table)

    def of_requests(self, chosen: np.ndarray) -> "UserBucket":
        """The bucket with some of its requests, and their candidates.

        Args:
            chosen: bool, one a request.
        """
        shown = np.repeat(chosen, numpy(self.requests, "_size"))
        return dataclasses.replace(
            self,
            requests=self.requests.filter(pa.array(chosen)),
            candidates=self.candidates.filter(pa.array(shown)),
        )

    def request_ids(self, schema: Schema) -> pa.Array:
        """Ids of the requests, as samples have them.

        `<user>:<time>`, in the log's time unit, for slates without one, and
        `<id>@<seconds>` for those whose id was there before.
        """
        users = column(self.users, USER_KEY).take(column(self.requests, "_user"))
        time = column(self.requests, "_request_time")
        ids = pc.binary_join_element_wise(
            users.cast(pa.string()), time.cast(pa.string()), ":"
        )
        known = column(self.requests, "request_id")
        if known is None:
            return ids
        known, seconds = known.cast(pa.string()), pc.divide(time, schema.ticks)
        later = pc.binary_join_element_wise(known, seconds.cast(pa.string()), "@")
        returned = column(self.requests, "_returned")
        return pc.coalesce(pc.if_else(returned, later, known), ids)

    @classmethod
    def read(cls, folder: Path) -> "UserBucket":
        """Reads what `write` wrote."""
        fields = dataclasses.fields(cls)
        return cls(**{f.name: read_table(folder / f.name) for f in fields})


def build_user_bucket(
    exposures: list[pa.Table],
    behaviors: list[pa.Table],
    users: list[pa.Table] | None,
    items: ItemTable,
    schema: Schema,
    pool: DrawnFrom | None = None,
) -> tuple[UserBucket, pa.Table, list[str], dict[str, int]]:
    """Brings together all that happened to the users of one bucket.

    Args:
        exposures: validated rows.
        behaviors: validated rows.
        users: validated rows; None where the data set has no such table.
        items: of the whole data set.
        schema: of the data set.
        pool: what candidates are drawn of beside those of the log; None: of nothing.

    Returns:
        The bucket; all behaviors, also of users without requests (`_user`, `_item`,
        `time`, `_is_click`, item and behavior features), for the vocabularies; lines of
        `rejected/` for users; and counts for the manifest.
    """
    shown, raw = concat(exposures), concat(behaviors)
    profiles, lines = _without_duplicates(users or [])
    user_code, user_ids = _codes([shown, raw], USER_KEY)
    item_code, item_ids = _codes([shown, raw], ITEM_KEY)
    num_shown = len(shown)
    shown = add_columns(shown, _user=user_code[:num_shown], _item=item_code[:num_shown])
    raw = add_columns(raw, _user=user_code[num_shown:], _item=item_code[num_shown:])
    shown = merge_exposures(shown, schema)
    num_merged = num_shown - len(shown)
    drawn: dict[str, int] = {}
    if pool is not None:
        shown, item_ids, drawn = add_negatives(shown, raw, item_ids, pool, schema)
    requests, candidates = _slates(shown, schema)
    if pool is not None and len(shown):
        order = order_by_chance(shown, pool.negatives.seed)
        candidates = candidates.take(pa.array(order))
    every_behavior, merged = _behaviors(raw, shown, schema)
    active = np.zeros(len(user_ids), bool)
    active[numpy(requests, "_user")] = True
    timeline = every_behavior.filter(pa.array(active[numpy(every_behavior, "_user")]))
    of_items, known_items = items.of(item_ids)
    bucket = UserBucket(
        _windows(requests, timeline, schema),
        candidates,
        timeline.drop_columns(["_user", "_is_click"]),
        _profiles(user_ids, profiles),
        of_items,
    )
    counts = {
        "exposures kept": num_shown,
        "exposures merged": num_merged,
        "behaviors kept": len(raw),
        "behaviors merged": merged,
        "users kept": len(profiles),
        **drawn,
    }
    counts |= count_clicks(shown, raw, len(item_ids), schema.ticks)
    if len(shown):
        gap = parse_duration(schema.session_gap) * schema.ticks
        counts |= count_late_clicks(shown, len(item_ids), gap)
    if known_items is not None:
        counts |= count_items(candidates, timeline, known_items)
    if len(raw):
        counts |= count_behaviors(raw, active)
    if users is not None:
        counts |= count_users(user_ids, active, profiles)
    return bucket, every_behavior, lines, counts


def _without_duplicates(tables: list[pa.Table]) -> tuple[pa.Table, list[str]]:
    table = concat(tables)
    if not len(table):
        return table, []
    user, _ = rank(column(table, USER_KEY))
    duplicate = find_duplicates(user, numpy(table, ROW))
    if not duplicate.any():
        return table, []
    rows, origins = np.flatnonzero(duplicate), origins_of(tables)
    lines = rejected_rows("users", table, rows, DUPLICATE_USER, origins)
    return table.filter(pa.array(~duplicate)), lines


def _codes(tables: list[pa.Table], name: str) -> tuple[np.ndarray, pa.Array]:
    arrays = [column(table, name) for table in tables if len(table)]
    types = {array.type for array in arrays}
    if len(types) > 1:
        raise UserError(
            f"`{name}` must have one type in all raw tables. "
            f"Received: {' and '.join(sorted(map(str, types)))}"
        )
    if not arrays:
        return np.empty(0, np.int64), pa.array([], pa.string())
    return rank(pa.concat_arrays(arrays))


def _slates(shown: pa.Table, schema: Schema) -> tuple[pa.Table, pa.Table]:
    """Requests and candidates, both ascending by user, request time and slate."""
    if not len(shown):
        empty = pa.array([], pa.int64())
        requests = dict.fromkeys(("_user", "_request_time", "_size"), empty)
        candidates = dict.fromkeys(("_item", *TIMES), empty)
        return pa.table(requests), pa.table(candidates)
    slate = numpy(shown, "_slate")
    first = np.flatnonzero(begins_of(slate))
    size = np.diff(np.append(first, len(slate)))
    context = [f.name for f in schema.context if f.name in shown.column_names]
    known = [name for name in ("request_id",) if name in shown.column_names]
    own = ["_user", "_request_time", "_returned", *known, *context]
    requests = add_columns(shown.select(own).take(pa.array(first)), _size=size)
    wanted = {"_item", *TIMES, "true_probability"}
    of_candidates = (*schema.candidate, *schema.position)
    wanted |= {f.name for f in of_candidates if f.name != ITEM_KEY}
    return requests, _select(shown, wanted | {*schema.labels})


def _behaviors(raw: pa.Table, shown: pa.Table, schema: Schema) -> tuple[pa.Table, int]:
    """Behaviors ascending by user and time, and how many identical ones were merged.

    A clicked exposure is a behavior, too, at the time from which it is known. Behaviors
    of one time are ordered by item, then by their features, clicks last. Of those
    identical in user, time, item and behavior features one stays: a click only if there
    is no other.
    """
    own = [f.name for f in schema.behavior if not f.computed and f.name != ITEM_KEY]
    wanted = {"_user", "_item", "time", ROW, *own}
    tables = [_select(raw, wanted)] if len(raw) else []
    if len(shown):
        known = pc.not_equal(shown.column("_click_time"), NO_CLICK)
        item_features = {f.name: f.name for f in schema.of("item")}
        behavior_features = {
            f"behavior_{f.name}": f.name for f in schema.of("behavior")
        }
        clicks = _select(
            shown.filter(known),
            {"_user", "_item", ROW},
            {"_click_time": "time"} | item_features | behavior_features,
        )
        tables.append(clicks)
    if not tables:
        empty = pa.array([], pa.int64())
        table = pa.table(dict.fromkeys(("_user", "_item", "time"), empty))
        return table.append_column("_is_click", pa.array([], pa.bool_())), 0
    table = concat(t.replace_schema_metadata() for t in tables)
    table = add_columns(table, _is_click=np.arange(len(table)) >= len(raw))
    identity = [f.name for f in schema.of("behavior") if f.name in table.column_names]
    others = [f.name for f in schema.of("item") if f.name in table.column_names]
    order, begins = sort_by_content(
        table, ("_user", "time", "_item"), identity, ["_is_click", *others, ROW]
    )
    is_click = numpy(table, "_is_click")[order]
    merged = int((~begins & ~is_click).sum())
    return table.drop_columns([ROW]).take(pa.array(order[begins])), merged


def _select(
    table: pa.Table, names: set[str], renamed: dict[str, str] | None = None
) -> pa.Table:
    called = {name: name for name in names} | (renamed or {})
    kept = [name for name in table.column_names if name in called]
    return table.select(kept).rename_columns([called[name] for name in kept])


def _windows(requests: pa.Table, timeline: pa.Table, schema: Schema) -> pa.Table:
    """Adds the range of the timeline that is each request's history."""
    index = EventIndex(numpy(timeline, "_user"), numpy(timeline, "time"))
    user, time = numpy(requests, "_user"), numpy(requests, "_request_time")
    stop = index.before(user, time)
    since = schema.known_since(time, schema.ticks)
    start = np.maximum(index.before(user, since), stop - schema.history_length)
    return add_columns(requests, _start=start, _stop=stop)


def _profiles(user_ids: pa.Array, profiles: pa.Table) -> pa.Table:
    """One row a user code; features are null for users without a profile."""
    if not len(profiles):
        return pa.table({USER_KEY: user_ids})
    index = pc.index_in(user_ids, value_set=column(profiles, USER_KEY))
    table = profiles.drop_columns([ROW]).take(index).replace_schema_metadata()
    place = table.schema.get_field_index(USER_KEY)
    return table.set_column(place, USER_KEY, user_ids)
