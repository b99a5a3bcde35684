"""Merges adjacent behaviors into one token, after a look at each other.

Shape suffixes: `B` batch, `N` behaviors, `G` groups, `K` behaviors a group, `X` groups
of the batch, `D` width, `E` = K D.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.layers.blocks import to_blocks
from ctr_tf.layers.checks import check_positive
from ctr_tf.layers.full_attention import FullAttention
from ctr_tf.layers.relative_encoding import RelativeEncoding
from ctr_tf.layers.sparse_block import SparseBlock
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class TokenMerge(keras.layers.Layer):
    """``concat(InnerTrans(e_1 … e_K)) W + b`` of every K adjacent behaviors.

    InnerTrans is one block of full self-attention among the K (ours: that of SparseCTR,
    one head). Groups are counted from the latest behavior, so that padding moves none;
    a behavior that is padding is 0 in its group.

    W maps back to D (ours: the authors go on with tokens K D wide).

    Args:
        size: K.
        ffn_factor: hidden width of InnerTrans' network, in units of D.

    Call arguments:
        inputs: `[B, N, D]`.
        mask: `[B, N]` bool.

    Returns:
        Tokens `[B, G, D]`, G = N / K rounded up, and their mask `[B, G]`: True where
        any of the K is no padding.

    Raises:
        UserError: if a size is not positive.

    Reference:
        LONGER: Scaling Up Long Sequence Modeling in Industrial Recommenders (RecSys
        2025), section 3.3.

    Example:
        >>> import numpy as np
        >>> from keras.random import normal
        >>> from ctr_tf.layers import TokenMerge
        >>> mask = np.array([[False, False, True, True, True]])
        >>> tokens, token_mask = TokenMerge(size=2)(normal((1, 5, 8)), mask)
        >>> tuple(tokens.shape), np.asarray(token_mask).tolist()
        ((1, 3, 8), [[False, True, True]])
    """

    def __init__(self, size: int, ffn_factor: float = 2.0, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        check_positive(size=size)
        self.size = size
        self.ffn_factor = ffn_factor
        attention = FullAttention(
            1, RelativeEncoding(), dtype=self.dtype_policy, name="full_attention"
        )
        self.inner = SparseBlock(
            attention, ffn_factor, dtype=self.dtype_policy, name="inner"
        )

    def build(self, inputs_shape: Shape, mask_shape: Shape | None = None) -> None:
        """Builds InnerTrans and makes the projection."""
        width = inputs_shape[-1]
        self.inner.build((None, self.size, width))
        self.projection = keras.layers.Dense(
            width, dtype=self.dtype_policy, name="projection"
        )
        self.projection.build((None, None, self.size * width))
        self.built = True

    def call(self, inputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Merges from the right."""
        mask_BGK = to_blocks(mask, self.size)
        rows_BGKD = to_blocks(inputs, self.size)
        _, groups, size, width = rows_BGKD.shape
        # Each group is a sample of its own.
        mask_XK = ops.reshape(mask_BGK, (-1, size))
        plan = {
            "relations": 1.0 - ops.cast(mask_XK, "float32")[:, None, None, :],
            "position": ops.arange(size, dtype="int32"),
        }
        rows_XKD, _ = self.inner.encode(
            ops.reshape(rows_BGKD, (-1, size, width)), None, plan
        )
        rows_XKD = ops.where(mask_XK[..., None], rows_XKD, 0)
        groups_BGE = ops.reshape(rows_XKD, (-1, groups, size * width))
        return self.projection(groups_BGE), ops.any(mask_BGK, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "size": self.size,
            "ffn_factor": self.ffn_factor,
        }
