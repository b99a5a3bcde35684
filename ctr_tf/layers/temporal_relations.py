"""How far apart in time queries and keys are: computed once, shared by all blocks.

Shape suffixes: `B` batch, `Q` queries, `J` keys, `R` relations.
"""

import math

from keras import ops

from ctr_tf.errors import unknown_name
from ctr_tf.time import DAY, HOUR
from ctr_tf.time_ops import is_weekend, log2_bucket

RELATIONS = ("time", "hour", "weekend")


def check_relations(relations: tuple[str, ...]) -> tuple[str, ...]:
    """Returns `relations` as a tuple; ValueError for a name not in `RELATIONS`."""
    for name in relations:
        if name not in RELATIONS:
            raise ValueError(unknown_name("temporal relation", name, RELATIONS))
    return tuple(relations)


def temporal_relations(
    query_time,
    key_time,
    visible,
    relations: tuple[str, ...] = RELATIONS,
    utc_offset: int = 0,
):
    """The head-independent matrices of RelTemporal, and one for what is hidden.

    * `"time"`: ``floor(log2(max(|dt|, 1)))``
    * `"hour"`: ``sin(pi / 24 * (floor(|dt| / 3600) mod 24))``
    * `"weekend"`: 1 where one time is on a weekend and the other is not
    * always last: 1 where the key is hidden from the query

    Times are integers until their differences are taken.

    Args:
        query_time: `[B, Q, 1]` int64 seconds.
        key_time: `[B, 1, J]` or, where each query has its own keys, `[B, Q, J]`.
        visible: `[B, Q, J]` bool, which keys a query sees.
        relations: which matrices, of `RELATIONS`.
        utc_offset: local time minus UTC in seconds, for the weekend.

    Returns:
        `[B, R, Q, J]` float32, R = len(relations) + 1; what is hidden is 0 in all
        matrices but the last.

    Reference:
        SparseCTR, equations 12 to 14.
    """
    matrices = []
    distance = ops.abs(query_time - key_time)
    if "time" in relations:
        matrices.append(log2_bucket(distance, dtype="float32"))
    if "hour" in relations:
        matrices.append(_hour_relation(query_time, key_time))
    if "weekend" in relations:
        query_weekend = ops.cast(is_weekend(query_time, utc_offset), "float32")
        key_weekend = ops.cast(is_weekend(key_time, utc_offset), "float32")
        matrices.append(ops.abs(query_weekend - key_weekend))
    matrices = [ops.where(visible, matrix, 0.0) for matrix in matrices]
    matrices.append(1.0 - ops.cast(visible, "float32"))
    return ops.stack(matrices, axis=1)


def _hour_relation(query_time, key_time):
    """Works on seconds of the day, so that no pair needs an integer division."""
    query_second = ops.cast(query_time % DAY, "float32")
    key_second = ops.cast(key_time % DAY, "float32")
    sign = ops.where(query_time >= key_time, 1.0, -1.0)
    second = sign * (query_second - key_second)
    second = ops.where(second < 0, second + DAY, second)
    # Whole numbers below 2^24 are exact in float32; half a second of margin makes the
    # quotient's rounding harmless.
    return ops.sin(ops.floor((second + 0.5) / HOUR) * (math.pi / 24))
