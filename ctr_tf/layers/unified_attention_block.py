"""One block of SUAN: behaviors attend to behaviors, then to the user's profile.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `P` profile tokens, `D` model
width, `E` width of a profile token.
"""

from typing import Any, Self

import keras
from keras import ops

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.layers.dual_alignment import DualAlignment
from ctr_tf.layers.mixed_sequence import MixedSequenceLayer
from ctr_tf.layers.nested import build_once
from ctr_tf.layers.rms_norm import RMSNorm
from ctr_tf.layers.rows import by_rows
from ctr_tf.layers.swiglu import SwiGLU
from ctr_tf.layers.target_attention import TargetAttention
from ctr_tf.tensors import Shape, Tensor

NORMS = ("rms", "layer")


@keras.saving.register_keras_serializable(package="ctr_tf")
class UnifiedAttentionBlock(MixedSequenceLayer):
    """Self-attention, attention to the profile, their alignment, a gated network.

        x   = RMSNorm(x)                    the shortcut is the normalized row
        x   = RMSNorm(SelfAttention(x) + x)
        c   = CrossAttention(query x, keys and values profile)
        x   = RMSNorm(DualAlignment(x, c) + x)
        out = SwiGLU(x) + x

    The profile's tokens are the same for all blocks. Cross-attention is a
    `TargetAttention` that hides nothing and divides by ``sqrt(D / H)`` (ours: in the
    authors' code by the root of P, a slip). Without a profile, c is 0.

    The work is split as in `SequenceAttention`. The gate of `DualAlignment` is pooled
    over the behaviors' rows, so even where nobody reads what becomes of these, they
    run as far as that.

    Args:
        attention: a `SequenceAttention`.
        ffn_factor: hidden width of the SwiGLU, in widths of the model.
        swiglu: whether there is a SwiGLU.
        fusion: whether there is a profile: cross-attention, alignment and their norm.
        dual_alignment: whether c is weighed against x; it is added as it is otherwise.
        norm: `"rms"` or, for Keras' LayerNormalization, `"layer"`.
        post_norm: whether the first norm comes last, after the SwiGLU's shortcut.

    Call arguments:
        behaviors: `[B, N, D]`.
        candidates: `[B, C, D]`.
        mask: `[B, N]` bool, the behaviors that are no padding.
        profile: `[B, P, E]` from `ProfileTokens`, or None.
        plan: from the attention's keys layer.
        relations: from `relations_to` of the attention's keys layer.

    Returns:
        The behaviors `[B, N, D]` and the candidates `[B, C, D]` after the block.

    Raises:
        UserError: if `ffn_factor` is not positive; for an unknown norm.

    Reference:
        SUAN, unified attention block.

    Example:
        >>> import numpy as np
        >>> from keras.random import normal
        >>> from ctr_tf.layers import FullAttention, FullKeys, UnifiedAttentionBlock
        >>> time = np.array([[0, 100, 160, 9_000, 9_030, 9_100]])  # left-padded
        >>> keys, block = FullKeys(), UnifiedAttentionBlock(FullAttention(num_heads=2))
        >>> plan, state = keys(time, time > 0)
        >>> relations = keys.relations_to(state, np.array([9_200]))
        >>> behaviors, candidates = normal((1, 6, 8)), normal((1, 4, 8))
        >>> profile = normal((1, 3, 5))  # tokens of the user
        >>> inputs = (behaviors, candidates, time > 0, profile)
        >>> rows, scored = block(*inputs, plan, relations)
        >>> tuple(rows.shape), tuple(scored.shape)
        ((1, 6, 8), (1, 4, 8))
    """

    def __init__(
        self,
        attention: keras.layers.Layer,
        ffn_factor: float = 3,
        swiglu: bool = True,
        fusion: bool = True,
        dual_alignment: bool = True,
        norm: str = "rms",
        post_norm: bool = False,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        if not ffn_factor > 0:
            raise UserError(
                f"`ffn_factor` must be positive. Received: ffn_factor={ffn_factor}"
            )
        if norm not in NORMS:
            raise UserError(unknown_name("norm", norm, NORMS))
        self.attention = attention
        self.ffn_factor = ffn_factor
        self.swiglu = swiglu
        self.fusion = fusion
        self.dual_alignment = dual_alignment
        self.norm = norm
        self.post_norm = post_norm

    @property
    def keeps_gate(self) -> bool:
        """Whether the state has the gate of the alignment."""
        return self.fusion and self.dual_alignment

    def build(
        self,
        behaviors_shape: Shape,
        profile_shape: Shape | None = None,
        **more_shapes: Shape,
    ) -> None:
        """Makes norms, fusion and SwiGLU, builds the attention."""
        width, policy = behaviors_shape[-1], self.dtype_policy
        shape = (None, None, width)
        build_once(self.attention, shape)
        self.outer_norm = self._norm("outer_norm", shape)
        self.attention_norm = self._norm("attention_norm", shape)
        if self.fusion:
            self.fusion_norm = self._norm("fusion_norm", shape)
            if profile_shape is not None:
                self.profile_attention = TargetAttention(
                    self.attention.num_heads, dtype=policy, name="profile_attention"
                )
                self.profile_attention.build(shape, profile_shape)
        if self.keeps_gate:
            self.alignment = DualAlignment(dtype=policy, name="alignment")
            self.alignment.build(shape)
        if self.swiglu:
            hidden = int(self.ffn_factor * width)
            self.ffn = SwiGLU(hidden, use_bias=True, dtype=policy, name="ffn")
            self.ffn.build(shape)
        self.built = True

    def _norm(self, name, shape):
        norms = {"rms": RMSNorm, "layer": keras.layers.LayerNormalization}
        layer = norms[self.norm](epsilon=1e-6, dtype=self.dtype_policy, name=name)
        layer.build(shape)
        return layer

    def call(
        self,
        behaviors: Tensor,
        candidates: Tensor,
        mask: Tensor,
        profile: Tensor | None,
        plan: dict,
        relations: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Runs behaviors and candidates."""
        behaviors = ops.cast(behaviors, self.compute_dtype)
        candidates = ops.cast(candidates, self.compute_dtype)
        output, state = self.encode(behaviors, mask, profile, plan)
        return output, self.score(candidates, profile, state, relations)

    def encode(
        self,
        behaviors: Tensor,
        mask: Tensor,
        profile: Tensor | None,
        plan: dict,
        with_output: bool = True,
    ) -> tuple[Tensor | None, dict]:
        """Runs the behaviors.

        Args:
            behaviors: `[B, N, D]`.
            mask: `[B, N]` bool.
            profile: `[B, P, E]`, or None.
            plan: from the attention's keys layer.
            with_output: False where nobody reads the behaviors' rows.

        Returns:
            The rows `[B, N, D]`, or None; and the state: the attention's, and the
            `gate` `[B, D]` if there is a dual alignment.
        """
        rows_BND = self._first(behaviors)
        with_queries = with_output or self.keeps_gate
        attended, state = self.attention.encode(rows_BND, None, plan, with_queries)
        if not with_queries:
            return None, state
        rows_BND = self.attention_norm(rows_BND + attended)
        found_BND = self._ask_profile(rows_BND, profile)
        if self.keeps_gate:
            state["gate"] = self.alignment.gate(rows_BND, found_BND, mask)
        if not with_output:
            return None, state
        return self._finish(rows_BND, found_BND, state), state

    def score(
        self,
        candidates: Tensor,
        profile: Tensor | None,
        state: dict,
        relations: Tensor,
    ) -> Tensor:
        """Runs candidates `[B, C, D]` on the state of `encode`: `[B, C, D]`."""
        rows_BCD = self._first(candidates)
        attended = self.attention.score(rows_BCD, state, relations)
        rows_BCD = self.attention_norm(rows_BCD + attended)
        return self._finish(rows_BCD, self._ask_profile(rows_BCD, profile), state)

    def _first(self, rows):
        return rows if self.post_norm else self.outer_norm(rows)

    def _ask_profile(self, rows, profile):
        """c, of the rows' shape."""
        if not self.fusion or profile is None:
            return ops.zeros_like(rows)
        all_BP = ops.ones(ops.shape(profile)[:2], "bool")
        return self.profile_attention(rows, profile, all_BP)

    def _finish(self, rows, found, state):
        """Fusion and network."""
        if self.keeps_gate:
            found = self.alignment(rows, found, state["gate"])
        if self.fusion:
            rows = self.fusion_norm(rows + found)
        if self.swiglu:
            rows = by_rows(lambda inputs: inputs + self.ffn(inputs), rows)
        return self.outer_norm(rows) if self.post_norm else rows

    def get_config(self) -> dict[str, Any]:
        """Config with the attention's own."""
        return {
            **super().get_config(),
            "attention": keras.saving.serialize_keras_object(self.attention),
            "ffn_factor": self.ffn_factor,
            "swiglu": self.swiglu,
            "fusion": self.fusion,
            "dual_alignment": self.dual_alignment,
            "norm": self.norm,
            "post_norm": self.post_norm,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Inverse of `get_config`."""
        attention = keras.saving.deserialize_keras_object(config["attention"])
        return cls(**{**config, "attention": attention})
