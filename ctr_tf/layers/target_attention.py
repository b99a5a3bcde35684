"""Attention of candidates over behaviors.

Shape suffixes: `B` batch, `C` candidates, `J` keys, `H` heads, `K` head width, `D`
model width, `E` width of a key, `F` = B C.
"""

import math
from typing import Any

import keras
from keras import ops

from ctr_tf.layers.attention import attend, split_heads
from ctr_tf.layers.checks import check_heads
from ctr_tf.layers.relative_encoding import HIDDEN
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class TargetAttention(keras.layers.Layer):
    """``concat_h(softmax(q_h K_h^T / sqrt(D/H)) V_h) W_O`` of every candidate.

    ``q = t W_Q``, ``K = e W_K``, ``V = e W_V``. No map has a bias, so that a candidate
    that sees no key gets exactly 0. Softmaxes are float32.

    Args:
        num_heads: H; divides D.

    Call arguments:
        target: `[B, C, D]`.
        keys: `[B, J, E]`, the same for all candidates, or each one's own
            `[B, C, J, E]`; E may differ from D.
        mask: bool, the shape of `keys` without E; False hides a key.

    Returns:
        `[B, C, D]`.

    Raises:
        UserError: if `num_heads` does not divide D.

    Reference:
        Attention Is All You Need, section 3.2.2; with targets as queries: SIM, section
        3.3, ETA, section 3.3.

    Example:
        >>> import numpy as np
        >>> from keras import ops
        >>> from keras.random import normal
        >>> from ctr_tf.layers import TargetAttention
        >>> layer, nothing = TargetAttention(num_heads=2), np.zeros((1, 3), bool)
        >>> found = layer(normal((1, 5, 8)), normal((1, 3, 6)), nothing)
        >>> tuple(found.shape), float(ops.max(ops.abs(found)))  # nothing is seen
        ((1, 5, 8), 0.0)
    """

    def __init__(self, num_heads: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def build(
        self, target_shape: Shape, keys_shape: Shape, mask_shape: Shape | None = None
    ) -> None:
        """Makes the projections."""
        width = target_shape[-1]
        check_heads(self.num_heads, width)
        for name, input_width in (
            ("query", width),
            ("key", keys_shape[-1]),
            ("value", keys_shape[-1]),
            ("output_projection", width),
        ):
            layer = keras.layers.Dense(
                width, use_bias=False, dtype=self.dtype_policy, name=name
            )
            layer.build((None, None, input_width))
            setattr(self, name, layer)
        self.built = True

    def call(self, target: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Asks all keys of every candidate."""
        return self.output_projection(self._read(target, keys, mask))

    def _read(self, target_BCD, keys, mask):
        """The heads' outputs, side by side."""
        query_BCD = self.query(target_BCD)
        if len(keys.shape) == 4:
            return self._read_own(query_BCD, keys, mask)
        query_BHCK = split_heads(query_BCD, self.num_heads)
        key_BJD, value_BJD = self.key(keys), self.value(keys)
        return self._attend(query_BHCK, key_BJD, value_BJD, mask)

    def _read_own(self, query_BCD, keys_BCJE, mask_BCJ):
        """As `_read`, each candidate over keys of its own.

        ``q (e W_K)^T = (q W_K^T) e^T`` and ``sum_j a_j (e_j W_V) = (sum_j a_j e_j)
        W_V``: what is projected is H rows a candidate, not each of its J keys.
        """
        candidates, width = ops.shape(query_BCD)[1:]
        count, key_width = keys_BCJE.shape[2:]
        heads = (self.num_heads, width // self.num_heads)
        key_EHK, value_EHK = (
            ops.reshape(ops.cast(layer.kernel, self.compute_dtype), (key_width, *heads))
            for layer in (self.key, self.value)
        )
        query_BCHK = ops.reshape(query_BCD, (-1, candidates, *heads))
        # Divided by sqrt(E) below, where sqrt(K) is due.
        query_BCHK = query_BCHK * math.sqrt(key_width / heads[1])
        query_BCHE = ops.einsum("bchk,ehk->bche", query_BCHK, key_EHK)
        query_F1HE = ops.reshape(query_BCHE, (-1, 1, self.num_heads, key_width))
        keys_FJE = ops.reshape(keys_BCJE, (-1, count, key_width))
        mask_FJ = ops.reshape(mask_BCJ, (-1, count))
        found_FHE = self._attend(query_F1HE, keys_FJE, keys_FJE, mask_FJ)
        found_BCHE = ops.reshape(found_FHE, (-1, candidates, self.num_heads, key_width))
        found_BCHK = ops.einsum("bche,ehk->bchk", found_BCHE, value_EHK)
        return ops.reshape(found_BCHK, (-1, candidates, width))

    def _attend(self, query_BHCK, key_BJD, value_BJD, mask_BJ):
        hidden_BJ = ops.cast(ops.logical_not(mask_BJ), "float32")
        bias_B11J = HIDDEN * hidden_BJ[:, None, None]
        return attend(query_BHCK, key_BJD, value_BJD, bias_B11J)

    def compute_output_shape(
        self, target_shape: Shape, keys_shape: Shape, mask_shape: Shape | None = None
    ) -> Shape:
        """The shape of the target."""
        return target_shape

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {**super().get_config(), "num_heads": self.num_heads}
