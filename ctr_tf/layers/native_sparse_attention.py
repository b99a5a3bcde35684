"""Native sparse attention: compressed blocks, selected blocks and a window, gated.

Shape suffixes: `B` batch, `N` behaviors, `Q` queries, `P` blocks, `L` behaviors a
block, `S` selected blocks, `F` = B Q queries as samples, `J` = S L selected keys, `H`
heads, `K` head width, `D` model width.
"""

import math
from typing import Any

import keras
from keras import ops

from ctr_tf.layers.attention import (
    attend,
    attend_slots,
    merge_heads,
    products,
    softmax_or_zero,
    split_heads,
    weighted_sum,
    window_views,
)
from ctr_tf.layers.blocks import last_rows, to_blocks
from ctr_tf.layers.checks import check_positive
from ctr_tf.layers.relative_encoding import RelativeEncoding
from ctr_tf.layers.rows import by_rows
from ctr_tf.layers.sequence_attention import SequenceAttention
from ctr_tf.layers.temporal_relations import temporal_relations
from ctr_tf.layers.top_behaviors import take_behaviors, top_behaviors
from ctr_tf.tensors import Shape, Tensor

BRANCHES = ("compressed", "selected", "local")


@keras.saving.register_keras_serializable(package="ctr_tf")
class NativeSparseAttention(SequenceAttention):
    """``(sum_r sigmoid(x w_r) softmax(Q K_r / sqrt(D/H) + bias) V_r) W_O``.

    Three branches r with keys and values of their own, see `NativeSparseKeys`:

    * compressed: one key (value) of each block of l behaviors, the MLP ``(l D) → D →
      D`` of its behaviors' keys (values) side by side, those of padding 0. Its first
      map has weights for every place in the block, which makes the paper's embedding of
      that place no more than its bias.
    * selected: the behaviors of k blocks: the block that the query is in, and those of
      the largest weight in the compressed branch, summed over the heads, of equal ones
      the newer. Each query selects for itself; the selection has no gradient.
    * local: the last w behaviors.

    x is the query's row. A query that sees no key of a branch gets exactly 0 from it.

    Args:
        num_heads: H; divides D.
        block_length: l, that of `NativeSparseKeys`.
        top_blocks: k.
        window: w, that of `NativeSparseKeys`.
        encoding: of relative times and positions, this block's own and the same for
            all branches; `RelTemporal` by default.
        zone: of local time, for relations of what is selected; see
            `ctr_tf.time.local_time`.

    Call arguments:
        behaviors: `[B, N, D]`.
        candidates: `[B, C, D]`.
        user: not used.
        plan: from `NativeSparseKeys`.
        relations: from `NativeSparseKeys.relations_to`.

    Returns:
        Outputs of the behaviors `[B, N, D]` and of the candidates `[B, C, D]`.

    Raises:
        UserError: if `num_heads` does not divide D; if `top_blocks` is not positive.

    Reference:
        Yuan et al., Native Sparse Attention (ACL 2025), section 3.3, blocks that do not
        overlap; an alternative of SparseCTR, section 4.4.1.

    Example:
        >>> import numpy as np
        >>> from keras.random import normal
        >>> from ctr_tf.layers import NativeSparseAttention, NativeSparseKeys
        >>> time = np.array([[0, 100, 160, 9_000, 9_030, 9_100]])  # left-padded
        >>> keys = NativeSparseKeys(block_length=2, window=2)
        >>> plan, state = keys(time, time > 0)
        >>> relations = keys.relations_to(state, np.array([9_200]))
        >>> behaviors, candidates = normal((1, 6, 8)), normal((1, 4, 8))
        >>> attention = NativeSparseAttention(2, block_length=2, top_blocks=1, window=2)
        >>> rows, scored = attention(behaviors, candidates, None, plan, relations)
        >>> tuple(rows.shape), tuple(scored.shape)
        ((1, 6, 8), (1, 4, 8))
    """

    projections = (
        "query",
        *(f"{branch}_{kind}" for branch in BRANCHES for kind in ("key", "value")),
        "output_projection",
    )

    def __init__(
        self,
        num_heads: int,
        block_length: int,
        top_blocks: int,
        window: int,
        encoding: RelativeEncoding | None = None,
        zone: int | str = 0,
        **kwargs: Any,
    ):
        super().__init__(num_heads, encoding, **kwargs)
        check_positive(top_blocks=top_blocks)
        self.block_length = block_length
        self.top_blocks = top_blocks
        self.window = window
        self.zone = zone

    def build(
        self, behaviors_shape: Shape, *other_shapes: Shape, **more_shapes: Shape
    ) -> None:
        """Makes the projections, compressing MLPs and gate, builds the encoding."""
        width = behaviors_shape[-1]
        super().build(behaviors_shape)
        for kind in ("key", "value"):
            block = self.block_length * width
            self.add_dense(f"{kind}_hidden", block, width, activation="relu")
            self.add_dense(f"{kind}_compressed", width, width)
        self.add_dense("gate", width, len(BRANCHES))

    def encode(
        self,
        behaviors: Tensor,
        user: Tensor | None,
        plan: dict,
        with_queries: bool = True,
    ) -> tuple[Tensor | None, dict]:
        """Runs the behaviors; see `SequenceAttention.encode`."""
        rotate, position = self.encoding.rotate, plan["position"]
        mask_BN1 = ops.cast(plan["mask"], behaviors.dtype)[..., None]
        key_BPD = self._compress("key", behaviors, mask_BN1)
        local_key_BND = rotate(self.local_key(behaviors), position["behaviors"])
        local_value_BND = self.local_value(behaviors)
        state = {
            "compressed_key": rotate(key_BPD, position["compressed"]),
            "compressed_value": self._compress("value", behaviors, mask_BN1),
            "selected_key": rotate(self.selected_key(behaviors), position["behaviors"]),
            "selected_value": self.selected_value(behaviors),
            "local_key": last_rows(local_key_BND, self.window),
            "local_value": last_rows(local_value_BND, self.window),
        }
        if not with_queries:
            return None, state
        query_BND = rotate(self.query(behaviors), position["behaviors"])
        local_BND = attend_slots(
            split_heads(query_BND, self.num_heads),
            window_views(split_heads(local_key_BND, self.num_heads), self.window),
            window_views(split_heads(local_value_BND, self.num_heads), self.window),
            self.encoding(plan["relations"]["local"]),
        )
        output = self._fuse(behaviors, query_BND, local_BND, state, plan["relations"])
        return output, state

    def score(self, candidates: Tensor, state: dict, relations: dict) -> Tensor:
        """Runs candidates `[B, C, D]` on the state of `encode`: `[B, C, D]`."""
        query_BCD = by_rows(self.query, candidates)
        local_BCD = attend(
            split_heads(query_BCD, self.num_heads),
            state["local_key"],
            state["local_value"],
            self.encoding(relations["local"]),
        )
        return self._fuse(candidates, query_BCD, local_BCD, state, relations)

    def _compress(self, kind: str, behaviors: Tensor, mask_BN1: Tensor) -> Tensor:
        """`[B, P, D]`."""
        rows_BND = getattr(self, f"compressed_{kind}")(behaviors) * mask_BN1
        blocks_BPLD = to_blocks(rows_BND, self.block_length)
        count, width = blocks_BPLD.shape[1], behaviors.shape[2]
        blocks = ops.reshape(blocks_BPLD, (-1, count, self.block_length * width))
        hidden = getattr(self, f"{kind}_hidden")(blocks)
        return getattr(self, f"{kind}_compressed")(hidden)

    def _fuse(self, rows_BQD, query_BQD, local_BQD, state, relations):
        query_BHQK = split_heads(query_BQD, self.num_heads)
        compressed_BQD, weight_BQP = self._attend_compressed(
            query_BHQK, state, relations["compressed"]
        )
        index_BQS, found_BQS = self._select(weight_BQP, relations)
        selected_BQD = self._attend_selected(
            query_BQD, state, index_BQS, found_BQS, relations
        )
        gate = ops.sigmoid(ops.cast(by_rows(self.gate, rows_BQD), "float32"))
        gates = ops.split(ops.cast(gate, query_BQD.dtype), len(BRANCHES), axis=-1)
        fused_BQD = gates[0] * compressed_BQD + gates[1] * selected_BQD
        fused_BQD = fused_BQD + gates[2] * local_BQD
        return by_rows(self.output_projection, fused_BQD)

    def _attend_compressed(self, query_BHQK, state, relations_BRQP):
        """Output `[B, Q, D]`, and the heads' weights in all, `[B, Q, P]` float32."""
        key, value = (
            split_heads(state[f"compressed_{kind}"], self.num_heads)
            for kind in ("key", "value")
        )
        scaled_BHQK = query_BHQK * (1 / math.sqrt(query_BHQK.shape[3]))
        logits_BHQP = products(scaled_BHQK, key)
        weight_BHQP = softmax_or_zero(logits_BHQP, self.encoding(relations_BRQP))
        output = weighted_sum(ops.cast(weight_BHQP, value.dtype), value)
        return merge_heads(output), ops.sum(weight_BHQP, axis=1)

    def _select(self, weight_BQP, relations):
        """Index of the selected blocks `[B, Q, S]`, and which of them exist."""
        count = weight_BQP.shape[2]
        # A candidate, at position 0, selects as if it were in the newest block.
        position_Q1 = ops.minimum(relations["position"], -1)[:, None]
        own_QP = position_Q1 // self.block_length == ops.arange(-count, 0)
        visible_BQP = relations["compressed"][:, -1] == 0
        score = ops.where(own_QP, self.num_heads + 1.0, weight_BQP)
        return top_behaviors(score, visible_BQP | own_QP, self.top_blocks)

    def _attend_selected(self, query_BQD, state, index_BQS, found_BQS, relations):
        """Attention of each query to its own keys: queries as samples of one row."""
        length, width = self.block_length, query_BQD.shape[2]
        count, selected = relations["block_time"].shape[1], index_BQS.shape[2]
        keys = selected * length

        def take(rows_BND):
            blocks = to_blocks(rows_BND, length)
            blocks = ops.reshape(blocks, (-1, count, length * width))
            return ops.reshape(take_behaviors(blocks, index_BQS), (-1, keys, width))

        offset_L = ops.arange(length, dtype="int32") - count * length
        position_BQSL = index_BQS[..., None] * length + offset_L
        distance_BQSL = relations["position"][:, None, None] - position_BQSL
        mask_BQSL = take_behaviors(relations["block_mask"], index_BQS)
        visible_BQSL = mask_BQSL & found_BQS[..., None] & (distance_BQSL >= 0)
        time_BQSL = take_behaviors(relations["block_time"], index_BQS)
        query_time_BQ1 = relations["time"] + ops.zeros_like(time_BQSL[:, :, 0, :1])
        relations_FR1J = temporal_relations(
            ops.reshape(query_time_BQ1, (-1, 1, 1)),
            ops.reshape(time_BQSL, (-1, 1, keys)),
            ops.reshape(visible_BQSL, (-1, 1, keys)),
            self.encoding.relations,
            self.zone,
            ops.reshape(distance_BQSL, (-1, 1, keys)),
        )
        output_F1D = attend(
            split_heads(ops.reshape(query_BQD, (-1, 1, width)), self.num_heads),
            take(state["selected_key"]),
            take(state["selected_value"]),
            self.encoding(relations_FR1J),
        )
        return ops.reshape(output_F1D, ops.shape(query_BQD))

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "block_length": self.block_length,
            "top_blocks": self.top_blocks,
            "window": self.window,
            "zone": self.zone,
        }
