"""Attention by collision: behaviors that fall into the candidate's buckets.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `E` width of what is hashed,
`D` width of what is summed, `G` groups of bits, `K` buckets of all groups.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.layers.sim_hash import SimHash
from ctr_tf.tensors import Shape, Tensor

_EPSILON = 1e-12


@keras.saving.register_keras_serializable(package="ctr_tf")
class HashCollisions(keras.layers.Layer):
    """``mean over g of l2(sum over j of [code_g(k_j) = code_g(q)] v_j)``.

    In the paper keys k and values v are the same vectors. Here the keys may be the part
    of a behavior that candidates have, too: what is hashed must be comparable.

    A behavior collides with a query in group g with probability (1 - angle / pi)^tau,
    so the mean over groups approaches an attention with these weights. Each behavior
    lies in one bucket of each group whatever the query, so `encode` sums up every
    bucket once a user, G 2^tau vectors for any number of behaviors, and `score` looks
    up the G buckets of a query. Both are products with 0s and 1s: nothing is gathered.

    Sums and norms are float32 under every policy (on a GPU, TensorFlow rounds what is
    summed up to TF32 unless it is told not to). An empty bucket is exactly 0. The
    gradient reaches the values only, for the hash has none.

    Args:
        num_groups: G.
        num_bits: tau, bits of a group.
        seed: of the hash.

    Call arguments:
        query: `[B, C, E]`.
        keys: `[B, N, E]`.
        values: `[B, N, D]`.
        mask: `[B, N]` bool.

    Returns:
        `[B, C, D]`.

    Raises:
        UserError: if `num_groups` or `num_bits` is out of range.

    Reference:
        SDIM (Cao et al. 2022), "Sampling is all you need on modeling long-term user
        behaviors for CTR prediction".

    Example:
        >>> import numpy as np
        >>> from keras.random import normal
        >>> from ctr_tf.layers import HashCollisions
        >>> keys, values = normal((1, 3, 8)), normal((1, 3, 4))
        >>> layer = HashCollisions(num_groups=4, num_bits=2)
        >>> tuple(layer(normal((1, 5, 8)), keys, values, np.ones((1, 3), bool)).shape)
        (1, 5, 4)
    """

    def __init__(
        self, num_groups: int = 16, num_bits: int = 3, seed: int = 0, **kwargs: Any
    ):
        super().__init__(autocast=False, **kwargs)
        self.num_groups = num_groups
        self.num_bits = num_bits
        self.seed = seed
        self.hash = SimHash(
            num_bits, num_groups, seed, dtype=self.dtype_policy, name="hash"
        )

    @property
    def num_buckets(self) -> int:
        """K, buckets of all groups."""
        return self.num_groups * 2**self.num_bits

    def build(
        self, query_shape: Shape, *other_shapes: Shape, **more_shapes: Shape
    ) -> None:
        """Makes the hash."""
        self.hash.build(query_shape)
        self.built = True

    def call(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Both halves, one after the other."""
        return self.score(query, self.encode(keys, values, mask))

    def encode(self, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Hashes the behaviors: normalized bucket sums `[B, K, D]`, group by group."""
        one_hot_BKN = self._one_hot(keys, mask)
        sum_BKD = ops.matmul(one_hot_BKN, ops.cast(values, "float32"))
        square_BK1 = ops.sum(sum_BKD**2, axis=-1, keepdims=True)
        normalized = sum_BKD * ops.rsqrt(ops.maximum(square_BK1, _EPSILON))
        return ops.cast(normalized, values.dtype)

    def score(self, query: Tensor, buckets: Tensor) -> Tensor:
        """Looks up queries `[B, C, E]` in the buckets of `encode`: `[B, C, D]`."""
        one_hot_BCK = ops.transpose(self._one_hot(query), (0, 2, 1))
        share_BCK = ops.cast(one_hot_BCK / self.num_groups, buckets.dtype)
        return ops.matmul(share_BCK, buckets)

    def _one_hot(self, vectors, mask=None):
        """`[B, ., E]` → `[B, K, .]` float32: 1 where a vector lies in a bucket."""
        code_BGN = ops.transpose(self.hash(vectors), (0, 2, 1))
        if mask is not None:
            code_BGN = ops.where(mask[:, None, :], code_BGN, -1)
        bucket = ops.arange(2**self.num_bits, dtype="int64")
        inside = code_BGN[:, :, None, :] == bucket[:, None]
        shape = (-1, self.num_buckets, ops.shape(vectors)[1])
        return ops.cast(ops.reshape(inside, shape), "float32")

    def compute_output_spec(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor
    ) -> keras.KerasTensor:
        """One vector a query."""
        shape = (*query.shape[:-1], values.shape[-1])
        return keras.KerasTensor(shape, dtype=values.dtype)

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "num_groups": self.num_groups,
            "num_bits": self.num_bits,
            "seed": self.seed,
        }
