"""One block of BST: the Transformer's encoder layer, normalized after each part."""

from typing import Any

import keras

from ctr_tf.layers.nested import build_once
from ctr_tf.layers.sparse_block import SparseBlock
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class PostNormBlock(SparseBlock):
    """``x = LN(x + Attention(x))``, then ``x = LN(x + W2 LeakyReLU(x W1 + b1) + b2)``.

    LeakyReLU has TensorFlow's slope, 0.2; there is no dropout (ours: training is one
    epoch or two).

    Args:
        attention: `FullAttention` or a layer with its methods.
        ffn_factor: hidden width of the feed-forward network, in widths of the model.

    Call arguments:
        behaviors: `[B, N, D]`.
        candidates: `[B, C, D]`.
        user: for the attention.
        plan: from the attention's keys layer.
        relations: from the attention's keys layer.

    Returns:
        The behaviors `[B, N, D]` and the candidates `[B, C, D]` after the block.

    Raises:
        UserError: if `ffn_factor` is not positive.

    Reference:
        Behavior Sequence Transformer for E-commerce Recommendation in Alibaba
        (DLP-KDD 2019), equations 3 to 5.

    Example:
        >>> import numpy as np
        >>> from keras.random import normal
        >>> from ctr_tf.layers import FullAttention, FullKeys, PostNormBlock
        >>> time = np.array([[0, 100, 160, 9_000, 9_030, 9_100]])  # left-padded
        >>> keys = FullKeys()
        >>> plan, state = keys(time, time > 0)
        >>> relations = keys.relations_to(state, np.array([9_200]))
        >>> behaviors, candidates = normal((1, 6, 8)), normal((1, 4, 8))
        >>> block = PostNormBlock(FullAttention(num_heads=2, sees_itself=True))
        >>> rows, scored = block(behaviors, candidates, None, plan, relations)
        >>> tuple(rows.shape), tuple(scored.shape)
        ((1, 6, 8), (1, 4, 8))
    """

    def __init__(
        self, attention: keras.layers.Layer, ffn_factor: float = 4, **kwargs: Any
    ):
        super().__init__(attention, ffn_factor, **kwargs)

    def build(
        self, behaviors_shape: Shape, *other_shapes: Shape, **more_shapes: Shape
    ) -> None:
        """Makes norms and feed-forward network, builds the attention."""
        width = behaviors_shape[-1]
        hidden = int(self.ffn_factor * width)
        policy = self.dtype_policy
        build_once(self.attention, (None, None, width))
        for name in ("attention_norm", "ffn_norm"):
            norm = keras.layers.LayerNormalization(
                epsilon=1e-6, dtype=policy, name=name
            )
            norm.build((None, None, width))
            setattr(self, name, norm)
        self.ffn_hidden = keras.layers.Dense(
            hidden, activation="leaky_relu", dtype=policy, name="ffn_hidden"
        )
        self.ffn_hidden.build((None, None, width))
        self.ffn_output = keras.layers.Dense(width, dtype=policy, name="ffn_output")
        self.ffn_output.build((None, None, hidden))
        self.built = True

    def encode(
        self,
        behaviors: Tensor,
        user: Tensor | None,
        plan: dict,
        with_queries: bool = True,
    ) -> tuple[Tensor | None, dict]:
        """Runs the behaviors; see `SequenceAttention.encode`."""
        output, state = self.attention.encode(behaviors, user, plan, with_queries)
        if not with_queries:
            return None, state
        return self._normalize(behaviors, output), state

    def score(
        self, candidates: Tensor, state: dict, relations: Tensor | dict
    ) -> Tensor:
        """Runs candidates `[B, C, D]` on the state of `encode`: `[B, C, D]`."""
        output = self.attention.score(candidates, state, relations)
        return self._normalize(candidates, output)

    def _normalize(self, inputs, attended):
        inputs = self.attention_norm(inputs + attended)
        return self.ffn_norm(inputs + self.ffn_output(self.ffn_hidden(inputs)))
