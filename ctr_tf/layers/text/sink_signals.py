"""What a sink is told of the behavior on its left: a number from 0 to 99.

Signals are of behaviors, in the order of the history, oldest first. Where a text has
another order, or holds only some of them, they are moved as the behaviors are.

Shape suffixes: `B` batch, `N` behaviors.
"""

from keras import ops

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.layers.temporal_relations import log_time_bucket
from ctr_tf.tensors import Tensor, check_int64

SIGNALS = ("temporal", "ordinal", "random", "none")
NUM_SIGNALS = 100
_MIX = (0x2545F4914F6CDD1D, 0x1B03738712FAD5C9, 0x27D4EB2F165667C5)  # odd, 61 bits


def sink_signals(
    kind: str, request_time: Tensor, time: Tensor, valid: Tensor
) -> Tensor:
    """The signal of every behavior.

    * `"temporal"`: how long before the request it was, in buckets of `log_time_bucket`
    * `"ordinal"`: how many valid behaviors came after it, at most 99
    * `"random"`: a hash of the request's time and of that number, so that a request's
      scores repeat
    * `"none"`: 0

    Args:
        kind: of `SIGNALS`.
        request_time: `[B]` int64 seconds.
        time: `[B, N]` int64 seconds, oldest first.
        valid: `[B, N]` bool; False on padding and on behaviors that the text leaves
            out.

    Returns:
        `[B, N]` int32, 0 … 99; 0 where not valid.

    Raises:
        UserError: for an unknown kind.

    Reference:
        CTR-Sink, section 4.2 of our notes; the paper's code counts, from the oldest,
        what the paper calls temporal distance.
    """
    if kind not in SIGNALS:
        raise UserError(unknown_name("signal of sinks", kind, SIGNALS))
    check_int64()
    if kind == "none":
        return ops.zeros_like(time, dtype="int32")
    if kind == "temporal":
        signal = log_time_bucket(request_time[:, None] - time, NUM_SIGNALS)
    else:
        later = ops.flip(ops.cumsum(ops.flip(ops.cast(valid, "int32"), 1), axis=1), 1)
        signal = ops.maximum(later - 1, 0)
        if kind == "random":
            signal = _hash(request_time[:, None], signal)
    signal = ops.minimum(ops.cast(signal, "int32"), NUM_SIGNALS - 1)
    return ops.where(valid, signal, 0)


def _hash(time, place):
    """Multiplications of int64 that run over, and shifts: 0 … 99, near to uniform."""
    mixed = (time + 1) * _MIX[0] + (ops.cast(place, "int64") + 1) * _MIX[1]
    for shift in (33, 29):
        mixed = (mixed ^ ops.right_shift(mixed, shift)) * _MIX[2]
    return ops.right_shift(mixed, 32) % NUM_SIGNALS
