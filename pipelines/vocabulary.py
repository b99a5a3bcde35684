"""Vocabularies, counted by Beam over the training period alone.

Every vocabulary counts the values of all features that use it: item features once an
exposure of the log and once a behavior of it, candidate features once an exposure,
context features once a request, behavior features once a behavior (clicked exposures
included), user features once a user who has a request. What happened from
the validation's start on is never counted, nor is a user without an earlier request.

The most frequent value comes first; of equally frequent values the one whose text is
smaller. Features that share a vocabulary share its limits: the largest `min_count` and
the smallest `max_size` among them.

Values of an earlier vocabulary, where one is given, come first, in its order, however
rare they have become: their ids stay. Those that are not among them follow, by the same
limits, as long as `max_size` leaves room.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.computed.counters import NOT_SHOWN
from ctr_tf.schema import ITEM_KEY, Feature, Schema
from ctr_tf.schema.vocabulary import Vocabularies
from ctr_tf.storage import as_path, files
from pipelines.arrow import (
    column,
    concat,
    from_bytes,
    numpy,
    read_table,
    to_bytes,
    write_table,
)
from pipelines.histories import UserBucket

FOLDER = "vocabularies"  # in the data set


def count_values(
    bucket: UserBucket, behaviors: pa.Table, schema: Schema, validation_start: int
) -> dict[str, pa.Table]:
    """Counts the values of one bucket of users.

    Args:
        bucket: slates and timelines.
        behaviors: of all users, with or without requests; see `build_user_bucket`.
        schema: of the data set.
        validation_start: in the log's time unit; later events are not counted.

    Returns:
        Vocabulary → its values (`value` string, `count` int64).
    """
    shown = bucket.candidates
    if len(shown):
        shown = shown.filter(pc.not_equal(shown.column("time"), NOT_SHOWN))
    early = {
        "candidates": _before(shown, "_request_time", validation_start),
        "behaviors": _before(behaviors, "time", validation_start),
        "requests": _before(bucket.requests, "_request_time", validation_start),
    }
    raw = pc.invert(early["behaviors"].column("_is_click"))
    early["raw behaviors"] = early["behaviors"].filter(raw)
    users = np.unique(numpy(early["requests"], "_user"))
    early["users"] = bucket.users.take(pa.array(users, pa.int64()))
    sources = {
        "item": ("candidates", "raw behaviors"),
        "candidate": ("candidates",),
        "context": ("requests",),
        "behavior": ("behaviors",),
        "user": ("users",),
    }
    counted = {}
    for name, features in schema.vocabularies().items():
        tables = [
            _count(early[source], feature, bucket.items)
            for feature in features
            for source in sources[feature.role]
        ]
        counted[name] = _sum(tables)
    return counted


def _before(table: pa.Table, key: str, time: int) -> pa.Table:
    if not len(table):
        return table
    return table.filter(pc.less(table.column(key), time))


def _count(table: pa.Table, feature: Feature, items: pa.Table) -> pa.Table:
    own = column(table, feature.name) if feature.name != ITEM_KEY else None
    tables = []
    if own is not None:
        values = own
        if pa.types.is_list(own.type):
            values = pc.list_slice(own, 0, feature.length).flatten()
        counts = pc.value_counts(values.drop_null())
        tables.append(_table(counts.field("values"), counts.field("counts")))
    if feature.role == "item" and feature.name in items.column_names and len(table):
        code = numpy(table, "_item")
        if own is not None:
            code = code[own.is_null().to_numpy(zero_copy_only=False)]
        counts = np.bincount(code, minlength=len(items))
        seen = pa.array(counts > 0)
        values = column(items, feature.name).filter(seen)
        counts = pa.array(counts).filter(seen)
        if pa.types.is_list(values.type):
            values = pc.list_slice(values, 0, feature.length)
            counts = counts.take(pc.list_parent_indices(values))
            values = pc.list_flatten(values)
        tables.append(_table(values, counts))
    return _sum(tables)


def _table(values: pa.Array, counts: pa.Array) -> pa.Table:
    return pa.table({"value": values.cast(pa.string()), "count": counts.cast("int64")})


def _sum(tables: Iterable[pa.Table]) -> pa.Table:
    table = concat([_table(pa.array([], pa.string()), pa.array([], "int64")), *tables])
    table = table.filter(pc.is_valid(table.column("value")))
    table = table.group_by("value").aggregate([("count", "sum")])
    return table.rename_columns({"count_sum": "count"}).select(["value", "count"])


def most_frequent(
    counts: pa.Table, features: Sequence[Any], earlier: Sequence[str] = ()
) -> pa.Table:
    """The entries of one vocabulary behind its earlier ones, in their order.

    Args:
        counts: `value` and `count`, a value possibly more than once.
        features: those that use the vocabulary.
        earlier: entries that it has already.

    Returns:
        `value` and `count`.
    """
    total = _sum([counts])
    min_count = max(feature.min_count for feature in features)
    limits = [f.max_size for f in features if f.max_size is not None]
    # A vocabulary is a text file, one value a line.
    one_line = pc.invert(pc.match_substring_regex(total.column("value"), r"[\r\n]"))
    frequent = pc.greater_equal(total.column("count"), min_count)
    known = pc.is_in(total.column("value"), value_set=pa.array(earlier, pa.string()))
    new = pc.and_(frequent, pc.invert(known))
    total = total.filter(pc.and_(one_line, new))
    total = total.sort_by([("count", "descending"), ("value", "ascending")])
    if not limits:
        return total
    return total.slice(0, max(min(limits) - len(earlier), 0))


class BuildVocabularies(beam.PTransform):
    """((vocabulary, part), counts as Arrow IPC) → names of vocabularies, once written.

    Each value is in one part, by its hash; a part keeps the most frequent of its own,
    in a file, and of those files the vocabulary is made.

    Args:
        folder: of the data set in the making.
        work: folder for what is needed in between.
        schema: of the data set.
        earlier: folder of the vocabularies that these go on from.
    """

    def __init__(
        self, folder: str, work: str, schema: Schema, earlier: str | None = None
    ):
        super().__init__()
        self._earlier = earlier
        self._folder = folder
        self._work = work
        self._schema = schema

    def expand(self, counts: beam.PCollection) -> beam.PCollection:
        """Adds the steps to a pipeline."""
        empty = to_bytes(_sum([]))
        every = [((name, 0), empty) for name in self._schema.vocabularies()]
        return (
            (counts, counts.pipeline | "Every vocabulary" >> beam.Create(every))
            | "With empty vocabularies" >> beam.Flatten()
            | "Group by part" >> beam.GroupByKey()
            | "Most frequent of a part" >> beam.MapTuple(self._write_part)
            | "Group by vocabulary" >> beam.GroupByKey()
            | "Most frequent" >> beam.MapTuple(self._write)
        )

    def _write_part(
        self, key: tuple[str, int], counts: Iterable[bytes]
    ) -> tuple[str, str]:
        name, part = key
        table = concat(map(from_bytes, counts))
        path = as_path(self._work) / "vocabularies" / f"{name}-{part:05d}"
        features = self._schema.vocabularies()[name]
        write_table(path, most_frequent(table, features, self._known(name)))
        return name, str(path)

    def _write(self, name: str, paths: Iterable[str]) -> str:
        table = concat(map(read_table, sorted(paths)))
        known = self._known(name)
        table = most_frequent(table, self._schema.vocabularies()[name], known)
        values = [*known, *table.column("value").to_pylist()]
        text = "".join(f"{value}\n" for value in values)
        files.write_text(as_path(self._folder) / FOLDER / f"{name}.txt", text)
        return name

    def _known(self, name: str) -> list[str]:
        return read_values(self._earlier, name) if self._earlier else []


@functools.lru_cache(maxsize=4)
def read_values(folder: str, name: str) -> list[str]:
    """The values of a vocabulary, once a worker process.

    Args:
        folder: of the vocabularies.
        name: of the vocabulary.
    """
    return files.read_text(as_path(folder) / f"{name}.txt").split("\n")[:-1]


@functools.lru_cache(maxsize=1)
def read_vocabularies(folder: str, schema: Schema) -> Vocabularies:
    """What `BuildVocabularies` has written, once a worker process.

    Args:
        folder: of the data set in the making.
        schema: of the data set.
    """
    texts = {
        name: files.read_text(as_path(folder) / FOLDER / f"{name}.txt")
        for name in schema.vocabularies()
    }
    return Vocabularies({name: text.split("\n")[:-1] for name, text in texts.items()})
