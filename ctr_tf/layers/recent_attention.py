"""A reader of the history: attention to the latest behaviors.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `R` latest ones, `D` width.
"""

from typing import Any

import keras

from ctr_tf.layers.checks import check_positive
from ctr_tf.layers.target_attention import TargetAttention
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class RecentAttention(TargetAttention):
    """`TargetAttention` over the last behaviors.

    Args:
        num_heads: H; divides D.
        count: R, how many.

    Call arguments:
        target: `[B, C, D]`.
        behaviors: `[B, N, D]`; the last R are enough.
        mask: `[B, N]` bool; the last R are enough.

    Returns:
        `[B, C, D]`.

    Raises:
        UserError: if `num_heads` does not divide D, or `count` is not positive.

    Example:
        >>> import numpy as np
        >>> from keras.random import normal
        >>> from ctr_tf.layers import RecentAttention
        >>> behaviors, mask = normal((1, 9, 8)), np.ones((1, 9), bool)
        >>> attention = RecentAttention(num_heads=2, count=4)
        >>> found = attention(normal((1, 5, 8)), behaviors, mask)
        >>> tuple(found.shape)
        (1, 5, 8)
    """

    def __init__(self, num_heads: int, count: int, **kwargs: Any):
        super().__init__(num_heads, **kwargs)
        check_positive(count=count)
        self.count = count

    # Its second input has another name than that of its base.
    def build(
        self,
        target_shape: Shape,
        behaviors_shape: Shape,
        mask_shape: Shape | None = None,
    ) -> None:
        """Makes the projections."""
        super().build(target_shape, behaviors_shape)

    def call(self, target: Tensor, behaviors: Tensor, mask: Tensor) -> Tensor:
        """Asks the latest of every candidate."""
        return super().call(target, self.latest(behaviors), self.latest(mask))

    def compute_output_shape(
        self,
        target_shape: Shape,
        behaviors_shape: Shape,
        mask_shape: Shape | None = None,
    ) -> Shape:
        """The shape of the target."""
        return target_shape

    def latest(self, rows: Tensor) -> Tensor:
        """`[B, N, …]` → `[B, R, …]`: the last ones, fewer where there are fewer."""
        return rows[:, -self.count :]

    def axis(self, history_length: int) -> int:
        """R for histories of a length, to declare a state by."""
        return min(history_length, self.count)

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {**super().get_config(), "count": self.count}
