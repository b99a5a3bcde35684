"""The online store: events in, requests out.

    store = OnlineStore.open("runs/store", schema)
    store.ingest("exposures", [{"user_id": "u1", "time": …, "item_id": 7, "click": 1}])
    request = store.request("u1", candidates=[7, 9], context={"device": "phone"})

Rows are those of the raw tables (`docs/data_format.md`), typed and refused like in the
jobs. Exposures and behaviors may come in any order within an hour, and twice. A request
knows what was known strictly before its time, as a sample of the listwise job does.

An exposure of one request id and item counts once, whenever its rows come; without a
request id, of one time and item. What a later row says of a click counts from when it
was known.
"""

import collections
import dataclasses
import functools
import logging
import time as clock
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgpack

from ctr_tf import config as configs
from ctr_tf.computed.counters import BEHAVIORS, EXPOSURES, Counter
from ctr_tf.errors import UserError
from ctr_tf.schema import ITEM_KEY, MISSING, USER_KEY, Schema, parse_duration
from ctr_tf.storage import as_path
from ctr_tf.time import DAY
from serving.online.asked import asked_candidates, asked_context, plain, user_name
from serving.online.counter_state import (
    CLICK,
    IMPRESSION,
    CounterState,
    StateEvents,
)
from serving.online.item_cache import ItemCache
from serving.online.key_value import KeyValue, Transaction, make_key, open_key_value
from serving.online.slates import Exposure, Slates
from serving.online.timeline import A_BEHAVIOR, Timeline, own_columns, rank

_log = logging.getLogger(__name__)
LATE = 3_600  # seconds by which an event may come late, and a request look back
_SCHEMA = make_key("schema")
_LATEST = make_key("latest")


@dataclasses.dataclass
class _User:
    """What is read and written of a user while events come in."""

    columns: tuple  # of the timeline
    history: bytes | None
    slates: Slates
    profile: dict

    @functools.cached_property
    def timeline(self) -> Timeline:
        """The behaviors; read where one comes or goes, and only then written."""
        return Timeline(self.columns, self.history)

    @property
    def has_changed(self) -> bool:
        """Whether behaviors came or went."""
        return "timeline" in self.__dict__


class OnlineStore:
    """Histories, profiles, items and counters, as of now.

    Args:
        values: where the bytes are.
        schema: of the data set, whose definitions are kept with the store. Its texts
            are not: whoever reads them finds them by the ids of the items.

    Raises:
        UserError: if the store was made for another schema; names the differences.
    """

    def __init__(self, values: KeyValue, schema: Schema | None = None):
        self._values = values
        (text,) = values.get([_SCHEMA])
        if schema is None and text is None:
            raise UserError("The online store is empty, and no schema was given.")
        schema = schema and schema.without_texts()
        if text is not None:
            kept = Schema.from_yaml(text.decode(), source="the online store")
            _check_same(schema or kept, kept)
        self.schema = schema or kept
        if text is None:
            with values.transaction() as transaction:
                transaction.put({_SCHEMA: self.schema.to_yaml().encode()})
        self.counts: collections.Counter = collections.Counter()
        self._columns = own_columns(self.schema)
        self._given = {
            role: [f for f in features if not f.computed]
            for role, features in self.schema.groups().items()
        }
        self._roles = {f.name: f.role for f in self.schema.declared}
        self._counted_by = {  # item features, of which events may say nothing
            table: [
                counter.key
                for counter in self.schema.computed.counters
                if counter.source == table
                and self._roles.get(counter.key) == "item"
                and counter.key != ITEM_KEY
            ]
            for table in (EXPOSURES, BEHAVIORS)
        }
        self._items = ItemCache()
        self._told_late = False
        gap = parse_duration(self.schema.session_gap)
        delay = parse_duration(self.schema.feedback_delay, may_be_zero=True)
        ticks = self.schema.ticks
        self._gap, self._delay, self._late = gap * ticks, delay * ticks, LATE * ticks

    @classmethod
    def open(
        cls, where: str | Path, schema: Schema | None = None, sync: bool = True
    ) -> "OnlineStore":
        """Opens a store, or makes one.

        Args:
            where: a folder, or `redis://host:port/number`.
            schema: of the data set; the store's own by default.
            sync: see `serving.online.key_value.Embedded`.
        """
        return cls(open_key_value(where, sync), schema)

    @classmethod
    def open_filled(
        cls, where: str | Path, schema: Schema | None = None
    ) -> "OnlineStore":
        """Opens a store to ask it.

        Args:
            where: a folder, or `redis://host:port/number`.
            schema: that it must be of.

        Raises:
            FileNotFoundError: if nothing was ever ingested there.
        """
        if "://" in str(where) or (as_path(where) / "data.mdb").is_file():
            values = open_key_value(where)
            if values.get([_SCHEMA])[0] is not None:
                return cls(values, schema)
            values.close()
        raise FileNotFoundError(
            f"There is no online store at '{where}': feed one by `ctr-tf ingest`."
        )

    def close(self) -> None:
        """Frees the store."""
        self._values.close()

    def size(self) -> tuple[int, int]:
        """Keys, and bytes of the whole store."""
        return self._values.size()

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys and values, as they lie in the store."""
        return self._values.items()

    @property
    def latest(self) -> int:
        """Time of the latest event, in the log's unit; 0 without any."""
        return _time(self._values.get([_LATEST])[0])

    # Events in.

    def ingest(self, table: str, rows: Iterable[Mapping]) -> collections.Counter:
        """Takes rows of a raw table.

        Args:
            table: `"exposures"`, `"behaviors"`, `"users"` or `"items"`.
            rows: column → value, as the raw table has them.

        Returns:
            How many were read, merged (an exposure or a behavior told twice), more
            than an hour late (those may count twice, if they were told before) and of
            unknown items: what counters count by those items' features lacks them.

        Raises:
            UserError: names the first row that is unfit, and why; nothing is kept.
        """
        from serving.online.rows import not_in_future, typed_rows

        typed, rejected = typed_rows(table, rows, self.schema)
        typed, later = not_in_future(table, typed, self.schema, "ingest")
        rejected += later
        if rejected:
            raise UserError(f"Not ingested, {len(rejected)} unfit: {rejected[0]}")
        return self.ingest_typed(table, typed)

    def ingest_typed(
        self, table: str, rows: list[dict], latest: int | None = None
    ) -> collections.Counter:
        """`ingest` of rows that `pipelines.validation` has typed already.

        Args:
            table: of the raw log.
            rows: column → value.
            latest: time of the latest event of all those to come, where they do not
                come by their times.
        """
        counts = collections.Counter({f"{table} read": len(rows)})
        with self._values.transaction() as transaction:
            if table in ("exposures", "behaviors"):
                before = _time(transaction.get([_LATEST])[0])
                if before and latest is None:
                    late = sum(row["time"] < before - self._late for row in rows)
                    counts[f"{table} more than an hour late"] = late
                latest = max(before, latest or 0, *(row["time"] for row in rows))
                self._ingest_events(table, rows, transaction, latest, counts)
                transaction.put({_LATEST: msgpack.packb(latest)})
            elif table in ("users", "items"):
                key = USER_KEY if table == "users" else ITEM_KEY
                kind = table[0]
                transaction.put(
                    {make_key(kind, _id(row, key)): _pack(row) for row in rows}
                )
        if table == "items":
            self._items.drop(row[ITEM_KEY] for row in rows)
        self.counts.update(counts)
        return counts

    def _ingest_events(
        self,
        table: str,
        rows: Sequence[dict],
        transaction: Transaction,
        latest: int,
        counts: collections.Counter,
    ) -> None:
        names = sorted({name for row in rows for name in row if name[0] != "_"})
        rows = sorted(rows, key=lambda r: (r["time"], [rank(r.get(n)) for n in names]))
        users = self._read_users({_id(row, USER_KEY) for row in rows}, transaction)
        items = {}
        if self._counted_by[table]:
            ids = list({row[ITEM_KEY] for row in rows})
            found = transaction.get([make_key("i", item) for item in ids])
            items = {i: _unpack(d) for i, d in zip(ids, found, strict=True) if d}
            counts[f"{table} of unknown items"] = sum(
                row[ITEM_KEY] not in items
                and any(row.get(name) is None for name in self._counted_by[table])
                for row in rows
            )
        # (counter, key) → (kind, time) → how many more
        events: dict[tuple, collections.Counter] = collections.defaultdict(
            collections.Counter
        )
        for row in rows:
            user = users[_id(row, USER_KEY)]
            if table == "behaviors":
                merged = self._behave(user, row, items, events)
            else:
                merged = self._expose(user, row, items, events, counts)
            counts[f"{table} merged"] += merged
        self._count(events, transaction, latest)
        written = {}
        for name, user in users.items():
            if user.has_changed:
                now = latest - self._late  # the earliest that requests may have
                since = self.schema.known_since(now, self.schema.ticks)
                user.timeline.forget(now, self.schema.history_length, since)
                written[make_key("h", name)] = user.timeline.to_bytes()
            if table == "exposures":
                after = latest - self._late - self._gap
                written[make_key("e", name)] = user.slates.to_bytes(after)
        transaction.put(written)

    def _read_users(
        self, names: Iterable[str], transaction: Transaction
    ) -> dict[str, _User]:
        names = list(names)
        keys = [make_key(kind, name) for kind in "heu" for name in names]
        found, count = transaction.get(keys), len(names)
        return {
            name: _User(
                self._columns,
                found[i],
                Slates(self._gap, found[count + i]),
                _unpack(found[2 * count + i]),
            )
            for i, name in enumerate(names)
        }

    def _behave(self, user: _User, row: dict, items: Mapping, events: dict) -> bool:
        """Takes a behavior; returns whether it was there already."""
        item, time = row[ITEM_KEY], row["time"]
        merged = user.timeline.add(time, item, False, row)
        if merged != A_BEHAVIOR:
            keys = self._event_keys(user, row, items.get(item, {}), BEHAVIORS)
            for place, key in enumerate(keys):
                if key is not None:
                    events[place, key][IMPRESSION, time] += 1
        return merged is not None

    def _event_keys(
        self, user: _User, row: dict, item_row: dict, source: str
    ) -> list[bytes | None]:
        """For each counter, the key that an event counts for; None where for none."""
        name = _id(row, USER_KEY)
        return [
            _counter_key(c, name, self._value(c, row, item_row, user.profile))
            if c.source == source
            else None
            for c in self.schema.computed.counters
        ]

    def _expose(
        self,
        user: _User,
        row: dict,
        items: Mapping,
        events: dict,
        counts: collections.Counter,
    ) -> bool:
        """Takes a row of exposures; returns whether its exposure was there already."""
        item, time, click = row[ITEM_KEY], row["time"], None
        if row[self.schema.labels[0]] == 1:
            click = row.get("click_time")
            click = time + self._delay if click is None else click
        keys = self._event_keys(user, row, items.get(item, {}), EXPOSURES)
        behavior, of_item = self._columns
        new = Exposure(
            time,
            keys,
            {name: row.get(name) for name in of_item},
            click,
            time,
            {name: row.get(f"behavior_{name}") for name in behavior},
        )
        changes = user.slates.add(row.get("request_id"), item, new)
        for name, before, now in changes:
            if before != [now]:
                self._recount(user, name, before, now, events, counts)
        return bool(changes[0][1])

    def _recount(
        self,
        user: _User,
        item: Any,
        before: Sequence[Exposure],
        now: Exposure,
        events: dict,
        counts: collections.Counter,
    ) -> None:
        """Counts an exposure instead of those that it is made of."""
        for exposure, more in [*((each, -1) for each in before), (now, 1)]:
            for place, key in enumerate(exposure.keys):
                if key is not None:
                    events[place, key][IMPRESSION, exposure.time] += more
                    if exposure.click is not None:
                        events[place, key][CLICK, exposure.click] += more
        known = [(e.click, e.as_behavior) for e in before if e.click is not None]
        counts["clicks"] -= len(known)
        for time, row in known:
            user.timeline.remove_click(time, item, row)
        if now.click is not None:
            merged = user.timeline.add(now.click, item, True, now.as_behavior)
            counts["clicks"] += 1
            counts["clicks merged"] += merged is not None

    def _value(self, counter: Counter, row: dict, item_row: dict, profile: dict) -> Any:
        """The raw value that an exposure, or a candidate, is counted by."""
        name = counter.key
        role = self._roles.get(name)
        if name == USER_KEY:
            return ""
        if role == "user":
            return profile.get(name)
        value = row.get(name)
        return item_row.get(name) if value is None and role == "item" else value

    def _count(self, events: Mapping, transaction: Transaction, latest: int) -> None:
        counters = self.schema.computed.counters
        keys = list(events)
        states = transaction.get([key for _, key in keys])
        written = {}
        for (place, key), data in zip(keys, states, strict=True):
            counter, state = counters[place], CounterState(data)
            # A user and an item have few events: each for itself tells the last one.
            bucket = 1 if counter.is_cross else counter.resolution
            day = 0 if counter.horizon is None else DAY * counter.ticks
            found = events[place, key]
            for (kind, time), more in found.items():
                for _ in range(-more):
                    state.remove(kind, time, bucket, day)
            for kind in (IMPRESSION, CLICK):
                new = {time: n for (of, time), n in found.items() if of == kind}
                state.add(kind, list(collections.Counter(new).elements()), bucket)
            now = counter.bucket_of(latest - self._late)
            oldest = now - counter.longest
            if counter.horizon is not None:
                state.thin(oldest, day, counter.tells_age)
                oldest = counter.known_since(now)
            state.forget(oldest)
            written[key] = state.to_bytes()
        transaction.put(written)

    # Requests out.

    def request(
        self,
        user: object,
        candidates: Sequence,
        context: Mapping | None = None,
        *,
        time: int | None = None,
        slate_size: int | None = None,
    ) -> dict:
        """A request with all that is known, as `serving.request` takes it.

        Args:
            user: id.
            candidates: ids of items, or objects with `item_id`, the features of the
                candidate's own and item features that differ from the item's.
            context: features of the request.
            time: of the request, in the log's unit; now by default.
            slate_size: how many are shown, where the schema has that feature.

        Returns:
            The request; its behaviors are one list a feature.

        Raises:
            UserError: if the store cannot tell what was known at that time; or names
                the place of a value that is not of its feature's type.
        """
        ticks = self.schema.ticks
        now = int(clock.time() * ticks) if time is None else plain(time)
        name = user_name(user, self.schema)
        rows = asked_candidates(candidates, self.schema)
        own = asked_context(context, self.schema)
        items, missing = self._items.split(row[ITEM_KEY] for row in rows)
        first = [_LATEST, make_key("u", name), make_key("h", name)]
        latest, profile, history, *found = self._values.get(
            first + [make_key("i", item) for item in missing]
        )
        self._check_time(now, _time(latest))
        if time is None:
            self._tell_if_late(now, _time(latest))
        self.counts["unknown users"] += profile is None
        items |= self._remember(missing, found)
        profile, timeline = _unpack(profile), Timeline(self._columns, history)
        since = self.schema.known_since(now, ticks)
        window = timeline.before(now, self.schema.history_length, since)
        counted = [{**own, **row} for row in rows]
        keys = self._counter_keys(name, counted, items, profile)
        before, missing = self._items.split(timeline.items[window])
        wanted = [key for of in keys for key in of if key is not None]
        found = self._values.get(wanted + [make_key("i", item) for item in missing])
        before |= self._remember(missing, found[len(wanted) :])
        states = dict(zip(wanted, found, strict=False))
        request = {
            "request_time": now // ticks,
            "user": self._profile(name, profile),
            "context": own,
            "behaviors": self._behaviors(timeline, window, before),
            "candidates": self._candidates(rows, items, keys, states, now),
        }
        if slate_size is not None:
            request["slate_size"] = plain(slate_size)
        return request

    def _tell_if_late(self, now: int, latest: int) -> None:
        """Warns, once, of a request that was given no time, long after all events."""
        days = (now - latest) // (DAY * self.schema.ticks)
        if not latest or days < 1 or self._told_late:
            return
        self._told_late = True
        _log.warning(
            "the store's latest event is %s day%s old: counters of the latest hours "
            "are 0, whatever they were. Feed it, or give the request a time "
            "(`ctr-tf rank --time latest`)",
            f"{days:,}", "" if days == 1 else "s",
        )  # fmt: skip

    def _check_time(self, now: int, latest: int) -> None:
        if now < latest - self._late:
            raise UserError(
                f"The online store knows what was known within {LATE} s before its "
                f"latest event, at {latest}. Received: a request at {now}"
            )

    def _counter_keys(
        self, name: str, rows: Sequence[dict], items: Mapping, profile: dict
    ) -> list[list]:
        """For each counter, the key of each candidate's state, None without a value."""
        return [
            [
                _counter_key(
                    counter,
                    name,
                    self._value(counter, row, items[row[ITEM_KEY]], profile),
                )
                for row in rows
            ]
            for counter in self.schema.computed.counters
        ]

    def _profile(self, user: str, profile: dict) -> dict:
        values = {f.name: profile.get(f.name) for f in self._given["user"]}
        for feature in self._given["user"]:
            if feature.name == USER_KEY:
                values[USER_KEY] = int(user) if feature.dtype == "int64" else user
        return values

    def _behaviors(
        self, timeline: Timeline, window: slice, rows: Mapping
    ) -> dict[str, list]:
        ticks = self.schema.ticks
        times, items = timeline.times[window], timeline.items[window]
        columns: dict[str, list] = {
            "time": [t // ticks for t in times] if ticks > 1 else times
        }
        known = [rows[item] for item in items]
        for feature in self._given["behavior"]:
            name = feature.name
            own = timeline.columns.get(name)
            own = None if own is None else own[window]
            if name == ITEM_KEY:
                columns[name] = items
            elif feature.role == "behavior":
                columns[name] = [None for _ in items] if own is None else own
            elif own is None:
                columns[name] = [row.get(name) for row in known]
            else:
                columns[name] = [
                    row.get(name) if value is None else value
                    for value, row in zip(own, known, strict=True)
                ]
        return columns

    def _candidates(
        self,
        rows: Sequence[Mapping],
        items: Mapping,
        keys: list[list],
        states: Mapping,
        now: int,
    ) -> list[dict]:
        result = []
        item_features = [f for f in self._given["candidate"] if f.role == "item"]
        for row in rows:
            known, values = items[row[ITEM_KEY]], dict(row)
            for feature in item_features:
                if values.get(feature.name) is None:
                    values[feature.name] = known.get(feature.name)
            result.append(values)
        for counter, of in zip(self.schema.computed.counters, keys, strict=True):
            known = [place for place, key in enumerate(of) if key is not None]
            found = [CounterState(states[of[place]]) for place in known]
            values = counter.values(
                StateEvents(found, IMPRESSION), StateEvents(found, CLICK), now
            )
            for feature in counter.features:
                for candidate in result:
                    candidate[feature.name] = None
                counts = values[feature.name].tolist()
                for place, value in zip(known, counts, strict=True):
                    is_missing = value == MISSING["int64"]
                    result[place][feature.name] = None if is_missing else value
        return result

    def _remember(self, items: list, found: list) -> dict[object, dict]:
        """Rows of items that were read, kept for a while; {} of unknown ones."""
        self.counts["unknown items"] += sum(data is None for data in found)
        rows = dict(zip(items, map(_unpack, found), strict=True))
        self._items.put(rows)
        return rows


def _time(data: bytes | None) -> int:
    return 0 if data is None else msgpack.unpackb(data)


def _counter_key(counter: Counter, user: str, value: object) -> bytes | None:
    if value is None:
        return None
    owner = [user] if counter.of_user else []
    kind = "b" if counter.counts_behaviors else "c"
    return make_key(kind, counter.by, *owner, value)


def _id(row: Mapping, key: str) -> Any:
    return str(row[key]) if key == USER_KEY else row[key]


def _pack(row: Mapping) -> bytes:
    kept = {k: v for k, v in row.items() if v is not None and k[0] != "_"}
    return msgpack.packb(kept)


def _unpack(data: bytes | None) -> Any:
    return {} if data is None else msgpack.unpackb(data, strict_map_key=False)


def _check_same(asked: Schema, kept: Schema) -> None:
    """Raises UserError where a store was made for another schema."""
    import yaml

    one, other = (yaml.safe_load(s.to_yaml()) for s in (asked, kept))
    for each in (one, other):
        for feature in each["features"]:  # what a vocabulary keeps changes no event
            for limit in ("min_count", "max_size", "vocabulary", "embedding_dim"):
                feature.pop(limit, None)
        each["features"] = {f"{f['role']}.{f['name']}": f for f in each["features"]}
    if different := configs.differences(one, other):
        raise UserError(
            "The online store was made for another schema. It differs in: "
            + "; ".join(different)
        )
