"""Chunks of equal length, the alternative to `TimeChunking`."""

from typing import Any

import keras
from keras import ops

from ctr_tf.layers.checks import check_positive
from ctr_tf.tensors import Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class FixedChunking(keras.layers.Layer):
    """Cuts each history into chunks of equal length, whatever its times.

    Behavior k = 0 … n - 1 of n valid ones is in chunk ``floor(k P / max(n, P)) + 1``.
    The length is that of the user's own history (ours), so that left padding changes
    nothing and a history of at most P behaviors gets one chunk a behavior.

    Args:
        num_chunks: P, positive.

    Call arguments:
        time: not used; the arguments are those of `TimeChunking`.
        mask: `[B, N]` bool, False on padding, which is on the left.
        chunk: not used.
        embedding: not used.

    Returns:
        `[B, N]` int32: 0 on padding, then 1 … P, oldest chunk first.

    Raises:
        UserError: if `num_chunks` is not positive.

    Reference:
        SparseCTR, section 4.4.2 (FixedChunking).

    Example:
        >>> import numpy as np
        >>> from ctr_tf.layers import FixedChunking
        >>> time = np.array([[0, 100, 160, 9_000, 9_030, 9_100]])  # left-padded
        >>> np.asarray(FixedChunking(2)(time, time > 0)).tolist()
        [[0, 1, 1, 1, 2, 2]]
    """

    def __init__(self, num_chunks: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_positive(num_chunks=num_chunks)
        self.num_chunks = num_chunks

    def call(
        self,
        time: Tensor,
        mask: Tensor,
        chunk: Tensor | None = None,
        embedding: Tensor | None = None,
    ) -> Tensor:
        """Computes the ids from the mask alone."""
        length = mask.shape[1]
        count_B1 = ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)
        order_BN = ops.arange(length, dtype="int32")[None] - (length - count_B1)
        size_B1 = ops.maximum(count_B1, self.num_chunks)
        return ops.where(mask, order_BN * self.num_chunks // size_B1 + 1, 0)

    def compute_output_spec(
        self,
        time: Tensor,
        mask: Tensor,
        chunk: Tensor | None = None,
        embedding: Tensor | None = None,
    ) -> keras.KerasTensor:
        """Ids have the shape of the mask."""
        return keras.KerasTensor(mask.shape, dtype="int32")

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {**super().get_config(), "num_chunks": self.num_chunks}
