"""Attention over a window and, of what is before it, every r-th behavior.

Shape suffixes: `B` batch, `M` behaviors with those that fill up the classes, `Z` = B r
classes, `G` = M / r behaviors a class, `W` window, `J` = G + W keys, `H` heads, `K`
head width, `D` model width.
"""

import math
from typing import Any

import keras
from keras import ops

from ctr_tf.layers.attention import (
    attend,
    merge_heads,
    products,
    softmax_or_zero,
    split_heads,
    weighted_sum,
    window_views,
)
from ctr_tf.layers.blocks import fill_blocks
from ctr_tf.layers.dilated_keys import (
    candidate_keys,
    from_classes,
    to_classes,
)
from ctr_tf.layers.relative_encoding import RelativeEncoding
from ctr_tf.layers.rows import by_rows
from ctr_tf.layers.sequence_attention import SequenceAttention
from ctr_tf.layers.temporal_relations import append_key
from ctr_tf.tensors import Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class DilatedAttention(SequenceAttention):
    """``softmax(Q K / sqrt(D/H) + bias) V`` over the keys of `DilatedKeys`.

    A behavior's keys at intervals of r are behaviors of its own class, N / r of them,
    so that a class is a short sequence of its own: one product of matrices each. The
    window crosses classes and is w shifted slices. One softmax is over both.

    Args:
        num_heads: H; divides D.
        window: w, that of `DilatedKeys`.
        dilation: r, that of `DilatedKeys`.
        encoding: of relative times and positions, this block's own; `RelTemporal` by
            default.
        sees_itself: whether each candidate is one more key for itself.

    Call arguments:
        behaviors: `[B, N, D]`.
        candidates: `[B, C, D]`.
        user: not used.
        plan: from `DilatedKeys`.
        relations: `[B, R, 1, J]` from `DilatedKeys.relations_to`.

    Returns:
        Outputs of the behaviors `[B, N, D]` and of the candidates `[B, C, D]`.

    Raises:
        UserError: if `num_heads` does not divide D.

    Reference:
        See `DilatedKeys`.

    Example:
        >>> import numpy as np
        >>> from keras.random import normal
        >>> from ctr_tf.layers import DilatedAttention, DilatedKeys
        >>> time = np.array([[0, 100, 160, 9_000, 9_030, 9_100]])  # left-padded
        >>> keys = DilatedKeys(window=2, dilation=3)
        >>> plan, state = keys(time, time > 0)
        >>> relations = keys.relations_to(state, np.array([9_200]))
        >>> behaviors, candidates = normal((1, 6, 8)), normal((1, 4, 8))
        >>> attention = DilatedAttention(num_heads=2, window=2, dilation=3)
        >>> rows, scored = attention(behaviors, candidates, None, plan, relations)
        >>> tuple(rows.shape), tuple(scored.shape)
        ((1, 6, 8), (1, 4, 8))
    """

    def __init__(
        self,
        num_heads: int,
        window: int,
        dilation: int,
        encoding: RelativeEncoding | None = None,
        sees_itself: bool = False,
        **kwargs: Any,
    ):
        super().__init__(num_heads, encoding, **kwargs)
        self.window = window
        self.dilation = dilation
        self.sees_itself = sees_itself

    def encode(
        self,
        behaviors: Tensor,
        user: Tensor | None,
        plan: dict,
        with_queries: bool = True,
    ) -> tuple[Tensor | None, dict]:
        """Runs the behaviors; see `SequenceAttention.encode`."""
        rotate, position = self.encoding.rotate, plan["position"]
        key_BMD, value_BMD = (
            fill_blocks(rows, self.dilation)
            for rows in (rotate(self.key(behaviors), position), self.value(behaviors))
        )
        state = {
            "key": candidate_keys(key_BMD, self.window, self.dilation),
            "value": candidate_keys(value_BMD, self.window, self.dilation),
        }
        if not with_queries:
            return None, state
        query_BMD = fill_blocks(rotate(self.query(behaviors), position), self.dilation)
        output_BMD = self._attend(query_BMD, key_BMD, value_BMD, plan["relations"])
        return self.output_projection(output_BMD[:, -behaviors.shape[1] :]), state

    def score(self, candidates: Tensor, state: dict, relations: Tensor) -> Tensor:
        """Runs candidates `[B, C, D]` on the state of `encode`: `[B, C, D]`."""
        query_BHCK = split_heads(by_rows(self.query, candidates), self.num_heads)
        own = None
        if self.sees_itself:
            own = by_rows(self.key, candidates), by_rows(self.value, candidates)
            relations = append_key(relations)
        bias = self.encoding(relations)
        output_BCD = attend(query_BHCK, state["key"], state["value"], bias, own)
        return by_rows(self.output_projection, output_BCD)

    def _attend(self, query_BMD, key_BMD, value_BMD, relations):
        """`[B, M, D]`: one softmax over class and window."""
        heads, dilation = self.num_heads, self.dilation
        query_BMD = query_BMD * (1 / math.sqrt(query_BMD.shape[2] // heads))
        query_ZHGK, key_ZHGK, value_ZHGK = (
            split_heads(to_classes(rows, dilation), heads)
            for rows in (query_BMD, key_BMD, value_BMD)
        )
        window_BMHW = self._window_products(query_BMD, key_BMD)
        window_ZHGW = ops.swapaxes(to_classes(window_BMHW, dilation), 1, 2)
        logits_ZHGJ = ops.concatenate(
            [products(query_ZHGK, key_ZHGK), window_ZHGW], axis=-1
        )
        weight_ZHGJ = softmax_or_zero(logits_ZHGJ, self.encoding(relations))
        weight_ZHGG, weight_ZHGW = ops.split(
            ops.cast(weight_ZHGJ, value_BMD.dtype), [key_ZHGK.shape[2]], axis=-1
        )
        output_ZGD = merge_heads(weighted_sum(weight_ZHGG, value_ZHGK))
        weight_BMHW = from_classes(ops.swapaxes(weight_ZHGW, 1, 2), dilation)
        window_BMD = self._window_sum(weight_BMHW, value_BMD)
        return from_classes(output_ZGD, dilation) + window_BMD

    def _window_products(self, query_BMD, key_BMD):
        _, length, width = query_BMD.shape
        shape = (-1, length, self.num_heads, width // self.num_heads)
        products_BMH = [
            ops.sum(ops.reshape(query_BMD * key, shape), axis=-1)
            for key in self._views(key_BMD)
        ]
        return ops.stack(products_BMH, axis=-1)

    def _window_sum(self, weight_BMHW, value_BMD):
        _, length, width = value_BMD.shape
        shape = (-1, length, self.num_heads, width // self.num_heads)
        output = 0
        for slot, value in enumerate(self._views(value_BMD)):
            weight_BMH1 = weight_BMHW[..., slot : slot + 1]
            output = output + weight_BMH1 * ops.reshape(value, shape)
        return ops.reshape(output, (-1, length, width))

    def _views(self, rows_BMD):
        """The rows that are w - 1 … 0 before each, `[B, M, D]` each."""
        views = window_views(ops.expand_dims(rows_BMD, 1), self.window)
        return [ops.squeeze(view, axis=1) for view in views]

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "window": self.window,
            "dilation": self.dilation,
            "sees_itself": self.sees_itself,
        }
