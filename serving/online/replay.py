"""Does an online store answer what the prepared records say?

Feeds the events of a raw log, by their times, into an online store, and asks at each
request what the store knows. Every field must be that of the request's record in the
prepared data set: ids, times, numbers, counters; with a model, the score too. The
command is `ctr_tf.commands.replay`.
"""

import bisect
import collections
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.reading import checked, read_examples
from ctr_tf.errors import UserError
from ctr_tf.schema import ITEM_KEY, USER_KEY, Schema
from ctr_tf.schema.feature import Feature
from pipelines.arrow import column, numpy
from pipelines.histories import UserBucket, build_user_bucket
from pipelines.items import ItemTable, merge_items
from pipelines.sources.source import Source
from serving.online.ingest import first_rows
from serving.online.rows import python_rows, source_tables
from serving.online.store import OnlineStore
from serving.request import request_to_tensors

_log = logging.getLogger(__name__)
_EVENTS = ("behaviors", "exposures")
_IDS = ("user_id", "request_id")
_TELL_EVERY = 10.0  # seconds
_ROWS = 10_000  # of users and items, ingested together
TOLERANCE = 1e-5

Score = Callable[[dict, bytes], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass
class Replay:
    """What came of a replay.

    Args:
        requests: how many were held against their records.
        events: how many rows went into the store.
        assembling: seconds each request took to be assembled.
        ingesting: seconds that all events took.
        scored: how many of them were scored, too.
        largest: difference of a score.
    """

    requests: int = 0
    events: int = 0
    assembling: list[float] = dataclasses.field(default_factory=list)
    ingesting: float = 0.0
    scored: int = 0
    largest: float = 0.0


class ReplayError(UserError):
    """A request that is not its record; names the first field that differs."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request of the log.

    Args:
        time: in the log's unit.
        key: user's and request's id, as records have them.
        user: its raw id.
        context: features of the request.
        candidates: `item_id`, the candidates' and the row's own item features.
    """

    time: int
    key: tuple[str, str]
    user: object
    context: dict
    candidates: list[dict]


def replay(
    source: Source,
    folder: str,
    data: PreparedData,
    store: OnlineStore,
    score: Score | None = None,
    most: int | None = None,
) -> Replay:
    """Replays a log.

    Args:
        source: of the raw log.
        folder: of the raw log.
        data: prepared from it.
        store: empty, of the data's schema.
        score: a request's tensors and its serialized record → their probabilities.
        most: requests to hold against their records, spread over the log.

    Raises:
        ReplayError: names the first field that differs, and both values.
        UserError: if candidates of the records were drawn by the job.
    """
    if data.manifest.negatives is not None:
        raise UserError(
            "Some candidates of the records were drawn: only what was shown can be "
            "replayed. Received: data prepared with "
            f"--negatives={data.manifest.negatives.each}"
        )
    tables = collections.defaultdict(list)
    read = source_tables(source, folder, data.schema.without_texts())
    for table, rows, _ in read:
        tables[table].append(rows)
    requests = _requests(tables, data.schema)
    if most is not None and most < len(requests):
        places = np.linspace(0, len(requests) - 1, most).astype(int)
        requests = [requests[place] for place in places]
    records = _records(data, {asked.key for asked in requests})
    for table in ("users", "items"):
        rows = first_rows(tables[table], USER_KEY if table == "users" else ITEM_KEY)
        for start in range(0, len(rows), _ROWS):
            store.ingest_typed(table, rows[start : start + _ROWS])
    result, told = Replay(), time.monotonic()
    feed = _Feed(store, tables, result)
    for asked in requests:
        if asked.key not in records:  # another of the prepared data's splits
            raise ReplayError(f"There is no record of the request {asked.key}.")
        feed.until(asked.time)
        started = time.perf_counter()
        request = store.request(
            asked.user,
            asked.candidates,
            asked.context,
            time=asked.time,
            slate_size=_size(asked, data.schema),
        )
        tensors = request_to_tensors(request, data.schema)
        result.assembling.append(time.perf_counter() - started)
        sample, serialized = records[asked.key]
        compare(request, tensors, sample, data)
        if score is not None:
            served, expected = score(tensors, serialized)
            worst = float(np.abs(served - expected).max())
            if not worst <= TOLERANCE:
                raise ReplayError(
                    f"Request {asked.key}: the scores differ by {worst:.2e}, more than "
                    f"{TOLERANCE}."
                )
            result.largest = max(result.largest, worst)
            result.scored += 1
        result.requests += 1
        if time.monotonic() - told > _TELL_EVERY:
            told = time.monotonic()
            _log.info(
                "%s of %s requests equal their records, %s events in",
                *(f"{n:,}" for n in (result.requests, len(requests), result.events)),
            )
    return result


class _Feed:
    """Events of a log, by time, into a store."""

    def __init__(self, store: OnlineStore, tables: Mapping, result: Replay):
        self._store = store
        self._result = result
        self._rows = {}
        for table in _EVENTS:
            rows = [row for part in tables[table] for row in python_rows(part)]
            rows.sort(key=lambda row: row["time"])
            self._rows[table] = rows, [row["time"] for row in rows]
        self._done = dict.fromkeys(_EVENTS, 0)

    def until(self, now: int) -> None:
        """Feeds all events up to a time, those of that very time too."""
        started = time.perf_counter()
        for table in _EVENTS:
            rows, times = self._rows[table]
            start, stop = self._done[table], bisect.bisect_right(times, now)
            if stop > start:
                self._store.ingest_typed(table, rows[start:stop])
                self._done[table] = stop
                self._result.events += stop - start
        self._result.ingesting += time.perf_counter() - started


def compare(request: dict, tensors: dict, sample: Mapping, data: PreparedData) -> None:
    """Holds a request against its record.

    Args:
        request: of the store.
        tensors: of the request.
        sample: record key → values.
        data: that the record is of.

    Raises:
        ReplayError: names the first field that differs, and both values.
    """
    schema = data.schema
    behaviors = request["behaviors"]
    rows = {
        "user": {k: [v] for k, v in request["user"].items()},
        "context": {k: [v] for k, v in request["context"].items()},
        "behavior": behaviors,
        "candidate": {
            name: [candidate[name] for candidate in request["candidates"]]
            for name in request["candidates"][0]
        },
    }
    found = {
        "request_time": [request["request_time"]],
        "behavior_time": behaviors["time"],
    }
    for group, features in schema.groups().items():
        for feature in features:
            key = f"{group}_{feature.name}"
            if feature.name in schema.computed.placed:
                found[key] = tensors[key][0]
            elif feature.name in rows[group]:
                found |= _stored(key, feature, rows[group][feature.name], data)
    if "slate_size" in request:
        found["context_slate_size"] = [request["slate_size"]]
    for key, values in found.items():
        expected = sample.get(key, np.zeros(0))
        equal = len(values) == len(expected) and np.array_equal(
            np.asarray(values, np.asarray(expected).dtype),
            expected,
            equal_nan=np.asarray(expected).dtype.kind == "f",
        )
        if not equal:
            raise ReplayError(_difference(key, values, expected, sample))


def _stored(key: str, feature: Feature, values: list, data: PreparedData) -> dict:
    """Raw values as a record has them."""
    found = {}
    if feature.length > 1:
        lists = [(value or [])[: feature.length] for value in values]
        if not key.startswith(("user_", "context_")):
            found[f"{key}_length"] = [len(each) for each in lists]
        values = [value for each in lists for value in each]
    raw = pa.array(values, feature.arrow_type)
    return {**found, key: feature.store(raw, data.vocabularies)}


def _difference(key: str, values: Any, expected: Any, sample: Mapping) -> str:
    values, expected = np.asarray(values), np.asarray(expected)
    who = " and ".join(sample[name][0].decode() for name in _IDS)
    if len(values) != len(expected):
        return (
            f"User and request {who}: `{key}` has {len(expected)} values in the "
            f"record. Received: {len(values)}"
        )
    both_missing = (values != values) & (expected != expected)
    place = int(np.flatnonzero((values != expected) & ~both_missing)[0])
    return (
        f"User and request {who}: `{key}[{place}]` is {expected[place]!r} in the "
        f"record. Received: {values[place]!r}"
    )


def _size(asked: Asked, schema: Schema) -> int | None:
    return len(asked.candidates) if schema.computed.slate_size else None


def _requests(tables: Mapping, schema: Schema) -> list[Asked]:
    """The requests of a log by time, as the listwise job finds them."""
    items = ItemTable([merge_items(tables["items"])[0]] if tables["items"] else [])
    users = tables["users"] if tables["users"] else None
    bucket, *_ = build_user_bucket(
        tables["exposures"], tables["behaviors"], users, items, schema
    )
    return sorted(_asked(bucket, schema), key=lambda asked: asked.time)


def _asked(bucket: UserBucket, schema: Schema) -> Iterator[Asked]:
    requests, candidates = bucket.requests, bucket.candidates
    users = column(bucket.users, USER_KEY).take(column(requests, "_user")).to_pylist()
    ids = bucket.request_ids(schema).to_pylist()
    names = [f.name for f in schema.of("context") if f.name in requests.column_names]
    contexts = python_rows(requests.select(names)) if names else None
    absent = [f.name for f in schema.of("context") if not f.computed]
    own = [f.name for f in schema.of("item", "candidate") if not f.computed]
    shown = candidates.select([n for n in own if n in candidates.column_names])
    item = column(bucket.items, ITEM_KEY).take(column(candidates, "_item"))
    if ITEM_KEY in shown.column_names:
        shown = shown.drop_columns([ITEM_KEY])
    rows = python_rows(shown.append_column(ITEM_KEY, item))
    for row in rows:
        for feature in schema.of("candidate"):
            if not feature.computed:
                row.setdefault(feature.name, None)
    stops = np.cumsum(numpy(requests, "_size")).tolist()
    start = 0
    for i, (now, stop) in enumerate(
        zip(numpy(requests, "_request_time").tolist(), stops, strict=True)
    ):
        context = dict.fromkeys(absent) | (contexts[i] if contexts else {})
        key = str(users[i]), ids[i]
        yield Asked(now, key, users[i], context, rows[start:stop])
        start = stop


def _records(data: PreparedData, wanted: set) -> dict:
    """(user, request) → sample and the record itself."""
    records = {}
    for split in filter(data.num_samples, data.splits):
        examples = read_examples(data.files(split), data.compression)
        for file, index, example in examples:
            found = (example.features.feature[name] for name in _IDS)
            key = tuple(feature.bytes_list.value[0].decode() for feature in found)
            if key in wanted:
                sample = checked(file, index, example, data.schema)
                records[key] = sample, example.SerializeToString()
    return records


def model_scores(model: str | Path) -> Score:
    """Scores of an export, of a request's tensors and of its record."""
    import tensorflow as tf

    from serving.exported import find_version
    from serving.saved_model import load

    loaded = load(find_version(model))
    served = loaded.signatures["serving_default"]
    examples = loaded.signatures["serialized_examples"]

    def score(tensors: dict, serialized: bytes) -> tuple[np.ndarray, np.ndarray]:
        inputs = {
            name: tf.convert_to_tensor(v, tf.string if v.dtype == object else None)
            for name, v in tensors.items()
        }
        expected = examples(examples=tf.constant([serialized]))["probability"]
        return served(**inputs)["probability"].numpy(), expected.numpy()

    return score


def summary(result: Replay, keys: int, size: int) -> str:
    """What a replay showed, in a few lines.

    Args:
        result: of `replay`.
        keys: of the store.
        size: of the store, in bytes.
    """
    rate = result.events / max(result.ingesting, 1e-9)
    milliseconds = np.array(result.assembling or [0.0]) * 1e3
    lines = [
        f"{result.requests:,} requests, each equal to its record in every field",
        f"{result.events:,} events, {rate:,.0f}/s",
        f"assembling a request: p50 {np.percentile(milliseconds, 50):.2f} ms, "
        f"p99 {np.percentile(milliseconds, 99):.2f} ms",
        f"the store: {keys:,} keys, {size / 1e6:,.1f} MB",
    ]
    if result.scored:
        lines.append(f"scores differ by at most {result.largest:.1e}")
    return "\n".join(lines)
