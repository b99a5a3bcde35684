"""Evolutionary sparse self-attention: three branches and their gated fusion.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `Q` queries, `P` chunks, `T`
transition keys, `W` window, `J` keys, `H` heads, `K` head width, `D` model width.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.layers.attention import attend, attend_window, split_heads
from ctr_tf.layers.blocks import last_rows
from ctr_tf.layers.evo_keys import BRANCHES, check_branches, split_keys
from ctr_tf.layers.relative_encoding import RelativeEncoding
from ctr_tf.layers.rows import by_rows
from ctr_tf.layers.sequence_attention import SequenceAttention
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class EvoAttention(SequenceAttention):
    """Attention of the mixed sequence over pooled chunks, transitions and a window.

    ``Q = X W_Q``; ``K = X_B W_K`` and ``V = X_B W_V`` of the behaviors (and of the
    user, as one more local key) only, so that candidates are isolated by structure.
    Each branch is ``softmax(Q K / sqrt(D/H) + bias) V`` over its own keys (`EvoKeys`),
    bias by `RelTemporal` or another encoding; chunks are the masked mean of their
    behaviors' keys (values) followed by an MLP D → D → D. With the branches' outputs
    o_1 … o_3, heads merged, ``a = softmax([o_1 o_2 o_3] W_gate)`` and the output is
    ``(sum_r a_r o_r) W_O``.
    A query that sees no key of a branch gets exactly 0 from it. Softmaxes are float32.

    Args:
        num_heads: H; divides D.
        window: w, that of `EvoKeys`.
        branches: those to use; the gate has a weight for each (variants A2 to A4).
        encoding: of relative times and positions, this block's own and the same for
            all branches; `RelTemporal` by default (with less: variants B1 to B4).

    Call arguments:
        behaviors: `[B, N, D]`.
        candidates: `[B, C, D]`.
        user: `[B, D]`, the compressed user profile u_c.
        plan: from `EvoKeys`.
        relations: branch → `[B, R, 1, J]` from `EvoKeys.relations_to`.

    Returns:
        Outputs of the behaviors `[B, N, D]` and of the candidates `[B, C, D]`.

    Raises:
        UserError: if `num_heads` does not divide D; unknown branch.

    Reference:
        SparseCTR, section 3.4, equations 3 to 11 and 16.

    Example:
        >>> import numpy as np
        >>> from keras.random import normal
        >>> from ctr_tf.layers import EvoAttention, EvoKeys, TimeChunking
        >>> time = np.array([[0, 100, 160, 9_000, 9_030, 9_100]])  # left-padded
        >>> keys = EvoKeys(num_chunks=2, transition=1, window=3)
        >>> plan, state = keys(time, time > 0, TimeChunking(2)(time, time > 0))
        >>> relations = keys.relations_to(state, np.array([9_200]))
        >>> behaviors, candidates = normal((1, 6, 8)), normal((1, 4, 8))
        >>> attention = EvoAttention(num_heads=2, window=3)
        >>> user = normal((1, 8))
        >>> rows, scored = attention(behaviors, candidates, user, plan, relations)
        >>> tuple(rows.shape), tuple(scored.shape)
        ((1, 6, 8), (1, 4, 8))
    """

    def __init__(
        self,
        num_heads: int,
        window: int,
        branches: tuple[str, ...] = BRANCHES,
        encoding: RelativeEncoding | None = None,
        **kwargs: Any,
    ):
        super().__init__(num_heads, encoding, **kwargs)
        self.window = window
        self.branches = check_branches(branches)

    def build(
        self, behaviors_shape: Shape, *other_shapes: Shape, **more_shapes: Shape
    ) -> None:
        """Makes the projections, pooling MLPs and gate, builds the encoding."""
        super().build(behaviors_shape)
        width = behaviors_shape[-1]
        if "global" in self.branches:
            for kind in ("key", "value"):
                self.add_dense(f"{kind}_hidden", width, width, activation="relu")
                self.add_dense(f"{kind}_pooled", width, width)
        count = len(self.branches)
        if count > 1:
            self.add_dense("gate", count * width, count, use_bias=False)

    def encode(
        self,
        behaviors: Tensor,
        user: Tensor,
        plan: dict,
        with_queries: bool = True,
    ) -> tuple[Tensor | None, dict]:
        """Runs the behaviors; see `SequenceAttention.encode`.

        The state: `"<branch>_key"` and `"<branch>_value"` `[B, J, D]` of each branch,
        the user last among local.
        """
        key_BND, value_BND = self.key(behaviors), self.value(behaviors)
        position, rotate = plan["position"], self.encoding.rotate
        state = {}
        if "global" in self.branches:
            pool_BPN = ops.cast(plan["pool"], key_BND.dtype)
            key_BPD = ops.matmul(pool_BPN, key_BND)
            value_BPD = ops.matmul(pool_BPN, value_BND)
            key_BPD = self.key_pooled(self.key_hidden(key_BPD))
            state["global_key"] = rotate(key_BPD, position["global"])
            state["global_value"] = self.value_pooled(self.value_hidden(value_BPD))
        key_BND = rotate(key_BND, position["behaviors"])
        if "transition" in self.branches:
            state["transition_key"] = take_rows(key_BND, plan["index"])
            state["transition_value"] = take_rows(value_BND, plan["index"])
        if "local" in self.branches:
            user_key_B1D = self.key(user[:, None])
            user_value_B1D = self.value(user[:, None])
            state["local_key"] = self._last(key_BND, user_key_B1D)
            state["local_value"] = self._last(value_BND, user_value_B1D)
        if not with_queries:
            return None, state
        query_BND = rotate(self.query(behaviors), position["behaviors"])
        query_BHNK = split_heads(query_BND, self.num_heads)
        outputs = []
        for branch in self.branches:
            bias = self.encoding(plan["relations"][branch])
            if branch == "local":
                output = attend_window(
                    query_BHNK,
                    key_BND,
                    value_BND,
                    rotate(user_key_B1D, position["behaviors"]),
                    user_value_B1D,
                    self.window,
                    bias,
                )
            else:
                key, value = state[f"{branch}_key"], state[f"{branch}_value"]
                output = attend(query_BHNK, key, value, bias)
            outputs.append(output)
        return self._fuse(ops.concatenate(outputs, axis=-1)), state

    def score(self, candidates: Tensor, state: dict, relations: dict) -> Tensor:
        """Runs candidates `[B, C, D]` on the state of `encode`: `[B, C, D]`."""
        query_BHCK = split_heads(by_rows(self.query, candidates), self.num_heads)
        parts = [relations[branch] for branch in self.branches]
        bias = self.encoding(ops.concatenate(parts, axis=-1))  # of all keys at once
        biases = split_keys(bias, [part.shape[-1] for part in parts])
        outputs = [
            attend(query_BHCK, state[f"{branch}_key"], state[f"{branch}_value"], bias)
            for branch, bias in zip(self.branches, biases, strict=True)
        ]
        return by_rows(self._fuse, ops.concatenate(outputs, axis=-1))

    def _last(self, inputs_BND, user_B1D):
        """The last w rows, zeros where there are fewer, and the user."""
        return ops.concatenate([last_rows(inputs_BND, self.window), user_B1D], axis=1)

    def _fuse(self, outputs):
        """`[…, branches D]` → `[…, D]`."""
        count = len(self.branches)
        if count == 1:
            return self.output_projection(outputs)
        gate = ops.cast(self.gate(outputs), "float32")
        weight = ops.cast(ops.softmax(gate, axis=-1), outputs.dtype)
        weights = ops.split(weight, count, axis=-1)
        outputs = ops.split(outputs, count, axis=-1)
        fused = weights[0] * outputs[0]
        for branch in range(1, count):
            fused = fused + weights[branch] * outputs[branch]
        return self.output_projection(fused)

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "window": self.window,
            "branches": list(self.branches),
        }


def take_rows(inputs_BND: Tensor, index_BT: Tensor) -> Tensor:
    """Rows of each sample: `[B, N, D]`, `[B, T]` → `[B, T, D]`."""
    _, length, width = inputs_BND.shape
    batch = ops.shape(index_BT)[0]
    offset_B1 = ops.arange(batch, dtype=index_BT.dtype)[:, None] * length
    return ops.take(ops.reshape(inputs_BND, (-1, width)), index_BT + offset_B1, axis=0)
