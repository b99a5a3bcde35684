"""Target attention whose query also says how much history it wants at all.

Shape suffixes: `B` batch, `C` candidates, `J` keys, `H` heads, `K` head width, `D`
model width.
"""

import math
from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.layers.attention import merge_heads, products, split_heads
from ctr_tf.layers.relative_encoding import HIDDEN
from ctr_tf.layers.target_attention import TargetAttention
from ctr_tf.tensors import Shape, Tensor

ACTIVATIONS = ("softmax", "sigmoid")


@keras.saving.register_keras_serializable(package="ctr_tf")
class ASGA(TargetAttention):
    """Adaptive sparse-gated attention: target attention with a gate on its output.

    For every head, with targets t and behaviors e:

        [Q, G] = t W_Q        two halves of D/H
        head   = softmax(Q K^T / sqrt(D/H)) V * sigmoid(G)

    The heads are concatenated and projected by W_O (ours). The halves of W_Q are held
    as two maps, those of all heads side by side. No map has a bias, so that a candidate
    that sees no key gets exactly 0. Targets and behaviors are sifted before: `PAFS`.

    Args:
        num_heads: H; divides D.
        gated: whether there is a gate. Without, and with `"softmax"`, this is plain
            target attention.
        activation: `"softmax"`, or `"sigmoid"` for ``sigmoid(Q K^T / sqrt(D/H)) V``,
            the naive way out of a softmax's sum of one.

    Call arguments:
        target: `[B, C, D]`.
        keys: `[B, J, D]`, the same for all candidates, or `[B, C, J, D]`.
        mask: bool, the shape of `keys` without D; False hides a key.

    Returns:
        `[B, C, D]`.

    Raises:
        UserError: if `num_heads` does not divide D; for an unknown activation.

    Reference:
        GAP-Net, section 3.2.2, equations 6 to 8; naive sigmoid: table 4.

    Example:
        >>> import numpy as np
        >>> from keras.random import normal
        >>> from ctr_tf.layers import ASGA
        >>> mask = np.array([[False, True, True]])
        >>> found = ASGA(num_heads=2)(normal((1, 5, 8)), normal((1, 3, 8)), mask)
        >>> tuple(found.shape)
        (1, 5, 8)
    """

    def __init__(
        self,
        num_heads: int,
        gated: bool = True,
        activation: str = "softmax",
        **kwargs: Any,
    ):
        super().__init__(num_heads, **kwargs)
        if activation not in ACTIVATIONS:
            raise UserError(unknown_name("activation", activation, ACTIVATIONS))
        self.gated = gated
        self.activation = activation

    def build(
        self, target_shape: Shape, keys_shape: Shape, mask_shape: Shape | None = None
    ) -> None:
        """Makes the projections."""
        super().build(target_shape, keys_shape)
        if self.gated:
            self.gate = keras.layers.Dense(
                target_shape[-1],
                activation="sigmoid",
                use_bias=False,
                dtype=self.dtype_policy,
                name="gate",
            )
            self.gate.build(target_shape)

    def call(self, target: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Asks all keys of every candidate."""
        found_BCD = self._read(target, keys, mask)
        if self.gated:
            found_BCD = found_BCD * self.gate(target)
        return self.output_projection(found_BCD)

    def _attend(self, query_BHCK, key_BJD, value_BJD, mask_BJ):
        if self.activation == "softmax":
            return super()._attend(query_BHCK, key_BJD, value_BJD, mask_BJ)
        hidden_BJ = ops.cast(ops.logical_not(mask_BJ), "float32")
        bias_B11J = HIDDEN * hidden_BJ[:, None, None]
        heads, width = query_BHCK.shape[1], query_BHCK.shape[3]
        query_BHCK = query_BHCK * (1 / math.sqrt(width))
        logits = products(query_BHCK, split_heads(key_BJD, heads))
        weight = ops.sigmoid(ops.cast(logits, "float32") + bias_B11J)
        weight = ops.cast(weight, value_BJD.dtype)
        return merge_heads(ops.matmul(weight, split_heads(value_BJD, heads)))

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "gated": self.gated,
            "activation": self.activation,
        }
