"""Time features in the graph, on `keras.ops`; the rules are those of `ctr_tf.time`."""

from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.tensors import Tensor, at_least, check_int64
from ctr_tf.time import DAY, HOUR, MAX_TIME, transitions


def local_time(time: Tensor, zone: int | str = 0) -> Tensor:
    """Seconds on the local clock; see `ctr_tf.time.local_time`."""
    if not isinstance(zone, str):
        return time + zone
    starts, offsets = transitions(zone)
    flat = ops.reshape(time, [-1])
    place = ops.searchsorted(ops.convert_to_tensor(starts), flat, side="right") - 1
    found = ops.take(ops.convert_to_tensor(offsets), ops.maximum(place, 0))
    return time + ops.reshape(ops.cast(found, time.dtype), ops.shape(time))


def hour_of_day(time: Tensor, zone: int | str = 0) -> Tensor:
    """Local hour, 0 … 23; see `ctr_tf.time.hour_of_day`."""
    return local_time(time, zone) // HOUR % 24


def is_weekend(time: Tensor, zone: int | str = 0) -> Tensor:
    """1 on Saturday and Sunday in local time, else 0; see `ctr_tf.time.is_weekend`."""
    weekday = (local_time(time, zone) // DAY + 3) % 7
    return ops.cast(weekday >= 5, time.dtype)


def log2_bucket(value: Tensor, dtype: str = "int64") -> Tensor:
    """``floor(log2(max(value, 1)))``, exact; see `ctr_tf.time.log2_bucket`.

    Clearing each bit below a set one keeps ``value`` between 1 and 1.5 times its
    power of two, and the factor 1.25 moves it to the middle between two powers, where
    neither float32's rounding nor that of its logarithm reaches the next bucket.

    Args:
        value: int64, any shape.
        dtype: of the result.

    Returns:
        0 … 62, the shape of `value`.
    """
    value = at_least(value, 1)
    value = value - ops.bitwise_and(value, ops.right_shift(value, 1))
    return ops.cast(ops.floor(ops.log2(ops.cast(value, "float32") * 1.25)), dtype)


def chunk_ids(time: Tensor, valid: Tensor, num_chunks: int) -> Tensor:
    """TimeChunking; see `ctr_tf.time.chunk_ids`.

    Args:
        time: `[B, N]` int64 seconds, left-padded, oldest first.
        valid: `[B, N]` bool, False on padding.
        num_chunks: P, positive.

    Returns:
        `[B, N]` int32: 0 on padding, then 1 … P, oldest chunk first.
    """
    if num_chunks < 1:
        raise UserError(
            f"`num_chunks` must be positive. Received: num_chunks={num_chunks}"
        )
    gap = ops.clip(time[:, 1:] - time[:, :-1], 0, MAX_TIME)
    return cut_at_largest(gap, valid, num_chunks)


def cut_at_largest(gap: Tensor, valid: Tensor, num_chunks: int) -> Tensor:
    """Cuts each history at its `num_chunks - 1` largest gaps, of equal ones the later.

    Args:
        gap: `[B, N - 1]` int64, not negative, between adjacent behaviors.
        valid: `[B, N]` bool, False on padding, which is on the left.
        num_chunks: P, positive.

    Returns:
        `[B, N]` int32: 0 on padding, then 1 … P, oldest chunk first.
    """
    check_int64()
    length = valid.shape[1]
    cuts = min(num_chunks - 1, length)
    if cuts == 0:
        return ops.cast(valid, "int32")
    position = ops.arange(1, length, dtype=gap.dtype)
    key = ops.where(valid[:, 1:] & valid[:, :-1], gap * length + position, -1)
    key = ops.pad(key, ((0, 0), (1, 0)), constant_values=-1)
    threshold = ops.top_k(key, cuts)[0][:, -1:]
    cut = (key >= at_least(threshold, 0)) & valid
    chunk = ops.cumsum(ops.cast(cut, "int32"), axis=1) + 1
    return ops.where(valid, chunk, 0)
