"""Counters of a bucket's candidates: those of its users, and what others must count.

What a counter counts is said in `ctr_tf.computed.counters`. Counters of the user have
all their events in the user's bucket; the others' are counted by the values that they
are counted by, all users together (`pipelines.shared_counters`).
"""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.computed.counters import NO_CLICK, NOT_SHOWN, Counter
from ctr_tf.schema import USER_KEY, Feature, Schema
from pipelines.arrow import add_columns, column, concat, numpy, rank
from pipelines.histories import TIMES, UserBucket
from pipelines.items import item_values, or_nulls


def add_user_counters(
    bucket: UserBucket, behaviors: pa.Table, schema: Schema
) -> UserBucket:
    """Adds the counters of the user to the candidates.

    Args:
        bucket: slates and timelines.
        behaviors: of all its users, see `build_user_bucket`.
        schema: of the data set.
    """
    candidates = bucket.candidates
    for counter in schema.computed.counters:
        if not counter.of_user:
            continue
        events = counted_events(bucket, behaviors, counter, schema)
        key, row = column(events, "key"), numpy(events, "row")
        code, distinct = rank(key)
        group = numpy(events, "_user") * len(distinct) + code
        group = np.unique(group, return_inverse=True)[1]
        counts = counter.batch(group, *(numpy(events, name) for name in TIMES))
        columns = no_values(counter, len(candidates))
        for name, values in counts.items():
            columns[name][row[row >= 0]] = values[row >= 0]
        candidates = add_columns(candidates, **columns)
    return dataclasses.replace(bucket, candidates=candidates)


def counted_events(
    bucket: UserBucket, behaviors: pa.Table, counter: Counter, schema: Schema
) -> pa.Table:
    """A bucket's events of a counter, and its candidates.

    Args:
        bucket: slates and timelines.
        behaviors: of all its users, see `build_user_bucket`.
        counter: of the schema.
        schema: of the data set.

    Returns:
        `key`, without null, `TIMES`, `_user`, and `row`, the candidate's position; -1
        for a behavior, which is counted and counts nothing.
    """
    candidates, requests = bucket.candidates, bucket.requests
    user = np.repeat(numpy(requests, "_user"), numpy(requests, "_size"))
    times = {name: column(candidates, name) for name in TIMES}
    if counter.counts_behaviors:
        nothing = {"time": NOT_SHOWN, "_click_time": NO_CLICK}
        times |= {name: np.full(len(user), no) for name, no in nothing.items()}
    keys = pa.array(user)
    if counter.key != USER_KEY:
        keys = candidate_keys(bucket, counter.key, schema)
    row = np.arange(len(user), dtype=np.int32)
    events = pa.table({"key": keys, **times, "row": row, "_user": user})
    if counter.counts_behaviors:
        events = concat([_of_behaviors(bucket, behaviors, counter, schema), events])
    keys = events.column("key")
    return events.filter(pc.is_valid(keys)) if keys.null_count else events


def _of_behaviors(
    bucket: UserBucket, behaviors: pa.Table, counter: Counter, schema: Schema
) -> pa.Table:
    """The log's behaviors, those that are no clicks, as events of a counter."""
    own = behaviors.filter(pc.invert(behaviors.column("_is_click")))
    keys = column(own, "_user")
    if counter.key != USER_KEY:
        keys = _behavior_keys(bucket, own, _feature(counter.key, schema))
    return pa.table(
        {
            "key": keys,
            "time": column(own, "time"),
            "_click_time": np.full(len(own), NO_CLICK),
            "_request_time": np.zeros(len(own), np.int64),
            "row": np.full(len(own), -1, np.int32),
            "_user": column(own, "_user"),
        }
    )


def no_values(counter: Counter, count: int) -> dict[str, np.ndarray]:
    """A counter's features of candidates that have no value to be counted by."""
    return {
        f.name: np.full(count, f.stored_missing, f.stored_dtype)
        for f in counter.features
    }


def candidate_keys(bucket: UserBucket, name: str, schema: Schema) -> pa.Array:
    """The raw values of a feature, or of `item_id`, of all candidates."""
    feature = _feature(name, schema)
    candidates, requests = bucket.candidates, bucket.requests
    if feature.role == "item":
        return item_values(candidates, bucket.items, feature)
    if feature.role == "candidate":
        return or_nulls(column(candidates, name), len(candidates), feature)
    request = np.repeat(np.arange(len(requests)), numpy(requests, "_size"))
    if feature.role == "user":
        return _taken(bucket.users, numpy(requests, "_user")[request], feature)
    return _taken(requests, request, feature)


def _behavior_keys(
    bucket: UserBucket, behaviors: pa.Table, feature: Feature
) -> pa.Array:
    """The raw values of a feature of items or users, of all behaviors."""
    if feature.role == "item":
        return item_values(behaviors, bucket.items, feature)
    return _taken(bucket.users, numpy(behaviors, "_user"), feature)


def _feature(name: str, schema: Schema) -> Feature:
    return next(f for f in schema.declared if f.name == name and f.role != "behavior")


def _taken(table: pa.Table, row: np.ndarray, feature: Feature) -> pa.Array:
    """A feature's values in rows of a table."""
    values = column(table, feature.name)
    values = None if values is None else values.take(pa.array(row))
    return or_nulls(values, len(row), feature)
