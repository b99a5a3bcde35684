"""Attention of candidates over behaviors.

Shape suffixes: `B` batch, `C` candidates, `J` keys, `H` heads, `D` model width.
"""

import keras
from keras import ops

from ctr_tf.layers.attention import attend, split_heads
from ctr_tf.layers.checks import check_heads
from ctr_tf.layers.relative_encoding import HIDDEN


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
        ValueError: if `num_heads` does not divide D.

    Reference:
        Attention Is All You Need, section 3.2.2; with targets as queries: SIM, section
        3.3, ETA, section 3.3.
    """

    def __init__(self, num_heads: int, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def build(self, target_shape, keys_shape, mask_shape=None):
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

    def call(self, target, keys, mask):
        """Asks all keys of every candidate."""
        if len(keys.shape) == 3:
            return self._ask(target, keys, mask)
        # Candidates with keys of their own are a batch of single candidates.
        count, width = keys.shape[2:]
        found = self._ask(
            ops.reshape(target, (-1, 1, target.shape[-1])),
            ops.reshape(keys, (-1, count, width)),
            ops.reshape(mask, (-1, count)),
        )
        return ops.reshape(found, ops.shape(target))

    def _ask(self, target_BCD, keys_BJE, mask_BJ):
        query_BHCK = split_heads(self.query(target_BCD), self.num_heads)
        bias_B11J = ops.where(mask_BJ, 0.0, HIDDEN)[:, None, None]
        found_BCD = attend(
            query_BHCK, self.key(keys_BJE), self.value(keys_BJE), bias_B11J
        )
        return self.output_projection(found_BCD)

    def compute_output_shape(self, target_shape, keys_shape, mask_shape=None):
        """The shape of the target."""
        return target_shape

    def get_config(self):
        """Config."""
        return {**super().get_config(), "num_heads": self.num_heads}
