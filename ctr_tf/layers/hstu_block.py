"""One block of HSTU: pointwise attention without softmax, gated, without a network.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `Q` queries, `J` keys, `R`
relations, `H` heads, `K` head width, `D` model width.
"""

import keras
from keras import ops

from ctr_tf.layers.attention import merge_heads, products, split_heads, weighted_sum
from ctr_tf.layers.checks import check_heads
from ctr_tf.layers.nested import build_once
from ctr_tf.layers.sequence_attention import SequenceAttention
from ctr_tf.layers.temporal_relations import append_key
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class HSTUBlock(SequenceAttention):
    """``x + W_O (U * LN(A V))``, the hierarchical sequential transduction unit.

    ``U, V, Q, K = SiLU(LN(x) W)`` and ``A = SiLU(Q K + bias) / n`` by head: no softmax,
    no scaling by the head's width, no feed-forward network. A hidden key's weight is
    exactly 0. n is the number of keys that the query sees (ours: the authors divide by
    the padded length, which the norm undoes, but which would let padding change the
    scores). The norms have no weights, as in the authors' code, so that a query which
    sees no key gets exactly 0 from the others.

    A whole block, to be used as a `SparseBlock`; of the maps only W_O has a bias.
    Behaviors see themselves and what was before; each candidate sees all behaviors and
    itself, as the last of its own sequence.

    Args:
        num_heads: H; divides D.
        encoding: of relative times and positions, this block's own.

    Call arguments:
        behaviors: `[B, N, D]`.
        candidates: `[B, C, D]`.
        user: not used.
        plan: from `FullKeys`.
        relations: `[B, R, 1, N]` from `FullKeys.relations_to`.

    Returns:
        The behaviors `[B, N, D]` and the candidates `[B, C, D]` after the block.

    Raises:
        UserError: if `num_heads` does not divide D.

    Reference:
        Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for
        Generative Recommendations (ICML 2024), equations 1 to 3.

    Example:
        >>> import numpy as np
        >>> from keras.random import normal
        >>> from ctr_tf.layers import FullKeys, HSTUBias, HSTUBlock
        >>> time = np.array([[0, 100, 160, 9_000, 9_030, 9_100]])  # left-padded
        >>> keys = FullKeys(HSTUBias.relations)
        >>> plan, state = keys(time, time > 0)
        >>> relations = keys.relations_to(state, np.array([9_200]))
        >>> behaviors, candidates = normal((1, 6, 8)), normal((1, 4, 8))
        >>> block = HSTUBlock(2, HSTUBias(max_distance=6))
        >>> rows, scored = block(behaviors, candidates, None, plan, relations)
        >>> tuple(rows.shape), tuple(scored.shape)
        ((1, 6, 8), (1, 4, 8))
    """

    def build(
        self, behaviors_shape: Shape, *other_shapes: Shape, **more_shapes: Shape
    ) -> None:
        """Makes norms and projections, builds the encoding."""
        width = behaviors_shape[-1]
        shape = (None, None, width)
        check_heads(self.num_heads, width)
        for name in ("norm", "attention_norm"):
            norm = keras.layers.LayerNormalization(
                epsilon=1e-6,
                center=False,
                scale=False,
                dtype=self.dtype_policy,
                name=name,
            )
            norm.build(shape)
            setattr(self, name, norm)
        for name in ("gate", "value", "query", "key"):
            self.add_dense(name, width, width, use_bias=False, activation="silu")
        self.add_dense("output_projection", width, width)
        build_once(self.encoding, shape)
        self.built = True

    def encode(
        self,
        behaviors: Tensor,
        user: Tensor | None,
        plan: dict,
        with_queries: bool = True,
    ) -> tuple[Tensor | None, dict]:
        """Runs the behaviors; see `SequenceAttention.encode`."""
        normed = self.norm(behaviors)
        key = self.encoding.rotate(self.key(normed), plan["position"])
        state = {"key": key, "value": self.value(normed)}
        if not with_queries:
            return None, state
        query = self.encoding.rotate(self.query(normed), plan["position"])
        attended = self._attend(query, state, plan["relations"])
        return behaviors + self._gated(normed, attended), state

    def score(self, candidates: Tensor, state: dict, relations: Tensor) -> Tensor:
        """Runs candidates `[B, C, D]` on the state of `encode`: `[B, C, D]`."""
        normed = self.norm(candidates)
        own = self.key(normed), self.value(normed)
        relations = append_key(relations)
        attended = self._attend(self.query(normed), state, relations, own)
        return candidates + self._gated(normed, attended)

    def _attend(self, query_BQD, state, relations_BRQJ, own=None):
        query_BHQK, key_BHJK, value_BHJK = (
            split_heads(x, self.num_heads)
            for x in (query_BQD, state["key"], state["value"])
        )
        logits = ops.cast(products(query_BHQK, key_BHJK, own), "float32")
        seen = ops.sum(1.0 - relations_BRQJ[:, -1:], axis=-1, keepdims=True)
        # SiLU of a bias that hides is 0, and so is its gradient.
        weight = ops.silu(logits + self.encoding(relations_BRQJ))
        weight = ops.cast(weight / ops.maximum(seen, 1.0), value_BHJK.dtype)
        return merge_heads(weighted_sum(weight, value_BHJK, own))

    def _gated(self, normed, attended):
        return self.output_projection(self.gate(normed) * self.attention_norm(attended))
