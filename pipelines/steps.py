"""The steps of the listwise job that workers run."""

import logging
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from ctr_tf.data.manifest import SPLITS
from ctr_tf.schema import USER_KEY, Schema
from ctr_tf.time import MAX_TIME
from pipelines.arrow import (
    column,
    concat,
    from_bytes,
    hash_ids,
    numpy,
    partition,
    rank,
    to_bytes,
)
from pipelines.counting import add_user_counters, no_values, shared_events
from pipelines.histories import TIMES, UserBucket, build_user_bucket
from pipelines.items import ItemTable, merge_items, take_texts
from pipelines.samples import SampleEncoder
from pipelines.sources.source import Shard, Source
from pipelines.splits import SplitRule
from pipelines.statistics import Statistics
from pipelines.validation import validate
from pipelines.vocabulary import complete, count_values

_log = logging.getLogger(__name__)
BY_USER = ("exposures", "behaviors", "users")
_USER_BUCKET = b"user bucket"

Tagged = beam.pvalue.TaggedOutput


class ReadShard(beam.DoFn):
    """(number, shard) → rows fit for use, in buckets of users.

    Outputs: `exposures`, `behaviors` and `users` as (bucket, Arrow IPC); `items` as
    Arrow IPC; `times`, the times of exposures and how often each occurs; `rejected`,
    (table, line); `counts`.

    Args:
        source: reads the shards.
        schema: of the data set.
        num_buckets: of users.
    """

    OUTPUTS = (*BY_USER, "items", "times", "rejected", "counts")

    def __init__(self, source: Source, schema: Schema, num_buckets: int):
        self._source = source
        self._schema = schema
        self._num_buckets = num_buckets

    def process(self, numbered: tuple[int, Shard]) -> Iterator[Any]:
        """Reads one shard."""
        number, shard = numbered
        read, started = 0, time.perf_counter()
        clicks: Counter[str] = Counter()
        for batch in self._source.read(shard, self._schema):
            read += len(batch.rows) + len(batch.rejected)
            table, lines, clicked = validate(batch, number, self._schema)
            clicks["clicks read"] += clicked
            if shard.table == "exposures" and len(table):
                kept = int((numpy(table, self._schema.labels[0]) == 1).sum())
                clicks.update({"clicks read": kept, "clicks kept": kept})
            for line in lines:
                yield Tagged("rejected", (shard.table, line))
            if len(table):
                yield from self._outputs(shard.table, table)
        yield Tagged("counts", {f"{shard.table} read": read, **clicks})
        _log_rate("read", f"{shard.table} {shard.path}", read, started)

    def _outputs(self, name: str, table: pa.Table) -> Iterator[Tagged]:
        if name == "items":
            yield Tagged("items", to_bytes(table))
            return
        if name == "exposures":
            seconds = numpy(table, "time") // self._schema.ticks
            yield Tagged("times", np.unique(seconds, return_counts=True))
        users = hash_ids(column(table, USER_KEY))
        for bucket, rows in partition(table, users % np.uint64(self._num_buckets)):
            yield Tagged(name, (bucket, to_bytes(rows)))


class MergeItems(beam.DoFn):
    """All item rows → one table, for all to look up.

    Outputs: Arrow IPC; `texts`, those of all items, as Arrow IPC; `rejected`; `counts`.

    Args:
        schema: of the data set.
    """

    OUTPUTS = ("texts", "rejected", "counts")

    def __init__(self, schema: Schema):
        self._schema = schema

    def process(self, keyed: tuple[int, Iterable[bytes]]) -> Iterator[Any]:
        """Merges them."""
        table, lines = merge_items([from_bytes(data) for data in keyed[1]])
        if self._schema.texts and len(table):
            table, texts = take_texts(table, self._schema)
            yield Tagged("texts", to_bytes(texts))
        for line in lines:
            yield Tagged("rejected", ("items", line))
        yield Tagged("counts", {"items kept": len(table)})
        yield to_bytes(table)


def find_starts(
    _: bytes, times: list[tuple[np.ndarray, np.ndarray]], rule: SplitRule
) -> tuple[int, int]:
    """When validation and test begin, from the times of all exposures."""
    if not times:
        return rule.starts(np.empty(0, np.int64), np.empty(0, np.int64))
    every, inverse = np.unique(
        np.concatenate([t for t, _ in times]), return_inverse=True
    )
    counts = np.concatenate([c for _, c in times])
    total = np.zeros(len(every), np.int64)
    np.add.at(total, inverse, counts)
    return rule.starts(every, total)


class BuildHistories(beam.DoFn):
    """All rows of a bucket of users → slates and timelines.

    Outputs: (bucket, `UserBucket` as Arrow IPC); `events` as ((number of a counter,
    bucket of its keys), Arrow IPC); `vocabulary` as (vocabulary, counts as Arrow IPC);
    `rejected`; `counts`.

    Args:
        schema: of the data set.
        num_buckets: of the values that exposures are counted by.
        has_users: whether the data set has a table of users.
    """

    OUTPUTS = ("events", "vocabulary", "rejected", "counts")

    def __init__(self, schema: Schema, num_buckets: int, has_users: bool = True):
        self._schema = schema
        self._num_buckets = num_buckets
        self._has_users = has_users

    def process(
        self,
        keyed: tuple[int, dict[str, Iterable[bytes]]],
        items: list[bytes],
        starts: tuple[int, int],
    ) -> Iterator[Any]:
        """Builds one bucket."""
        number, rows = keyed
        started = time.perf_counter()
        exposures, behaviors, users = (
            [from_bytes(data) for data in rows[name]] for name in BY_USER
        )
        item_table = ItemTable(from_bytes(items[0]) if items else pa.table({}))
        bucket, behaviors, lines, counts = build_user_bucket(
            exposures,
            behaviors,
            users if self._has_users else None,
            item_table,
            self._schema,
        )
        for line in lines:
            yield Tagged("rejected", ("users", line))
        yield Tagged("counts", counts)
        validation_start = min(starts[0], MAX_TIME) * self._schema.ticks
        counted = count_values(bucket, behaviors, self._schema, validation_start)
        for name, table in counted.items():
            yield Tagged("vocabulary", (name, to_bytes(table)))
        if len(bucket.requests):
            bucket = add_user_counters(bucket, self._schema)
            yield from self._events(number, bucket)
            yield number, bucket.to_bytes()
        events = counts["exposures kept"] + counts["behaviors kept"]
        _log_rate("histories", f"bucket {number}", events, started)

    def _events(self, number: int, bucket: UserBucket) -> Iterator[Tagged]:
        for place, counter in enumerate(self._schema.computed.counters):
            if counter.of_user:
                continue
            events = shared_events(bucket, counter, self._schema)
            events = events.replace_schema_metadata({_USER_BUCKET: str(number)})
            part = hash_ids(column(events, "key")) % np.uint64(self._num_buckets)
            for key_bucket, rows in partition(events, part):
                yield Tagged("events", ((place, key_bucket), to_bytes(rows)))


class CountEvents(beam.DoFn):
    """All exposures of a bucket of a counter's keys → counts, for the users' buckets.

    Output: (bucket of users, Arrow IPC of `row` and the counter's features).

    Args:
        schema: of the data set.
    """

    def __init__(self, schema: Schema):
        self._schema = schema

    def process(
        self, keyed: tuple[tuple[int, int], Iterable[bytes]]
    ) -> Iterator[tuple[int, bytes]]:
        """Counts one bucket."""
        started = time.perf_counter()
        (place, number), tables = keyed[0], [from_bytes(data) for data in keyed[1]]
        counter, events = self._schema.computed.counters[place], concat(tables)
        counts = counter.batch(
            rank(column(events, "key"))[0], *(numpy(events, name) for name in TIMES)
        )
        result = pa.table({"row": column(events, "row"), **counts})
        start = 0
        for table in tables:
            user_bucket = int(table.schema.metadata[_USER_BUCKET])
            yield user_bucket, to_bytes(result.slice(start, len(table)))
            start += len(table)
        what = f"by {counter.by}, bucket {number}"
        _log_rate("counters", what, len(events), started)


class EncodeSamples(beam.DoFn):
    """A bucket of users and its counters → samples.

    Outputs: ((split, shard), samples as Arrow IPC); `statistics`.

    Args:
        schema: of the data set.
        num_shards: of each split.
    """

    OUTPUTS = ("statistics",)

    def __init__(self, schema: Schema, num_shards: int):
        self._schema = schema
        self._num_shards = num_shards

    def process(
        self,
        keyed: tuple[int, dict[str, Iterable]],
        vocabularies: dict[str, str],
        starts: tuple[int, int],
    ) -> Iterator[Any]:
        """Encodes one bucket."""
        started = time.perf_counter()
        number, values = keyed
        (data,) = values["buckets"]
        bucket = UserBucket.from_bytes(data)
        counters: dict[str, np.ndarray] = {}
        for counter in self._schema.computed.counters:
            if not counter.of_user:
                counters |= no_values(counter, len(bucket.candidates))
        for table in map(from_bytes, values["counters"]):
            for name in set(table.column_names) - {"row"}:
                counters[name][numpy(table, "row")] = numpy(table, name)
        encoder = SampleEncoder(
            bucket, counters, self._schema, complete(vocabularies, self._schema), starts
        )
        samples = encoder.encode()
        shard = numpy(samples, "hash") % np.uint64(self._num_shards)
        part = numpy(samples, "split") * self._num_shards + shard.astype(np.int64)
        for place, rows in partition(samples, part):
            split, number_of_shard = divmod(place, self._num_shards)
            yield (
                (SPLITS[split], number_of_shard),
                to_bytes(rows.drop_columns(["split", "hash"])),
            )
        yield Tagged("statistics", encoder.statistics)
        _log_rate("samples", f"bucket {number}", len(samples), started)


def _log_rate(step: str, what: str, rows: int, started: float) -> None:
    rate = rows / max(time.perf_counter() - started, 1e-6)
    _log.info("%-10s %s: %s, %s/s", step, what, f"{rows:,}", f"{rate:,.0f}")


def spread(entry: tuple[str, str], parts: int) -> tuple[int, tuple[str, str]]:
    """Keys a rejected row by a hash of its line."""
    return zlib.crc32(entry[1].encode()) % parts, entry


def add_counts(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Sums of counts by name."""
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total)


def add_statistics(parts: Iterable[Statistics]) -> Statistics:
    """Sums of statistics."""
    total = Statistics()
    for part in parts:
        total.update(part)
    return total
