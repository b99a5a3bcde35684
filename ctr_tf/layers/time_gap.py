"""How long ago a behavior was, as a feature of the behavior."""

from keras import ops

from ctr_tf.tensors import Tensor, check_int64
from ctr_tf.time_ops import log2_bucket

NUM_GAPS = 32  # the last holds 2^31 seconds, 68 years, and more


def one_hot_gap(request_time: Tensor, time: Tensor, dtype: str) -> Tensor:
    """``floor(log2(gap))`` in seconds, one-hot.

    Beside a behavior's vector, ``[e, one_hot] W = e W1 + W2[bucket]``: the map that
    follows holds the embedding of each time gap.

    Args:
        request_time: `[B]` int64 seconds.
        time: `[B, …]` int64 seconds.
        dtype: of the result.

    Returns:
        `[B, …, 32]`.
    """
    check_int64()
    axes = tuple(range(1, len(time.shape)))
    gap = ops.expand_dims(request_time, axes) - time
    bucket = ops.minimum(log2_bucket(gap, dtype="int32"), NUM_GAPS - 1)
    return ops.one_hot(bucket, NUM_GAPS, dtype=dtype)
