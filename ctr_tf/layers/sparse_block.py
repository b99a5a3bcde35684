"""One block of SparseCTR: attention and feed-forward network, pre-normalized."""

from typing import Any, Self

import keras
from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.layers.mixed_sequence import MixedSequenceLayer
from ctr_tf.layers.nested import build_once
from ctr_tf.layers.rows import by_rows
from ctr_tf.layers.swiglu import SwiGLU
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class SparseBlock(MixedSequenceLayer):
    """``x = x + Attention(RMSNorm(x))``, then ``x = x + SwiGLU(RMSNorm(x))``.

    Args:
        attention: a `SequenceAttention`, such as `EvoAttention`.
        ffn_factor: hidden width of the SwiGLU, in widths of the model.

    Call arguments:
        behaviors: `[B, N, D]`.
        candidates: `[B, C, D]`.
        user: `[B, D]`, the compressed user profile.
        plan: from the attention's keys layer.
        relations: from the attention's keys layer.

    Returns:
        The behaviors `[B, N, D]` and the candidates `[B, C, D]` after the block.

    Raises:
        UserError: if `ffn_factor` is not positive.

    Reference:
        SparseCTR, section 3.3, equation 2; residuals as in SUAN's code.

    Example:
        >>> import numpy as np
        >>> from keras.random import normal
        >>> from ctr_tf.layers import FullAttention, FullKeys, SparseBlock
        >>> time = np.array([[0, 100, 160, 9_000, 9_030, 9_100]])  # left-padded
        >>> keys = FullKeys()
        >>> plan, state = keys(time, time > 0)
        >>> relations = keys.relations_to(state, np.array([9_200]))
        >>> behaviors, candidates = normal((1, 6, 8)), normal((1, 4, 8))
        >>> block = SparseBlock(FullAttention(num_heads=2))
        >>> rows, scored = block(behaviors, candidates, None, plan, relations)
        >>> tuple(rows.shape), tuple(scored.shape)
        ((1, 6, 8), (1, 4, 8))
    """

    def __init__(
        self, attention: keras.layers.Layer, ffn_factor: float = 3, **kwargs: Any
    ):
        super().__init__(autocast=False, **kwargs)
        if not ffn_factor > 0:
            raise UserError(
                f"`ffn_factor` must be positive. Received: ffn_factor={ffn_factor}"
            )
        self.attention = attention
        self.ffn_factor = ffn_factor

    def build(
        self, behaviors_shape: Shape, *other_shapes: Shape, **more_shapes: Shape
    ) -> None:
        """Makes norms and feed-forward network, builds the attention."""
        width = behaviors_shape[-1]
        shape = (None, None, width)
        self.attention_norm = keras.layers.RMSNormalization(
            dtype=self.dtype_policy, name="attention_norm"
        )
        self.ffn_norm = keras.layers.RMSNormalization(
            dtype=self.dtype_policy, name="ffn_norm"
        )
        self.ffn = SwiGLU(
            int(self.ffn_factor * width), dtype=self.dtype_policy, name="ffn"
        )
        for layer in (self.attention_norm, self.attention, self.ffn_norm, self.ffn):
            build_once(layer, shape)
        self.built = True

    def call(
        self,
        behaviors: Tensor,
        candidates: Tensor,
        user: Tensor,
        plan: dict,
        relations: Tensor | dict,
    ) -> tuple[Tensor, Tensor]:
        """Runs the mixed sequence."""
        behaviors = ops.cast(behaviors, self.compute_dtype)
        candidates = ops.cast(candidates, self.compute_dtype)
        output, state = self.encode(behaviors, user, plan)
        return output, self.score(candidates, state, relations)

    def encode(
        self,
        behaviors: Tensor,
        user: Tensor | None,
        plan: dict,
        with_queries: bool = True,
    ) -> tuple[Tensor | None, dict]:
        """Runs the behaviors; see `SequenceAttention.encode`."""
        normed = self.attention_norm(behaviors)
        output, state = self.attention.encode(normed, user, plan, with_queries)
        if not with_queries:
            return None, state
        return self._feed_forward(behaviors + output), state

    def score(
        self, candidates: Tensor, state: dict, relations: Tensor | dict
    ) -> Tensor:
        """Runs candidates `[B, C, D]` on the state of `encode`: `[B, C, D]`."""
        normed = self.attention_norm(candidates)
        output = self.attention.score(normed, state, relations)
        return self._feed_forward(candidates + output)

    def _feed_forward(self, inputs):
        return by_rows(lambda rows: rows + self.ffn(self.ffn_norm(rows)), inputs)

    def get_config(self) -> dict[str, Any]:
        """Config with the attention's own."""
        return {
            **super().get_config(),
            "attention": keras.saving.serialize_keras_object(self.attention),
            "ffn_factor": self.ffn_factor,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Inverse of `get_config`."""
        attention = keras.saving.deserialize_keras_object(config["attention"])
        return cls(**{**config, "attention": attention})
