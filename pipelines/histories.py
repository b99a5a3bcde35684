"""One bucket of users: slates, timelines of behaviors and the windows between them.

All events of a user are in one bucket. One sort by (user, time) orders a bucket's
behaviors; the history of a request is then a range of that order, found by binary
search, so that neither long histories nor many requests of one user cost more.
"""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.schema import ITEM_KEY, USER_KEY, Schema, parse_duration
from pipelines.arrow import column, concat, from_bytes, numpy, rank, to_bytes
from pipelines.counters import TIME_BITS, user_item_counters
from pipelines.items import ItemTable
from pipelines.slates import find_duplicates, find_slates
from pipelines.validation import ROW, origins_of, rejected_rows

DUPLICATE_EXPOSURE = "duplicate exposure"
DUPLICATE_USER = "duplicate user"


@dataclasses.dataclass
class UserBucket:
    """What is known of a bucket of users, still in raw values.

    Args:
        requests: one row a request, ascending by user and time: `_user` (a code),
            `request_id` where known, `_request_time`, `_size` (of its slate), `_start`
            and `_stop` (its history, a range of `timeline`), context features.
        candidates: one row a candidate, in the order of `requests`: `_item` (a code),
            `time`, `_request_time`, labels, user-item counters, item and candidate
            features.
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

    def to_bytes(self) -> list[bytes]:
        """The tables as Arrow IPC, in the order of the fields."""
        fields = dataclasses.fields(self)
        return [to_bytes(getattr(self, field.name)) for field in fields]

    @classmethod
    def from_bytes(cls, data: list[bytes]) -> "UserBucket":
        """Reads what `to_bytes` wrote."""
        return cls(*map(from_bytes, data))


def build_user_bucket(
    exposures: list[pa.Table],
    behaviors: list[pa.Table],
    users: list[pa.Table],
    items: ItemTable,
    schema: Schema,
) -> tuple[UserBucket, pa.Table, list[tuple[str, str]], dict[str, int]]:
    """Brings together all that happened to the users of one bucket.

    Args:
        exposures: validated rows.
        behaviors: validated rows.
        users: validated rows.
        items: of the whole data set.
        schema: of the data set.

    Returns:
        The bucket; all behaviors, also of users without requests (`_user`, `_item`,
        `time`, `_is_click`, item and behavior features), for the vocabularies; the
        rejected, as (raw table, line); and counts for the manifest.
    """
    shown, lines = _without_duplicates(exposures, users_only=False)
    profiles, more_lines = _without_duplicates(users, users_only=True)
    raw = concat(behaviors)
    user_code, user_ids = _codes([shown, raw], USER_KEY)
    item_code, item_ids = _codes([shown, raw], ITEM_KEY)
    shown = _add(shown, _user=user_code[: len(shown)], _item=item_code[: len(shown)])
    raw = _add(raw, _user=user_code[len(shown) :], _item=item_code[len(shown) :])
    requests, candidates = _slates(shown, len(item_ids), schema)
    behaviors, merged = _behaviors(raw, shown, schema)
    active = np.zeros(len(user_ids), bool)
    active[numpy(requests, "_user")] = True
    timeline = behaviors.filter(pa.array(active[numpy(behaviors, "_user")]))
    bucket = UserBucket(
        _windows(requests, timeline, schema.history_length),
        candidates,
        timeline.drop_columns(["_user", "_is_click"]),
        _profiles(user_ids, profiles),
        items.of(item_ids),
    )
    counts = {
        "exposures kept": len(shown),
        "behaviors kept": len(raw),
        "users kept": len(profiles),
        "behaviors merged": merged,
    }
    rejected = [("exposures", line) for line in lines]
    rejected += [("users", line) for line in more_lines]
    return bucket, behaviors, rejected, counts


def _without_duplicates(
    tables: list[pa.Table], users_only: bool
) -> tuple[pa.Table, list[str]]:
    table = concat(tables)
    if not len(table):
        return table, []
    row = numpy(table, ROW)
    user, _ = rank(column(table, USER_KEY))
    if users_only:
        zero = np.zeros_like(user)
        duplicate = find_duplicates(user, zero, zero, zero, row)
    else:
        item, _ = rank(column(table, ITEM_KEY))
        request = request_codes(table)
        duplicate = find_duplicates(user, request, numpy(table, "time"), item, row)
    if not duplicate.any():
        return table, []
    reason = DUPLICATE_USER if users_only else DUPLICATE_EXPOSURE
    lines = rejected_rows(table, np.flatnonzero(duplicate), reason, origins_of(tables))
    return table.filter(pa.array(~duplicate)), lines


def request_codes(table: pa.Table) -> np.ndarray:
    """Codes of the request ids, ascending like the ids; -1 for none."""
    ids = column(table, "request_id")
    codes = np.full(len(table), -1, np.int64)
    if ids is not None:
        known = pc.is_valid(ids).to_numpy(zero_copy_only=False)
        codes[known] = rank(ids.drop_null())[0]
    return codes


def _codes(tables: list[pa.Table], name: str) -> tuple[np.ndarray, pa.Array]:
    arrays = [column(table, name) for table in tables if len(table)]
    types = {array.type for array in arrays}
    if len(types) > 1:
        raise ValueError(
            f"`{name}` must have one type in all raw tables. "
            f"Received: {' and '.join(sorted(map(str, types)))}"
        )
    if not arrays:
        return np.empty(0, np.int64), pa.array([], pa.string())
    return rank(pa.concat_arrays(arrays))


def _add(table: pa.Table, **columns: np.ndarray) -> pa.Table:
    if not table.column_names:
        return pa.table(columns)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    return table


def _slates(
    shown: pa.Table, num_items: int, schema: Schema
) -> tuple[pa.Table, pa.Table]:
    """Requests and candidates, both ascending by user, request time and slate."""
    if not len(shown):
        empty = pa.array([], pa.int64())
        requests = dict.fromkeys(("_user", "_request_time", "_size"), empty)
        return pa.table(requests), pa.table({"_item": empty, "time": empty})
    user, item, time = (numpy(shown, key) for key in ("_user", "_item", "time"))
    gap = parse_duration(schema.session_gap)
    slate, request_time = find_slates(user, request_codes(shown), time, item, gap)
    order = np.lexsort((item, time, slate, request_time, user))
    shown = _add(shown, _request_time=request_time).take(pa.array(order))
    user, item, time, slate = user[order], item[order], time[order], slate[order]
    request_time = request_time[order]
    first = np.flatnonzero(np.append(True, np.diff(slate) != 0))
    size = np.diff(np.append(first, len(slate)))
    pair = np.unique(user * num_items + item, return_inverse=True)[1]
    clicked = numpy(shown, schema.labels[0]) == 1
    counters = user_item_counters(pair, time, request_time, clicked)
    context = [f.name for f in schema.context if f.name in shown.column_names]
    known = [name for name in ("request_id",) if name in shown.column_names]
    requests = shown.select(["_user", "_request_time", *known, *context])
    requests = _add(requests.take(pa.array(first)), _size=size)
    wanted = {"_item", "time", "_request_time", "true_probability", *schema.labels}
    wanted |= {f.name for f in schema.candidate if f.name != ITEM_KEY}
    return requests, _add(_select(shown, wanted), **counters)


def _behaviors(raw: pa.Table, shown: pa.Table, schema: Schema) -> tuple[pa.Table, int]:
    """Behaviors ascending by user and time, and how many identical ones were merged.

    A clicked exposure is a behavior, too. Of those identical in user, time and item the
    first of the raw behaviors stays, or else the click.
    """
    own = [f.name for f in schema.behavior if not f.computed and f.name != ITEM_KEY]
    wanted = {"_user", "_item", "time", ROW, *own}
    tables = [_select(raw, wanted)] if len(raw) else []
    if len(shown):
        clicks = shown.filter(pc.equal(shown.column(schema.labels[0]), 1))
        item_features = {f.name for f in schema.of("item")}
        clicks = _select(
            clicks,
            {"_user", "_item", "time", ROW} | item_features,
            {f"behavior_{f.name}": f.name for f in schema.of("behavior")},
        )
        tables.append(clicks)
    if not tables:
        empty = pa.array([], pa.int64())
        table = pa.table(dict.fromkeys(("_user", "_item", "time"), empty))
        return table.append_column("_is_click", pa.array([], pa.bool_())), 0
    table = concat(t.replace_schema_metadata() for t in tables)
    is_click = np.arange(len(table)) >= len(raw)
    user, item, time, row = (numpy(table, k) for k in ("_user", "_item", "time", ROW))
    order = np.lexsort((row, is_click, item, time, user))
    same = np.ones(max(len(order) - 1, 0), bool)
    for key in (user, time, item):
        same &= np.diff(key[order]) == 0
    same = np.append(np.zeros(min(len(order), 1), bool), same)
    merged = int((same & ~is_click[order]).sum())
    table = _add(table.drop_columns([ROW]), _is_click=is_click)
    return table.take(pa.array(order[~same])), merged


def _select(
    table: pa.Table, names: set[str], renamed: dict[str, str] | None = None
) -> pa.Table:
    renamed = dict.fromkeys(names) | (renamed or {})
    kept = [name for name in table.column_names if name in renamed]
    return table.select(kept).rename_columns([renamed[name] or name for name in kept])


def _windows(requests: pa.Table, timeline: pa.Table, length: int) -> pa.Table:
    """Adds the range of the timeline that is each request's history."""
    key = (numpy(timeline, "_user") << TIME_BITS) | numpy(timeline, "time")
    user, time = numpy(requests, "_user"), numpy(requests, "_request_time")
    stop = np.searchsorted(key, (user << TIME_BITS) | time)
    start = np.maximum(np.searchsorted(key, user << TIME_BITS), stop - length)
    return _add(requests, _start=start, _stop=stop)


def _profiles(user_ids: pa.Array, profiles: pa.Table) -> pa.Table:
    """One row a user code; features are null for users without a profile."""
    if not len(profiles):
        return pa.table({USER_KEY: user_ids})
    index = pc.index_in(user_ids, value_set=column(profiles, USER_KEY))
    table = profiles.drop_columns([USER_KEY, ROW]).take(index)
    return table.replace_schema_metadata().append_column(USER_KEY, user_ids)
