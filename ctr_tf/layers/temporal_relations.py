"""How far apart queries and keys are: computed once a pass, shared by all blocks.

Shape suffixes: `B` batch, `Q` queries, `J` keys, `R` relations.
"""

import math

from keras import ops

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.tensors import Tensor, at_least, check_int64
from ctr_tf.time import DAY, HOUR
from ctr_tf.time_ops import is_weekend, log2_bucket

RELATIONS = ("time", "hour", "weekend")  # of RelTemporal
ALL_RELATIONS = (*RELATIONS, "distance", "log_time")
NUM_LOG_TIMES = 129


def check_relations(
    relations: tuple[str, ...], known: tuple[str, ...] = RELATIONS
) -> tuple[str, ...]:
    """Returns `relations` as a tuple; UserError for a name that is not `known`."""
    for name in relations:
        if name not in known:
            raise UserError(unknown_name("temporal relation", name, known))
    return tuple(relations)


def temporal_relations(
    query_time: Tensor,
    key_time: Tensor,
    visible: Tensor,
    relations: tuple[str, ...] = RELATIONS,
    zone: int | str = 0,
    distance: Tensor | None = None,
) -> Tensor:
    """The head-independent matrices of relative encodings, and one for what is hidden.

    * `"time"`: ``floor(log2(max(|dt|, 1)))``
    * `"hour"`: ``sin(pi / 24 * (floor(|dt| / 3600) mod 24))``
    * `"weekend"`: 1 where one time is on a weekend and the other is not
    * `"distance"`: i - j, how many behaviors further back the key is
    * `"log_time"`: ``min(floor(ln(max(|dt|, 1)) / 0.301), 128)``
    * always last: 1 where the key is hidden from the query

    Times are integers until their differences are taken.

    Args:
        query_time: `[B, Q, 1]` int64 seconds.
        key_time: `[B, 1, J]` or, where each query has its own keys, `[B, Q, J]`.
        visible: `[B, Q, J]` bool, which keys a query sees.
        relations: which matrices, of `ALL_RELATIONS`, in that order.
        zone: of local time, for the weekend; see `ctr_tf.time.local_time`.
        distance: `[Q, J]` or `[B, Q, J]` int, where `relations` has `"distance"`.

    Returns:
        `[B, R, Q, J]` float32, R = len(relations) + 1; what is hidden is 0 in all
        matrices but the last.

    Reference:
        SparseCTR, equations 12 to 14; `HSTUBias`, `T5Bias`, `Alibi`.
    """
    check_int64()
    matrices = []
    elapsed = ops.abs(ops.subtract(query_time, key_time))
    if "time" in relations:
        matrices.append(log2_bucket(elapsed, dtype="float32"))
    if "hour" in relations:
        matrices.append(_hour_relation(query_time, key_time))
    if "weekend" in relations:
        query_weekend = ops.cast(is_weekend(query_time, zone), "float32")
        key_weekend = ops.cast(is_weekend(key_time, zone), "float32")
        matrices.append(ops.abs(query_weekend - key_weekend))
    if "distance" in relations:
        matrices.append(ops.cast(distance, "float32"))
    if "log_time" in relations:
        matrices.append(log_time_bucket(elapsed, NUM_LOG_TIMES))
    matrices = [ops.where(visible, matrix, 0.0) for matrix in matrices]
    matrices.append(1.0 - ops.cast(visible, "float32"))
    return ops.stack(matrices, axis=1)


def append_key(relations_BRQJ: Tensor) -> Tensor:
    """Relations to one more key, at a query's own time and place: 0, never hidden."""
    return ops.pad(relations_BRQJ, ((0, 0), (0, 0), (0, 0), (0, 1)))


def log_time_bucket(elapsed: Tensor, num_buckets: int) -> Tensor:
    """``min(floor(ln(max(elapsed, 1)) / 0.301), num_buckets - 1)``, as in HSTU's code.

    A bucket ends at 1.35 times its beginning. The logarithm is float32's: above some
    10^5 seconds a time within a millionth of a bucket's end may count to the next.

    Args:
        elapsed: int64 seconds, any shape.
        num_buckets: the last holds all that is longer.

    Returns:
        Whole numbers, float32, the shape of `elapsed`.
    """
    logarithm = ops.log(ops.cast(at_least(elapsed, 1), "float32"))
    return ops.minimum(ops.floor(logarithm / 0.301), num_buckets - 1)


def _hour_relation(query_time, key_time):
    """Works on seconds of the day, so that no pair needs an integer division."""
    query_second = ops.cast(query_time % DAY, "float32")
    key_second = ops.cast(key_time % DAY, "float32")
    is_later = ops.greater_equal(query_time, key_time)
    sign = 2.0 * ops.cast(is_later, "float32") - 1.0
    second = sign * (query_second - key_second)
    second = ops.where(second < 0, second + DAY, second)
    # Whole numbers below 2^24 are exact in float32; half a second of margin makes the
    # quotient's rounding harmless.
    return ops.sin(ops.floor((second + 0.5) / HOUR) * (math.pi / 24))
