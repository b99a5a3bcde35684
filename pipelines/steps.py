"""The steps of the listwise job that workers run."""

import logging
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa

from ctr_tf.schema import ITEM_KEY, USER_KEY, Schema
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
from pipelines.counters import item_counters
from pipelines.histories import UserBucket, build_user_bucket
from pipelines.items import ItemTable, merge_items
from pipelines.samples import SampleEncoder
from pipelines.sources.source import Shard, Source
from pipelines.splits import SplitRule
from pipelines.statistics import SPLITS, Statistics
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

    def process(self, numbered: tuple[int, Shard]):
        """Reads one shard."""
        number, shard = numbered
        read, clicks, started = 0, Counter(), time.perf_counter()
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

    Outputs: Arrow IPC; `rejected`; `counts`.
    """

    OUTPUTS = ("rejected", "counts")

    def process(self, keyed: tuple[int, Iterable[bytes]]):
        """Merges them."""
        table, lines = merge_items([from_bytes(data) for data in keyed[1]])
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

    Outputs: (bucket, `UserBucket` as Arrow IPC); `item_events` as (bucket of items,
    Arrow IPC); `vocabulary` as (vocabulary, counts as Arrow IPC); `rejected`; `counts`.

    Args:
        schema: of the data set.
        num_buckets: of items.
        has_users: whether the data set has a table of users.
    """

    OUTPUTS = ("item_events", "vocabulary", "rejected", "counts")

    def __init__(self, schema: Schema, num_buckets: int, has_users: bool = True):
        self._schema = schema
        self._num_buckets = num_buckets
        self._has_users = has_users

    def process(
        self,
        keyed: tuple[int, dict[str, Iterable[bytes]]],
        items: list[bytes],
        starts: tuple[int, int],
    ):
        """Builds one bucket."""
        number, rows = keyed
        started = time.perf_counter()
        exposures, behaviors, users = (
            [from_bytes(data) for data in rows[name]] for name in BY_USER
        )
        item_table = ItemTable(from_bytes(items[0]) if items else pa.table({}))
        users = users if self._has_users else None
        bucket, behaviors, lines, counts = build_user_bucket(
            exposures, behaviors, users, item_table, self._schema
        )
        for line in lines:
            yield Tagged("rejected", ("users", line))
        yield Tagged("counts", counts)
        validation_start = min(starts[0], MAX_TIME) * self._schema.ticks
        counted = count_values(bucket, behaviors, self._schema, validation_start)
        for name, table in counted.items():
            yield Tagged("vocabulary", (name, to_bytes(table)))
        if len(bucket.requests):
            yield from self._item_events(number, bucket)
            yield number, bucket.to_bytes()
        events = counts["exposures kept"] + counts["behaviors kept"]
        _log_rate("histories", f"bucket {number}", events, started)

    def _item_events(self, number: int, bucket: UserBucket) -> Iterator[Tagged]:
        candidates, code = bucket.candidates, numpy(bucket.candidates, "_item")
        item_ids = column(bucket.items, ITEM_KEY)
        events = pa.table(
            {
                "item": item_ids.take(pa.array(code)),
                "time": column(candidates, "time"),
                "request_time": column(candidates, "_request_time"),
                "click_time": column(candidates, "_click_time"),
                "row": np.arange(len(code), dtype=np.int32),
            },
            metadata={_USER_BUCKET: str(number)},
        )
        item_bucket = hash_ids(item_ids) % np.uint64(self._num_buckets)
        for item_number, rows in partition(events, item_bucket[code]):
            yield Tagged("item_events", (item_number, to_bytes(rows)))


class CountItems(beam.DoFn):
    """All exposures of a bucket of items → counters, back to the users' buckets.

    Output: (bucket of users, Arrow IPC of `row` and the counters).

    Args:
        schema: of the data set.
    """

    def __init__(self, schema: Schema):
        self._schema = schema

    def process(
        self, keyed: tuple[int, Iterable[bytes]]
    ) -> Iterator[tuple[int, bytes]]:
        """Counts one bucket."""
        started = time.perf_counter()
        tables = [from_bytes(data) for data in keyed[1]]
        events = concat(tables)
        counters = item_counters(
            rank(column(events, "item"))[0],
            numpy(events, "time"),
            numpy(events, "click_time"),
            numpy(events, "request_time"),
            self._schema,
        )
        result = pa.table({"row": column(events, "row"), **counters})
        start = 0
        for table in tables:
            user_bucket = int(table.schema.metadata[_USER_BUCKET])
            yield user_bucket, to_bytes(result.slice(start, len(table)))
            start += len(table)
        _log_rate("counters", f"bucket {keyed[0]}", len(events), started)


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
    ):
        """Encodes one bucket."""
        started = time.perf_counter()
        number, values = keyed
        (data,) = values["buckets"]
        bucket = UserBucket.from_bytes(data)
        counted = concat(from_bytes(data) for data in values["counters"])
        counters = {}
        for name in set(counted.column_names) - {"row"}:
            counters[name] = np.empty(len(counted), np.int64)
            counters[name][numpy(counted, "row")] = numpy(counted, name)
        encoder = SampleEncoder(
            bucket, counters, self._schema, complete(vocabularies, self._schema), starts
        )
        samples = encoder.encode()
        shard = numpy(samples, "hash") % np.uint64(self._num_shards)
        part = numpy(samples, "split") * self._num_shards + shard.astype(np.int64)
        for place, rows in partition(samples, part):
            split, shard = divmod(place, self._num_shards)
            yield (SPLITS[split], shard), to_bytes(rows.drop_columns(["split", "hash"]))
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
    total = Counter()
    for count in counts:
        total.update(count)
    return dict(total)


def add_statistics(parts: Iterable[Statistics]) -> Statistics:
    """Sums of statistics."""
    total = Statistics()
    for part in parts:
        total.update(part)
    return total
