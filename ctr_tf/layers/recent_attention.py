"""A reader of the history: attention to the latest behaviors.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `R` latest ones, `D` width.
"""

from typing import Any

import keras

from ctr_tf.layers.checks import check_positive
from ctr_tf.layers.target_attention import TargetAttention
from ctr_tf.tensors import Tensor


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
    """

    def __init__(self, num_heads: int, count: int, **kwargs: Any):
        super().__init__(num_heads, **kwargs)
        check_positive(count=count)
        self.count = count

    def call(self, target: Tensor, behaviors: Tensor, mask: Tensor) -> Tensor:
        """Asks the latest of every candidate."""
        return super().call(target, self.latest(behaviors), self.latest(mask))

    def latest(self, rows: Tensor) -> Tensor:
        """`[B, N, …]` → `[B, R, …]`: the last ones, fewer where there are fewer."""
        return rows[:, -self.count :]

    def axis(self, history_length: int) -> int:
        """R for histories of a length, to declare a state by."""
        return min(history_length, self.count)

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {**super().get_config(), "count": self.count}
