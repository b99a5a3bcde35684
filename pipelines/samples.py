"""A bucket of users → serialized samples, as `ctr_tf.data` reads them."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.computed.clock import CLOCKS
from ctr_tf.computed.slate import SLATE_SIZE
from ctr_tf.data.example import pack_bytes, pack_float, pack_int64
from ctr_tf.data.records import label_key
from ctr_tf.data.writing import Samples, SampleWriter
from ctr_tf.schema import USER_KEY, Feature, Schema
from ctr_tf.schema.vocabulary import Vocabularies
from pipelines.arrow import column, numpy
from pipelines.chunks import window_chunks
from pipelines.columns import Column, ItemColumns, computed, stored
from pipelines.histories import UserBucket
from pipelines.statistics import Statistics, coverage

_BLOCK = 1_024  # samples that are put together at once


class SampleEncoder:
    """Encodes the samples of one bucket of users.

    Args:
        bucket: slates and timelines; at least one request.
        counters: those of `bucket.candidates` over all users, by feature name.
        schema: of the data set.
        vocabularies: of the data set.
        starts: unix seconds at which validation and test begin.

    Attributes:
        statistics: of the samples, once they are encoded.
    """

    def __init__(
        self,
        bucket: UserBucket,
        counters: dict[str, np.ndarray],
        schema: Schema,
        vocabularies: Vocabularies,
        starts: tuple[int, int],
    ):
        self._bucket = bucket
        self._counters = counters
        self._schema = schema
        self._vocabularies = vocabularies
        self._items = ItemColumns(bucket.items, vocabularies)
        requests = bucket.requests
        self._user = numpy(requests, "_user")
        self._raw_time = numpy(requests, "_request_time")
        self._time = self._raw_time // schema.ticks
        self._size = numpy(requests, "_size")
        self._window = numpy(requests, "_start"), numpy(requests, "_stop")
        slate_stop = np.cumsum(self._size)
        self._slate = slate_stop - self._size, slate_stop
        self._split = np.searchsorted(starts, self._time, side="right")
        self.statistics = Statistics()
        self._writer = SampleWriter(schema)
        self._covered: dict = {}

    def encode(self) -> None:
        """Encodes all columns; `blocks` puts samples together of them."""
        ids = self._bucket.request_ids(self._schema).cast(pa.binary())
        users = self._user_ids()
        self._order = self._by_time(ids, users)
        self._writer.add("request_id", pack_bytes(ids.to_pylist()))
        self._writer.add("user_id", pack_bytes(users.to_pylist()))
        self._writer.add("request_time", pack_int64(self._time))
        self._add_user()
        self._add_context()
        self._add_behaviors()
        self._add_candidates()
        self._add_labels()

    def blocks(self, split: int) -> Iterator[Samples]:
        """The samples of a split, in blocks, by request time, request id and user id.

        Args:
            split: a position in `SPLITS`.
        """
        samples = self._order[self._split[self._order] == split]
        for start in range(0, len(samples), _BLOCK):
            yield self._writer.samples(samples[start : start + _BLOCK])

    def _by_time(self, ids: pa.Array, users: pa.Array) -> np.ndarray:
        keys = {"time": pa.array(self._time), "id": ids, "user": users}
        order = pc.sort_indices(pa.table(keys), [(name, "ascending") for name in keys])
        return order.to_numpy()

    def _user_ids(self) -> pa.Array:
        ids = column(self._bucket.users, USER_KEY).cast(pa.string()).cast(pa.binary())
        return ids.take(pa.array(self._user))

    def _add_user(self) -> None:
        for feature in self._schema.user:
            key = f"user_{feature.name}"
            self._add_lists(key, feature, self._bucket.users, self._user)

    def _add_context(self) -> None:
        every = np.arange(len(self._time))
        for feature in self._schema.context:
            key = f"context_{feature.name}"
            if feature.computed:
                values = {SLATE_SIZE.name: self._size} | self._clock(self._time)
                one = computed(feature, values[feature.name])
                self._add_values(key, one, (every, every + 1))
            else:
                self._add_lists(key, feature, self._bucket.requests, every)

    def _add_behaviors(self) -> None:
        timeline, window = self._bucket.timeline, self._window
        time = numpy(timeline, "time") // self._schema.ticks
        clock = self._clock(time)
        chunks = window_chunks(time, *window, self._schema.num_chunks)
        self._writer.add("behavior_time", pack_int64(time), *window)
        self._writer.add("behavior_chunk", pack_int64(chunks[0]), *chunks[1:])
        for feature in self._schema.behavior:
            if feature.role == "item":
                values = self._items.of(timeline, feature)
            elif feature.computed:
                values = computed(feature, clock[feature.name])
            else:
                raw = column(timeline, feature.name)
                values = stored(feature, raw, len(time), self._vocabularies)
            self._add_ranges(f"behavior_{feature.name}", values, window)
        length = window[1] - window[0]
        self.statistics.add_count("history_length", length, self._split)

    def _add_candidates(self) -> None:
        candidates, slate = self._bucket.candidates, self._slate
        for place in self._schema.computed.places:
            counts = self._computed_candidate(place.of)
            self._counters |= place.values(counts, slate[0])
        for feature in self._schema.candidate:
            if feature.role == "item":
                values = self._items.of(candidates, feature)
            elif feature.computed:
                values = computed(feature, self._computed_candidate(feature.name))
            else:
                raw = column(candidates, feature.name)
                values = stored(feature, raw, len(candidates), self._vocabularies)
            self._add_ranges(f"candidate_{feature.name}", values, slate)
        for feature in self._schema.position:
            raw = column(candidates, feature.name)
            values = stored(feature, raw, len(candidates), self._vocabularies)
            self._add_ranges(f"position_{feature.name}", values, slate)
        self.statistics.add_count("slate_size", self._size, self._split)
        self.statistics.add_times(self._time, self._split)

    def _computed_candidate(self, name: str) -> np.ndarray:
        if name in self._counters:
            return self._counters[name]
        return numpy(self._bucket.candidates, name)

    def _add_labels(self) -> None:
        candidates, slate = self._bucket.candidates, self._slate
        for name in self._schema.labels:
            label = numpy(candidates, name)
            self._writer.add(label_key(self._schema, name), pack_float(label), *slate)
        label = numpy(candidates, self._schema.labels[0])
        clicks = np.add.reduceat(label.astype(np.int64), slate[0])
        self.statistics.add_count("clicks", clicks, self._split)
        probability = column(candidates, "true_probability")
        if probability is not None:
            values = pc.fill_null(probability, np.nan).to_numpy(zero_copy_only=False)
            self._writer.add("true_probability", pack_float(values), *slate)

    def _clock(self, time: np.ndarray) -> dict[str, np.ndarray]:
        return {clock.name: clock.batch(time, self._schema.zone) for clock in CLOCKS}

    def _add_lists(
        self, key: str, feature: Feature, table: pa.Table, rows: np.ndarray
    ) -> None:
        """A feature of users or requests; each sample takes one of the table's rows."""
        raw = column(table, feature.name)
        values = stored(feature, raw, len(table), self._vocabularies)
        self._add_values(key, values, (rows, rows + 1))

    def _add_ranges(
        self, key: str, values: Column, ranges: tuple[np.ndarray, np.ndarray]
    ) -> None:
        """A feature of behaviors or candidates, with its lengths where it has lists."""
        self._add_values(key, values, ranges)
        if values.offset is not None:
            lengths = pack_int64(np.diff(values.offset))
            self._writer.add(f"{key}_length", lengths, *ranges)

    def _add_values(
        self, key: str, values: Column, ranges: tuple[np.ndarray, np.ndarray]
    ) -> None:
        """A feature of which each sample takes the values of a range of rows."""
        ranges = values.ranges(*ranges)
        weights = self._coverage(len(values.values), ranges)
        self.statistics.add_column(key, values, weights)
        self._writer.add(key, values.pack(), *ranges)

    def _coverage(self, rows: int, ranges: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """See `coverage`; features that share their ranges share the answer."""
        key = rows, *map(id, ranges)
        if key not in self._covered:
            self._covered[key] = ranges, coverage(rows, *ranges, self._split)
        return self._covered[key][1]
