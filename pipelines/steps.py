"""The steps of the listwise job that workers run."""

import dataclasses
import logging
import math
import time
import zlib
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from ctr_tf.data.manifest import SPLITS
from ctr_tf.data.negatives import Negatives
from ctr_tf.data.record_files import file_name
from ctr_tf.data.writing import write_records
from ctr_tf.errors import UserError
from ctr_tf.schema import ITEM_KEY, USER_KEY, Schema
from ctr_tf.storage import as_path
from ctr_tf.time import DAY, MAX_TIME
from pipelines.arrow import (
    add_columns,
    begins_of,
    column,
    concat,
    from_bytes,
    hash_ids,
    numpy,
    partition,
    to_bytes,
    write_table,
)
from pipelines.counting import add_user_counters, counted_events, no_values
from pipelines.histories import UserBucket, build_user_bucket
from pipelines.items import merge_items, read_items, take_texts
from pipelines.parts import Parts
from pipelines.pool import DrawnFrom, Pool, read_pool
from pipelines.samples import SampleEncoder
from pipelines.shared_counters import (
    SharedCounts,
    add_up,
    event_sums,
    in_blocks,
    questions,
)
from pipelines.sources.source import Shard, Source
from pipelines.splits import ALWAYS, Period, SplitRule, nothing_since
from pipelines.statistics import Statistics
from pipelines.validation import validate
from pipelines.vocabulary import count_values, read_vocabularies

_log = logging.getLogger(__name__)
BY_USER = ("exposures", "behaviors", "users")
NOBODY = -1  # asks, where sums are told

Tagged = beam.pvalue.TaggedOutput


class ReadShard(beam.DoFn):
    """(number, shard) → rows fit for use, in buckets of users and of items.

    Outputs: `exposures`, `behaviors`, `users` and `items` as (bucket, Arrow IPC);
    `times`, (day, (times of exposures, how often each occurs)); `pool`, what can be
    drawn of them; `rejected`, (table, line); `counts`;
    `ids`, ((table, key), an id of it).

    Args:
        source: reads the shards.
        schema: of the data set.
        parts: to hash to.
        drawn_until: unix seconds, where what can be drawn ends; None: nothing is drawn.
    """

    OUTPUTS = (*BY_USER, "items", "times", "pool", "rejected", "counts", "ids")

    def __init__(
        self,
        source: Source,
        schema: Schema,
        parts: Parts,
        drawn_until: int | None = None,
    ):
        self._drawn_until = drawn_until
        self._source = source
        self._schema = schema
        self._parts = parts

    def process(self, numbered: tuple[int, Shard]) -> Iterator[Any]:
        """Reads one shard."""
        number, shard = numbered
        read, older, started = 0, 0, time.perf_counter()
        clicks: Counter[str] = Counter()
        ids: dict[str, str] = {}
        for batch in self._source.read(shard, self._schema):
            read += len(batch.rows) + len(batch.rejected)
            table, lines, clicked = validate(batch, number, self._schema)
            clicks["clicks read"] += clicked
            if shard.table == "exposures" and len(table):
                kept = int((numpy(table, self._schema.labels[0]) == 1).sum())
                clicks.update({"clicks read": kept, "clicks kept": kept})
            if since := self._source.reads_from(shard.table):
                _check_click_times(shard, table)
                is_old = numpy(table, "time") < since * self._schema.ticks
                table = table.filter(pa.array(~is_old))
                older += int(is_old.sum())
            for line in lines:
                yield Tagged("rejected", (shard.table, line))
            if len(table):
                ids = ids or _first_ids(table)
                yield from self._outputs(shard.table, table)
        for key, value in ids.items():
            yield Tagged("ids", ((shard.table, key), value))
        counts = {f"{shard.table} read": read, f"{shard.table} older": older}
        yield Tagged("counts", {**counts, **clicks})
        _log_rate("read", f"{shard.table} {shard.path}", read, started)

    def _outputs(self, name: str, table: pa.Table) -> Iterator[Tagged]:
        if name == "exposures":
            seconds = numpy(table, "time") // self._schema.ticks
            yield from self._times(*np.unique(seconds, return_counts=True))
            if self._drawn_until is not None:
                known = table.filter(pa.array(seconds < self._drawn_until))
                yield Tagged("pool", Pool.of(known, self._schema))
        key, number = USER_KEY, self._parts.users
        if name == "items":  # texts have rows by the order of all items
            key, number = ITEM_KEY, 1 if self._schema.texts else self._parts.items
        part = hash_ids(column(table, key)) % np.uint64(number)
        for bucket, rows in partition(table, part):
            yield Tagged(name, (bucket, to_bytes(rows)))

    def _times(self, times: np.ndarray, counts: np.ndarray) -> Iterator[Tagged]:
        days = np.flatnonzero(begins_of(times // DAY))
        for day in zip(
            np.split(times, days[1:]), np.split(counts, days[1:]), strict=True
        ):
            yield Tagged("times", (int(day[0][0] // DAY), day))


def _check_click_times(shard: Shard, table: pa.Table) -> None:
    """Raises UserError for one that the source did not expect."""
    if shard.table != "exposures" or "click_time" not in table.column_names:
        return
    if table.column("click_time").null_count < len(table):
        raise UserError(
            f"{shard.path} has a `click_time`, which the first lines of no file have: "
            "clicks of days that are left unread may be missing. Give the first row of "
            "each file the field, null if there is none"
        )


def _first_ids(table: pa.Table) -> dict[str, str]:
    """What a row holds of the keys that tables are joined by."""
    keys = [key for key in (USER_KEY, ITEM_KEY) if key in table.column_names]
    return {key: str(table.column(key)[0].as_py()) for key in keys}


class MergeItems(beam.DoFn):
    """All rows of a bucket of items → a file of them, for all to look up.

    Outputs: its path; `texts`, those of all items, as path of a file; `rejected`;
    `counts`.

    Args:
        schema: of the data set.
        work: folder for what is needed in between.
    """

    OUTPUTS = ("texts", "rejected", "counts")

    def __init__(self, schema: Schema, work: str):
        self._schema = schema
        self._work = work

    def process(self, keyed: tuple[int, Iterable[bytes]]) -> Iterator[Any]:
        """Merges them."""
        number, rows = keyed
        table, lines = merge_items([from_bytes(data) for data in rows])
        if self._schema.texts and len(table):
            table, texts = take_texts(table, self._schema)
            path = as_path(self._work) / "texts"
            write_table(path, texts)
            yield Tagged("texts", str(path))
        for line in lines:
            yield Tagged("rejected", ("items", line))
        yield Tagged("counts", {"items kept": len(table)})
        path = as_path(self._work) / "items" / f"{number:05d}"
        write_table(path, table)
        yield str(path)


Times = tuple[np.ndarray, np.ndarray]  # seconds, ascending, and how often each occurs


def add_times(parts: Iterable[Times]) -> Times:
    """Times of exposures, each once, with how often it occurs."""
    parts = list(parts)
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    every, inverse = np.unique(
        np.concatenate([times for times, _ in parts]), return_inverse=True
    )
    total = np.zeros(len(every), np.int64)
    np.add.at(total, inverse, np.concatenate([counts for _, counts in parts]))
    return every, total


def find_starts(
    _: bytes, days: list[tuple[int, Times]], rule: SplitRule, since: int = 0
) -> tuple[int, int]:
    """When validation and test begin, from the times of all exposures, day by day.

    Raises:
        UserError: if there are none, of those that are not older than `since`.
    """
    if since and not days:
        raise nothing_since(since)
    return rule.starts(*add_times(times for _, times in days))


class BuildHistories(beam.DoFn):
    """All rows of a bucket of users → slates and timelines.

    Outputs: (bucket, folder of its `UserBucket`); `events` as ((number of a counter,
    bucket of its keys), (the bucket that asks, questions as Arrow IPC)), or (`NOBODY`,
    sums as Arrow IPC); `vocabulary` as ((vocabulary, part), counts as Arrow IPC);
    `rejected`; `counts`.

    Args:
        schema: of the data set.
        parts: to hash to.
        work: folder for what is needed in between.
        has_users: whether the data set has a table of users.
        negatives: what is drawn beside the candidates of the log, if anything.
        drawn_until: unix seconds, where what can be drawn ends.
    """

    OUTPUTS = ("events", "vocabulary", "rejected", "counts")

    def __init__(
        self,
        schema: Schema,
        parts: Parts,
        work: str,
        has_users: bool = True,
        negatives: Negatives | None = None,
        drawn_until: int = MAX_TIME,
    ):
        self._negatives = negatives
        self._drawn_until = drawn_until
        self._schema = schema
        self._parts = parts
        self._work = work
        self._has_users = has_users

    def process(
        self,
        keyed: tuple[int, dict[str, Iterable[bytes]]],
        items: list[str],
        starts: tuple[int, int],
        pool: str = "",
    ) -> Iterator[Any]:
        """Builds one bucket; draws from the `pool`."""
        number, rows = keyed
        started = time.perf_counter()
        exposures, behaviors, users = (
            [from_bytes(data) for data in rows[name]] for name in BY_USER
        )
        bucket, behaviors, lines, counts = build_user_bucket(
            exposures,
            behaviors,
            users if self._has_users else None,
            read_items(tuple(sorted(items))),
            self._schema,
            self._drawn_from(pool, starts) if self._negatives else None,
        )
        for line in lines:
            yield Tagged("rejected", ("users", line))
        yield Tagged("counts", counts)
        validation_start = min(starts[0], MAX_TIME) * self._schema.ticks
        counted = count_values(bucket, behaviors, self._schema, validation_start)
        for name, table in counted.items():
            part = hash_ids(column(table, "value")) % np.uint64(self._parts.words)
            for place, rows_of_part in partition(table, part):
                yield Tagged("vocabulary", ((name, place), to_bytes(rows_of_part)))
        bucket = yield from self._events(number, bucket, behaviors)
        if len(bucket.requests):
            bucket = add_user_counters(bucket, behaviors, self._schema)
            path = as_path(self._work) / "users" / f"{number:05d}"
            bucket.write(path)
            yield number, str(path)
        events = counts["exposures kept"] + counts["behaviors kept"]
        _log_rate("histories", f"bucket {number}", events, started)

    def _drawn_from(self, pool: str, starts: tuple[int, int]) -> DrawnFrom | None:
        ends = (min(time, MAX_TIME) for time in (*starts, self._drawn_until))
        validation, test, end = (time * self._schema.ticks for time in ends)
        return read_pool(pool, self._negatives, (validation, test, end))

    def _events(
        self, number: int, bucket: UserBucket, behaviors: pa.Table
    ) -> Generator[Tagged, None, UserBucket]:
        """Yields what others must count; returns the bucket that knows what it asks."""
        asked = {}
        for place, counter in enumerate(self._schema.computed.counters):
            if counter.of_user:
                continue
            events = counted_events(bucket, behaviors, counter, self._schema)
            own = questions(events, counter, len(bucket.candidates))
            asked[_asked(place)] = own.row_of
            sums = event_sums(events, counter)
            for asker, table in ((NOBODY, sums), (number, own.table)):
                part = hash_ids(column(table, "key")) % np.uint64(self._parts.items)
                for key_bucket, rows in partition(table, part):
                    told = (asker, to_bytes(rows))
                    yield Tagged("events", ((place, key_bucket), told))
        candidates = add_columns(bucket.candidates, **asked)
        return dataclasses.replace(bucket, candidates=candidates)


def _asked(place: int) -> str:
    """Column of candidates: which row of the questions to a counter is theirs."""
    return f"_asked_{place}"


class CountEvents(beam.DoFn):
    """All sums of a bucket of a counter's keys → answers, for the users' buckets.

    Output: (bucket of users, (number of the counter, Arrow IPC of `row` and the
    counter's features)).

    Args:
        schema: of the data set.
    """

    def __init__(self, schema: Schema):
        self._schema = schema

    def process(
        self,
        keyed: tuple[tuple[int, int], Iterable[tuple[int, bytes]]],
        fits: list[None],
    ) -> Iterator[tuple[int, tuple[int, bytes]]]:
        """Counts one bucket, once it is known that the tables fit."""
        started = time.perf_counter()
        (place, number), told = keyed
        counter = self._schema.computed.counters[place]
        # What was told is read twice, for it may be more than fits into memory.
        sums = (from_bytes(data) for asker, data in told if asker == NOBODY)
        counts = SharedCounts(counter, add_up(sums))
        asked = ((who, from_bytes(data)) for who, data in told if who != NOBODY)
        rows = 0
        for block in in_blocks(asked):
            answers, start = counts.answer(concat(table for _, table in block)), 0
            for user_bucket, table in block:
                own = answers.slice(start, len(table))
                yield user_bucket, (place, to_bytes(own))
                start += len(table)
            rows += start
        _log_rate("counters", f"by {counter.by}, bucket {number}", rows, started)


class WriteSamples(beam.DoFn):
    """A bucket of users and its counters → its samples, in a file a split.

    Outputs: the files' entries in the manifest; `statistics`.

    Args:
        folder: of the data set in the making.
        schema: of the data set.
        num_shards: buckets of users.
        compression: of the files, a key of `ctr_tf.data.record_files.COMPRESSIONS`.
        period: of the samples.
    """

    OUTPUTS = ("statistics",)

    def __init__(
        self,
        folder: str,
        schema: Schema,
        num_shards: int,
        compression: str,
        period: Period = ALWAYS,
    ):
        self._period = period
        self._folder = folder
        self._schema = schema
        self._num_shards = num_shards
        self._compression = compression

    def process(
        self,
        keyed: tuple[int, dict[str, Iterable]],
        vocabularies: list[str],
        starts: tuple[int, int],
        fits: list[None],
    ) -> Iterator[Any]:
        """Writes one bucket, once the tables fit and the `vocabularies` are written."""
        started = time.perf_counter()
        number, values = keyed
        paths = list(values["buckets"])
        encoder = self._encoder(paths[0], values["counters"], starts) if paths else None
        written = 0
        for place, split in enumerate(SPLITS):
            name = file_name(split, number, self._num_shards, self._compression)
            blocks = encoder.blocks(place) if encoder else ()
            file = write_records(self._folder, name, blocks, self._compression)
            written += file.samples
            yield file
        if encoder:
            yield Tagged("statistics", encoder.statistics)
            _log_rate("samples", f"bucket {number}", written, started)

    def _encoder(
        self,
        path: str,
        answers: Iterable[tuple[int, bytes]],
        starts: tuple[int, int],
    ) -> SampleEncoder | None:
        bucket = UserBucket.read(as_path(path))
        counters = self._counters(bucket, answers)
        time = numpy(bucket.requests, "_request_time") // self._schema.ticks
        inside = self._period.has(time)
        if not inside.any():
            return None
        shown = np.repeat(inside, numpy(bucket.requests, "_size"))
        counters = {name: values[shown] for name, values in counters.items()}
        bucket = bucket.of_requests(inside)
        words = read_vocabularies(self._folder, self._schema)
        encoder = SampleEncoder(bucket, counters, self._schema, words, starts)
        encoder.encode()
        return encoder

    def _counters(
        self, bucket: UserBucket, answers: Iterable[tuple[int, bytes]]
    ) -> dict[str, np.ndarray]:
        """The counters over all users of all candidates, by feature name."""
        found: dict[int, dict[str, np.ndarray]] = {}
        row_of: dict[int, np.ndarray] = {}
        open_questions: Counter[int] = Counter()
        for place, counter in enumerate(self._schema.computed.counters):
            if not counter.of_user:
                row_of[place] = numpy(bucket.candidates, _asked(place))
                rows = int(row_of[place].max(initial=-1)) + 1
                # The last one, -1, is of the candidates without a value.
                found[place] = no_values(counter, rows + 1)
                open_questions[place] = rows
        for place, data in answers:
            table = from_bytes(data)
            open_questions[place] -= len(table)
            for name, values in found[place].items():
                values[numpy(table, "row")] = numpy(table, name)
        for place, rows in open_questions.items():
            if rows:
                by = self._schema.computed.counters[place].by
                raise RuntimeError(
                    f"Every question to the counter by '{by}' has one answer. "
                    f"Received: {rows} fewer"
                )
        return {
            name: values[row_of[place]]
            for place, own in found.items()
            for name, values in own.items()
        }


# Step → when this process last told of it, and of how many parts it did not, since.
_told: dict[str, tuple[float, int]] = {}


def _log_rate(step: str, what: str, rows: int, started: float) -> None:
    """Tells how fast a part went: of each step at most one in a second."""
    now = time.perf_counter()
    seconds = max(now - started, 1e-6)
    last, untold = _told.get(step, (-math.inf, 0))
    is_told = now > last + 1
    _told[step] = (now, 0) if is_told else (last, untold + 1)
    more = f" (and {untold:,} more before it)" if untold else ""
    _log.log(
        logging.INFO if is_told else logging.DEBUG,
        "%-10s %s: %s, %s/s%s",
        *(step, what, f"{rows:,}", f"{rows / seconds:,.0f}", more),
        extra={"step": step, "seconds": seconds},  # for `ctr-tf bench pipeline`
    )


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
