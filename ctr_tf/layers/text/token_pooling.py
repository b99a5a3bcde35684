"""One vector a text: the mean of its tokens, or of its sinks.

Shape suffixes: `B` batch, `L` tokens, `W` width.
"""

from keras import ops

from ctr_tf.tensors import Tensor


def pool_text(
    hidden: Tensor,
    mask: Tensor,
    is_sink: Tensor | None = None,
    over_sinks: Tensor | bool = False,
) -> Tensor:
    """Mean over tokens, or over sinks; the switch may be a tensor.

    Args:
        hidden: `[B, L, W]`.
        mask: `[B, L]` bool, False on padding.
        is_sink: `[B, L]` bool, where sinks are; None: there are none.
        over_sinks: scalar bool: only the sinks, and of a text without one the first
            token. A tensor, such as "the step is below", traces nothing twice.

    Returns:
        `[B, W]`, the dtype of `hidden`, summed in float32; 0 for a text without tokens.

    Reference:
        CTR-Sink, section 4.4 of our notes.
    """
    mask = ops.cast(mask, "bool")
    chosen = ops.cast(mask, "float32")
    if is_sink is not None:
        sinks = ops.cast(ops.cast(is_sink, "bool") & mask, "float32")
        first = chosen * ops.cast(ops.cumsum(chosen, axis=1) == 1, "float32")
        has_sink = ops.any(sinks > 0, axis=1, keepdims=True)
        chosen = ops.where(over_sinks, ops.where(has_sink, sinks, first), chosen)
    count = ops.maximum(ops.sum(chosen, axis=1, keepdims=True), 1.0)
    total = ops.einsum("bl,blw->bw", chosen, ops.cast(hidden, "float32"))
    return ops.cast(total / count, hidden.dtype)
