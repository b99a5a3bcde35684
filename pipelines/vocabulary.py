"""Vocabularies, counted by Beam over the training period alone.

Every vocabulary counts the values of all features that use it: item features once an
exposure and once a behavior of the raw log, candidate features once an exposure,
context features once a request, behavior features once a behavior (clicked exposures
included), user features once a user who has a request. What happened from
the validation's start on is never counted, nor is a user without an earlier request.

The most frequent value comes first; of equally frequent values the one whose text is
smaller. Features that share a vocabulary share its limits: the largest `min_count` and
the smallest `max_size` among them.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.schema import ITEM_KEY, Feature, Schema
from ctr_tf.schema.vocabulary import Vocabularies
from pipelines.arrow import column, concat, from_bytes, numpy
from pipelines.histories import UserBucket


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
    early = {
        "candidates": _before(bucket.candidates, "_request_time", validation_start),
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
        if pa.types.is_list(own.type):
            own = pc.list_slice(own, 0, feature.length).flatten()
        counts = pc.value_counts(own.drop_null())
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


def most_frequent(counts: pa.Table, features: Sequence[Any]) -> list[str]:
    """The entries of one vocabulary, in their order.

    Args:
        counts: `value` and `count`, a value possibly more than once.
        features: those that use the vocabulary.
    """
    total = _sum([counts])
    min_count = max(feature.min_count for feature in features)
    limits = [f.max_size for f in features if f.max_size is not None]
    # A vocabulary is a text file, one value a line.
    one_line = pc.invert(pc.match_substring_regex(total.column("value"), r"[\r\n]"))
    frequent = pc.greater_equal(total.column("count"), min_count)
    total = total.filter(pc.and_(one_line, frequent))
    total = total.sort_by([("count", "descending"), ("value", "ascending")])
    return total.column("value").to_pylist()[: min(limits, default=None)]


class BuildVocabularies(beam.PTransform):
    """(vocabulary, counts as Arrow IPC) → (vocabulary, its file's text).

    Args:
        schema: of the data set.
    """

    def __init__(self, schema: Schema):
        super().__init__()
        self._schema = schema

    def expand(self, counts: beam.PCollection) -> beam.PCollection:
        """Adds the steps to a pipeline."""
        return (
            counts
            | "Group by vocabulary" >> beam.GroupByKey()
            | "Most frequent" >> beam.MapTuple(_Merge(self._schema))
        )


class _Merge:
    def __init__(self, schema: Schema):
        self._schema = schema

    def __call__(self, name: str, counts: Iterable[bytes]) -> tuple[str, str]:
        table = concat(map(from_bytes, counts))
        values = most_frequent(table, self._schema.vocabularies()[name])
        return name, "".join(f"{value}\n" for value in values)


def complete(texts: dict[str, str], schema: Schema) -> Vocabularies:
    """The results of `BuildVocabularies`, and those that nothing was counted for."""
    return Vocabularies(
        {name: texts.get(name, "").split("\n")[:-1] for name in schema.vocabularies()}
    )
