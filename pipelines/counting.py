"""Counters of a bucket's candidates: those of its users, and what others must count.

What a counter counts is said in `ctr_tf.computed.counters`. Counters of the user have
all their events in the user's bucket; the others' are counted by the values that they
are counted by, all users together.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.computed.counters import Counter
from ctr_tf.schema import ITEM_KEY, USER_KEY, Feature, Schema
from pipelines.arrow import add_columns, column, numpy, rank
from pipelines.histories import TIMES, UserBucket


def add_user_counters(bucket: UserBucket, schema: Schema) -> UserBucket:
    """Adds the counters of the user to the candidates."""
    candidates = bucket.candidates
    times = [numpy(candidates, name) for name in TIMES]
    user = np.repeat(numpy(bucket.requests, "_user"), numpy(bucket.requests, "_size"))
    for counter in schema.computed.counters:
        if not counter.of_user:
            continue
        group, known = user, np.ones(len(user), bool)
        if counter.key != USER_KEY:
            keys = key_values(bucket, counter.key, schema)
            known = pc.is_valid(keys).to_numpy(zero_copy_only=False)
            code, distinct = rank(keys.drop_null())
            group = user[known] * len(distinct) + code
            group = np.unique(group, return_inverse=True)[1]
        counts = counter.batch(group, *(time[known] for time in times))
        columns = no_values(counter, len(user))
        for name, values in counts.items():
            columns[name][known] = values
        candidates = add_columns(candidates, **columns)
    return UserBucket(
        bucket.requests, candidates, bucket.timeline, bucket.users, bucket.items
    )


def shared_events(bucket: UserBucket, counter: Counter, schema: Schema) -> pa.Table:
    """A bucket's exposures as events of a counter over all users.

    Returns:
        `key`, without null, `TIMES` and `row`, the candidate's position.
    """
    keys = key_values(bucket, counter.key, schema)
    columns = {name: column(bucket.candidates, name) for name in TIMES}
    row = np.arange(len(keys), dtype=np.int32)
    events = pa.table({"key": keys, **columns, "row": row})
    return events.filter(pc.is_valid(keys)) if keys.null_count else events


def no_values(counter: Counter, count: int) -> dict[str, np.ndarray]:
    """A counter's features of candidates that have no value to be counted by."""
    return {
        f.name: np.full(count, f.stored_missing, f.stored_dtype)
        for f in counter.features
    }


def key_values(bucket: UserBucket, name: str, schema: Schema) -> pa.Array:
    """The raw values of a feature, or of `item_id`, of all candidates."""
    feature = next(
        f for f in schema.declared if f.name == name and f.role != "behavior"
    )
    candidates, requests = bucket.candidates, bucket.requests
    if feature.role == "item":
        return _item_values(bucket, feature)
    if feature.role == "candidate":
        values = column(candidates, name)
    else:
        request = np.repeat(np.arange(len(requests)), numpy(requests, "_size"))
        table, row = requests, request
        if feature.role == "user":
            table, row = bucket.users, numpy(requests, "_user")[request]
        values = column(table, name)
        values = None if values is None else values.take(pa.array(row))
    return _or_nulls(values, len(candidates), feature)


def _item_values(bucket: UserBucket, feature: Feature) -> pa.Array:
    """The row's own value, or else its item's."""
    candidates = bucket.candidates
    shared = column(bucket.items, feature.name)
    own = column(candidates, feature.name) if feature.name != ITEM_KEY else None
    if shared is not None:
        shared = shared.take(column(candidates, "_item"))
        own = shared if own is None else pc.coalesce(own, shared)
    return _or_nulls(own, len(candidates), feature)


def _or_nulls(values: pa.Array | None, count: int, feature: Feature) -> pa.Array:
    return pa.nulls(count, feature.arrow_type) if values is None else values
