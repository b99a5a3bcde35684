"""Each candidate's own selection of the history, for all candidates at once.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `J` selected behaviors.
"""

import keras
from keras import ops

from ctr_tf.layers.evo_attention import take_rows
from ctr_tf.tensors import Tensor

_LOWEST = -3e38  # finite, below every score


def top_behaviors(score_BCN: Tensor, mask: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k behaviors of the highest scores, of equal ones the later.

    No gradient passes through the selection.

    Args:
        score_BCN: relevance, finite; compared as float32.
        mask: `[B, N]` or `[B, C, N]` bool, which behaviors may be selected.
        k: how many; all where there are not so many.

    Returns:
        Index `[B, C, J]` int32, and `[B, C, J]` bool, False where nothing was left to
        select; J = min(k, N).
    """
    length = score_BCN.shape[2]
    mask = mask[:, None] if len(mask.shape) == 2 else mask
    score = ops.cast(ops.stop_gradient(score_BCN), "float32")
    score = ops.where(mask, score, _LOWEST)
    score, index = _top_k(ops.flip(score, axis=-1), min(k, length))
    return length - 1 - ops.cast(index, "int32"), score > _LOWEST


def _top_k(score, count):
    """The lower of equal indices first, as `top_k` of TensorFlow and JAX promises."""
    if keras.backend.backend() != "torch":
        return ops.top_k(score, count)
    index = ops.argsort(-score, axis=-1)[..., :count]  # which is stable
    return ops.take_along_axis(score, index, axis=-1), index


def take_behaviors(values: Tensor, index_BCJ: Tensor) -> Tensor:
    """Each candidate's behaviors: `[B, N, …]` → `[B, C, J, …]`.

    Args:
        values: `[B, N]` or `[B, N, D]`.
        index_BCJ: from `top_behaviors`.
    """
    count, selected = ops.shape(index_BCJ)[1], index_BCJ.shape[2]
    index = ops.reshape(index_BCJ, (-1, count * selected))
    rows = take_rows(values[..., None] if len(values.shape) == 2 else values, index)
    return ops.reshape(rows, (-1, count, selected, *values.shape[2:]))
