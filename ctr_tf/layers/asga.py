"""Target attention whose query also says how much history it wants at all.

Shape suffixes: `B` batch, `C` candidates, `J` keys, `H` heads, `K` head width, `D`
model width.
"""

import math

import keras
from keras import ops

from ctr_tf.errors import unknown_name
from ctr_tf.layers.attention import attend, merge_heads, split_heads
from ctr_tf.layers.evo_attention import check_heads
from ctr_tf.layers.rel_temporal import HIDDEN

ACTIVATIONS = ("softmax", "sigmoid")


@keras.saving.register_keras_serializable(package="ctr_tf")
class ASGA(keras.layers.Layer):
    """Adaptive sparse-gated attention of candidates over behaviors.

    For every head, with queries q, gate logits g, keys and values:

        [Q, G] = q W_Q        split into two halves of D/H
        head   = softmax(Q K^T / sqrt(D/H)) V * sigmoid(G)

    The heads are concatenated and projected by W_O (ours). No map has a bias, so that a
    query that sees no key gets exactly 0. The inputs are sifted before: see `PAFS`.

    Args:
        num_heads: H; divides D.
        gated: whether the output is gated. Without, and with `"softmax"`, this is plain
            multi-head target attention.
        activation: `"softmax"`, or `"sigmoid"` for ``sigmoid(Q K^T / sqrt(D/H)) V``,
            the naive way out of a softmax's sum of one.

    Call arguments:
        query: `[B, C, D]`.
        keys: `[B, J, D]`, the same for all candidates, or `[B, C, J, D]`.
        visible: bool, the shape of `keys` without D; False hides a key.

    Returns:
        `[B, C, D]`.

    Raises:
        ValueError: if `num_heads` does not divide D; for an unknown activation.

    Reference:
        GAP-Net, section 3.2.2, equations 6 to 8; naive sigmoid: table 4.
    """

    def __init__(
        self,
        num_heads: int,
        gated: bool = True,
        activation: str = "softmax",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if activation not in ACTIVATIONS:
            raise ValueError(unknown_name("activation", activation, ACTIVATIONS))
        self.num_heads = num_heads
        self.gated = gated
        self.activation = activation

    def build(self, query_shape, keys_shape, visible_shape):
        """Makes the projections."""
        width = query_shape[-1]
        check_heads(self.num_heads, width)
        for name, units, input_width in (
            ("query", width * (2 if self.gated else 1), width),
            ("key", width, keys_shape[-1]),
            ("value", width, keys_shape[-1]),
            ("output_projection", width, width),
        ):
            layer = keras.layers.Dense(
                units, use_bias=False, dtype=self.dtype_policy, name=name
            )
            layer.build((None, None, input_width))
            setattr(self, name, layer)
        self.built = True

    def call(self, query, keys, visible):
        """Asks all keys of every candidate."""
        if len(keys.shape) == 3:
            return self._ask(query, keys, visible)
        # Candidates with keys of their own are a batch of single candidates.
        count, width = keys.shape[2:]
        found = self._ask(
            ops.reshape(query, (-1, 1, width)),
            ops.reshape(keys, (-1, count, width)),
            ops.reshape(visible, (-1, count)),
        )
        return ops.reshape(found, ops.shape(query))

    def _ask(self, query_BCD, keys_BJD, visible_BJ):
        query_BHCK = split_heads(self.query(query_BCD), self.num_heads)
        if self.gated:
            query_BHCK, gate_BHCK = ops.split(query_BHCK, 2, axis=-1)
        bias_B11J = ops.where(visible_BJ, 0.0, HIDDEN)[:, None, None]
        attention = attend if self.activation == "softmax" else _attend_sigmoid
        found_BCD = attention(
            query_BHCK, self.key(keys_BJD), self.value(keys_BJD), bias_B11J
        )
        if self.gated:
            found_BCD = found_BCD * merge_heads(ops.sigmoid(gate_BHCK))
        return self.output_projection(found_BCD)

    def compute_output_shape(self, query_shape, keys_shape, visible_shape):
        """The shape of the query."""
        return query_shape

    def get_config(self):
        """Config."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "gated": self.gated,
            "activation": self.activation,
        }


def _attend_sigmoid(query_BHCK, key_BJD, value_BJD, bias_B11J):
    heads, width = query_BHCK.shape[1], query_BHCK.shape[3]
    key_BHKJ = ops.transpose(split_heads(key_BJD, heads), (0, 1, 3, 2))
    logits = ops.matmul(query_BHCK * (1 / math.sqrt(width)), key_BHKJ)
    weight = ops.sigmoid(ops.cast(logits, "float32") + bias_B11J)
    weight = ops.cast(weight, value_BJD.dtype)
    return merge_heads(ops.matmul(weight, split_heads(value_BJD, heads)))
