"""A reader of the history: attention to the few behaviors that a search finds.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `J` found ones, `D` width, `E`
width of found ones.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.layers.checks import check_positive
from ctr_tf.layers.target_attention import TargetAttention
from ctr_tf.layers.time_gap import NUM_GAPS, one_hot_gap
from ctr_tf.layers.top_behaviors import take_behaviors, top_behaviors
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class SearchAttention(TargetAttention):
    """`TargetAttention` of each candidate over its own top k behaviors.

    What is relevant is said from outside; no gradient passes through the selection.

    Args:
        num_heads: H; divides D.
        top_k: k.

    Call arguments:
        target: `[B, C, D]`.
        relevance: `[B, C, N]`, higher is better.
        visible: `[B, N]` or `[B, C, N]` bool, what may be found at all.
        behaviors: `[B, N, D]`.
        time: `[B, N]` int64 seconds, or None. With them, found behaviors carry their
            time gaps to the request (`one_hot_gap`).
        request_time: `[B]` int64 seconds, or None.

    Returns:
        `[B, C, D]`.

    Raises:
        UserError: if `num_heads` does not divide D, or `top_k` is not positive.

    Reference:
        SIM (CIKM 2020), sections 3.2 and 3.3.

    Example:
        >>> import numpy as np
        >>> from keras.random import normal
        >>> from ctr_tf.layers import SearchAttention
        >>> relevance, visible = normal((1, 5, 9)), np.ones((1, 9), bool)
        >>> attention = SearchAttention(num_heads=2, top_k=3)
        >>> found = attention(normal((1, 5, 8)), relevance, visible, normal((1, 9, 8)))
        >>> tuple(found.shape)
        (1, 5, 8)
    """

    def __init__(self, num_heads: int, top_k: int, **kwargs: Any):
        super().__init__(num_heads, **kwargs)
        check_positive(top_k=top_k)
        self.top_k = top_k

    # It asks for other inputs than its base.
    def build(
        self,
        target_shape: Shape,
        relevance_shape: Shape | None = None,
        visible_shape: Shape | None = None,
        behaviors_shape: Shape | None = None,
        time_shape: Shape | None = None,
        request_time_shape: Shape | None = None,
    ) -> None:
        """Makes the projections.

        Args:
            target_shape: `[B, C, D]`.
            relevance_shape: not used.
            visible_shape: not used.
            behaviors_shape: `[B, N, D]`; the target's D where None.
            time_shape: `[B, N]` if times will be given.
            request_time_shape: not used.
        """
        found = (behaviors_shape or target_shape)[-1]
        if time_shape is not None:
            found += NUM_GAPS
        super().build(target_shape, (None, None, None, found))

    def call(  # type: ignore[override]
        self,
        target: Tensor,
        relevance: Tensor,
        visible: Tensor,
        behaviors: Tensor,
        time: Tensor | None = None,
        request_time: Tensor | None = None,
    ) -> Tensor:
        """Finds behaviors and asks them."""
        index_BCJ, found_BCJ = top_behaviors(relevance, visible, self.top_k)
        keys_BCJE = take_behaviors(behaviors, index_BCJ)
        if time is not None:
            time_BCJ = take_behaviors(time, index_BCJ)
            gap = one_hot_gap(request_time, time_BCJ, keys_BCJE.dtype)
            keys_BCJE = ops.concatenate([keys_BCJE, gap], axis=-1)
        return super().call(target, keys_BCJE, found_BCJ)

    def compute_output_shape(  # type: ignore[override]
        self, target_shape: Shape, *more_shapes: Shape, **other_shapes: Shape
    ) -> Shape:
        """The shape of the target."""
        return target_shape

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {**super().get_config(), "top_k": self.top_k}
