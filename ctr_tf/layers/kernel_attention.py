"""Linformer's attention: over a few learned mixtures of all behaviors, causally.

Shape suffixes: `B` batch, `N` behaviors, `T` tiles, `I` behaviors a tile, `R` rank,
`H` heads, `K` head width, `D` model width.
"""

import math
from typing import Any, Self

import keras
from keras import ops

from ctr_tf.layers.attention import attend, softmax_or_zero, split_heads
from ctr_tf.layers.blocks import to_blocks
from ctr_tf.layers.checks import check_positive
from ctr_tf.layers.relative_encoding import RelativeEncoding
from ctr_tf.layers.rows import by_rows
from ctr_tf.layers.sequence_attention import SequenceAttention
from ctr_tf.tensors import Shape, Tensor

_TILE = 32


@keras.saving.register_keras_serializable(package="ctr_tf")
class KernelAttention(SequenceAttention):
    """``softmax(Q (E K) / sqrt(D/H)) (F V) W_O``, with E and F of shape R x N.

    A candidate sees the R rows of ``E K`` and ``F V``, so that the state does not grow
    with the history. Behavior i sees them as they were after it (ours, as Linformer is
    not causal): ``K_i = sum over j <= i of E[:, j] k_j``, the same for values. Column j
    belongs to a behavior's place counted from the newest, so that padding moves none;
    padding is 0. Heads share E and F.

    The rows K_i are never made. By tiles of behaviors, with K_t what was before the
    tile, ``q K_i = q K_t + tril(q k) E_t`` and ``p V_i = p V_t + tril(p F_t) v``.

    A mixture of behaviors has no time and no position: there is no relative encoding.

    Args:
        num_heads: H; divides D.
        rank: R.
        length: columns of E and F, the longest history; what is older does not count.

    Call arguments:
        behaviors: `[B, N, D]`.
        candidates: `[B, C, D]`.
        user: not used.
        plan: from `KernelKeys`.
        relations: not used.

    Returns:
        Outputs of the behaviors `[B, N, D]` and of the candidates `[B, C, D]`.

    Raises:
        UserError: if `num_heads` does not divide D; for a size that is not positive.

    Reference:
        Wang et al., Linformer (2020), section 4, E and F for all heads; an alternative
        of SparseCTR, section 4.4.1.

    Example:
        >>> import numpy as np
        >>> from keras.random import normal
        >>> from ctr_tf.layers import KernelAttention, KernelKeys
        >>> time = np.array([[0, 100, 160, 9_000, 9_030, 9_100]])  # left-padded
        >>> keys = KernelKeys()
        >>> plan, state = keys(time, time > 0)
        >>> relations = keys.relations_to(state, np.array([9_200]))
        >>> behaviors, candidates = normal((1, 6, 8)), normal((1, 4, 8))
        >>> attention = KernelAttention(num_heads=2, rank=3, length=6)
        >>> rows, scored = attention(behaviors, candidates, None, plan, relations)
        >>> tuple(rows.shape), tuple(scored.shape)
        ((1, 6, 8), (1, 4, 8))
    """

    def __init__(self, num_heads: int, rank: int, length: int, **kwargs: Any):
        super().__init__(num_heads, RelativeEncoding(name="encoding"), **kwargs)
        check_positive(rank=rank, length=length)
        self.rank = rank
        self.length = length

    def build(
        self, behaviors_shape: Shape, *other_shapes: Shape, **more_shapes: Shape
    ) -> None:
        """Makes the projections, and E and F."""
        super().build(behaviors_shape)
        for name in ("key_mixture", "value_mixture"):
            weight = self.add_weight(
                name=name,
                shape=(self.rank, self.length),
                initializer=keras.initializers.RandomNormal(
                    stddev=1 / math.sqrt(self.length)
                ),
            )
            setattr(self, name, weight)

    def encode(
        self,
        behaviors: Tensor,
        user: Tensor | None,
        plan: dict,
        with_queries: bool = True,
    ) -> tuple[Tensor | None, dict]:
        """Runs the behaviors; see `SequenceAttention.encode`."""
        length = behaviors.shape[1]
        mask_BN1 = ops.cast(plan["mask"], behaviors.dtype)[..., None]
        key_BTID = _tiles(self.key(behaviors) * mask_BN1)
        value_BTID = _tiles(self.value(behaviors) * mask_BN1)
        key_mixture_TRI = self._mixture(self.key_mixture, length)
        value_mixture_TRI = self._mixture(self.value_mixture, length)
        keys_BTRD = _mixed(key_mixture_TRI, key_BTID)
        values_BTRD = _mixed(value_mixture_TRI, value_BTID)
        state = {"key": keys_BTRD[:, -1], "value": values_BTRD[:, -1]}
        if not with_queries:
            return None, state
        query_BTHIK, key_BTHIK, value_BTHIK, keys_BTHRK, values_BTHRK = (
            self._split(rows)
            for rows in (
                _tiles(self.query(behaviors)),
                key_BTID,
                value_BTID,
                _before(keys_BTRD),
                _before(values_BTRD),
            )
        )
        query_BTHIK = query_BTHIK * (1 / math.sqrt(query_BTHIK.shape[-1]))
        causal_II = ops.tril(ops.ones([key_BTID.shape[2]] * 2, behaviors.dtype))
        pairs_BTHII = ops.matmul(query_BTHIK, _swap(key_BTHIK)) * causal_II
        logits_BTHIR = ops.matmul(query_BTHIK, _swap(keys_BTHRK)) + ops.matmul(
            pairs_BTHII, _swap(key_mixture_TRI)[:, None]
        )
        weight_BTHIR = ops.cast(softmax_or_zero(logits_BTHIR), behaviors.dtype)
        pairs_BTHII = ops.matmul(weight_BTHIR, value_mixture_TRI[:, None]) * causal_II
        output_BTHIK = ops.matmul(weight_BTHIR, values_BTHRK) + ops.matmul(
            pairs_BTHII, value_BTHIK
        )
        output_BND = self._merge(output_BTHIK)[:, -length:]
        return self.output_projection(output_BND), state

    def score(self, candidates: Tensor, state: dict, relations: dict) -> Tensor:
        """Runs candidates `[B, C, D]` on the state of `encode`: `[B, C, D]`."""
        query_BHCK = split_heads(by_rows(self.query, candidates), self.num_heads)
        output_BCD = attend(query_BHCK, state["key"], state["value"], 0.0)
        return by_rows(self.output_projection, output_BCD)

    def _mixture(self, weight: Tensor, length: int) -> Tensor:
        """Columns of E or F for the latest `length` behaviors, by tiles."""
        columns_RN = ops.cast(weight, self.compute_dtype)[:, -length:]
        missing = length - columns_RN.shape[1]
        if missing:
            columns_RN = ops.pad(columns_RN, ((0, 0), (missing, 0)))
        return ops.swapaxes(_tiles(columns_RN), 0, 1)

    def _split(self, rows_BTID):
        """`[B, T, H, I, K]`."""
        _, tiles, length, width = rows_BTID.shape
        shape = (-1, tiles, length, self.num_heads, width // self.num_heads)
        return ops.swapaxes(ops.reshape(rows_BTID, shape), 2, 3)

    def _merge(self, rows_BTHIK):
        """`[B, T I, D]`."""
        _, tiles, heads, length, width = rows_BTHIK.shape
        rows_BTIHK = ops.swapaxes(rows_BTHIK, 2, 3)
        return ops.reshape(rows_BTIHK, (-1, tiles * length, heads * width))

    def get_config(self) -> dict[str, Any]:
        """Config."""
        config = super().get_config()
        del config["encoding"]
        return {**config, "rank": self.rank, "length": self.length}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Inverse of `get_config`."""
        return cls(**config)


def _tiles(inputs):
    """`[B, N, …]` → `[B, T, I, …]`; a short history is one tile."""
    return to_blocks(inputs, min(inputs.shape[1], _TILE))


def _mixed(mixture_TRI, rows_BTID):
    """`[B, T, R, D]`: mixtures of the behaviors up to the end of each tile."""
    mixed_BTRD = ops.matmul(mixture_TRI, rows_BTID)
    total_BTRD = ops.cumsum(ops.cast(mixed_BTRD, "float32"), axis=1)
    return ops.cast(total_BTRD, rows_BTID.dtype)


def _before(rows_BTRD):
    """Each tile's predecessor; zeros before the first."""
    return ops.pad(rows_BTRD, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]


def _swap(inputs):
    return ops.swapaxes(inputs, -1, -2)
