"""Full causal self-attention, the measure of EvoAttention.

Shape suffixes: `B` batch, `Q` queries, `J` keys, `R` relations.
"""

from typing import Any

import keras

from ctr_tf.layers.attention import attend, split_heads
from ctr_tf.layers.relative_encoding import RelativeEncoding
from ctr_tf.layers.sequence_attention import SequenceAttention
from ctr_tf.layers.temporal_relations import append_key
from ctr_tf.tensors import Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class FullAttention(SequenceAttention):
    """``softmax(Q K / sqrt(D/H) + bias) V`` of the mixed sequence over all behaviors.

    Interchangeable with `EvoAttention`: the same arguments, methods and isolation of
    the candidates. Keys and values are those of the behaviors, so the state grows with
    the history. In SparseCTR (ours) a candidate does not attend to itself, nor to the
    user.

    Args:
        num_heads: H; divides D.
        encoding: of relative times and positions, this block's own; `RelTemporal` by
            default.
        sees_itself: whether each candidate is one more key for itself.

    Call arguments:
        behaviors: `[B, N, D]`.
        candidates: `[B, C, D]`.
        user: not used.
        plan: from `FullKeys`.
        relations: `[B, R, 1, N]` from `FullKeys.relations_to`.

    Returns:
        Outputs of the behaviors `[B, N, D]` and of the candidates `[B, C, D]`.

    Raises:
        UserError: if `num_heads` does not divide D.

    Reference:
        SparseCTR, section 4.4.1, variant A1.

    Example:
        >>> import numpy as np
        >>> from keras.random import normal
        >>> from ctr_tf.layers import FullAttention, FullKeys
        >>> time = np.array([[0, 100, 160, 9_000, 9_030, 9_100]])  # left-padded
        >>> keys = FullKeys()
        >>> plan, state = keys(time, time > 0)
        >>> relations = keys.relations_to(state, np.array([9_200]))
        >>> behaviors, candidates = normal((1, 6, 8)), normal((1, 4, 8))
        >>> attention = FullAttention(num_heads=2)
        >>> rows, scored = attention(behaviors, candidates, None, plan, relations)
        >>> tuple(rows.shape), tuple(scored.shape)
        ((1, 6, 8), (1, 4, 8))
    """

    def __init__(
        self,
        num_heads: int,
        encoding: RelativeEncoding | None = None,
        sees_itself: bool = False,
        **kwargs: Any,
    ):
        super().__init__(num_heads, encoding, **kwargs)
        self.sees_itself = sees_itself

    def encode(
        self,
        behaviors: Tensor,
        user: Tensor | None,
        plan: dict,
        with_queries: bool = True,
    ) -> tuple[Tensor | None, dict]:
        """Runs the behaviors; see `SequenceAttention.encode`."""
        key = self.encoding.rotate(self.key(behaviors), plan["position"])
        state = {"key": key, "value": self.value(behaviors)}
        if not with_queries:
            return None, state
        query = self.encoding.rotate(self.query(behaviors), plan["position"])
        return self._attend(query, state, plan["relations"]), state

    def score(self, candidates: Tensor, state: dict, relations: Tensor) -> Tensor:
        """Runs candidates `[B, C, D]` on the state of `encode`: `[B, C, D]`."""
        query = self.query(candidates)
        if not self.sees_itself:
            return self._attend(query, state, relations)
        own = self.key(candidates), self.value(candidates)
        return self._attend(query, state, append_key(relations), own)

    def _attend(self, query, state, relations, own=None):
        query = split_heads(query, self.num_heads)
        bias = self.encoding(relations)
        output = attend(query, state["key"], state["value"], bias, own)
        return self.output_projection(output)

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {**super().get_config(), "sees_itself": self.sees_itself}
