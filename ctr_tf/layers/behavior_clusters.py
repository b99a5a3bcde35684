"""A long history as clusters of similar behaviors.

Shape suffixes: `B` batch, `N` behaviors, `E` width of what is compared, `D` width of
what is averaged, `M` clusters.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.layers.checks import check_positive
from ctr_tf.layers.evo_attention import take_rows
from ctr_tf.tensors import Shape, Tensor, check_int64, is_whole

_POWER_STEPS = 2
_NOISE = 1e-4  # of a float32 mean over thousands of equal numbers, relative


@keras.saving.register_keras_serializable(package="ctr_tf")
class BehaviorClusters(keras.layers.Layer):
    """Splits the history in two, and the parts again, until they are small.

    A cluster of more than `cluster_size` behaviors is cut through its mean by the plane
    across its principal direction, where 2-means would cut it, too; two steps of the
    power method from a fixed random vector find the direction. Equal behaviors always
    stay together. After ``L = log2(M)`` rounds a cluster may still be larger.

    The paper clusters offline, with k-means by item embeddings in groups of equally
    engaging behaviors, again and again until no cluster exceeds its limit. Here it is
    part of the graph: no random start, a fixed number of rounds over all clusters of
    all users at once, O(N) each. So the same history gives the same clusters in
    training and serving, whatever its padding. Groups of engagement are left out, for
    few data sets know any (ours).

    A cluster is represented by the mean of its members (ours; the paper takes
    categorical features from the member nearest to the center). The gradient reaches
    the members' values, not what they are compared by. Everything but the means'
    result is float32 under every policy.

    Args:
        num_clusters: M, a power of two: the size of the output. Clusters without
            members have size 0.
        cluster_size: members that a cluster may have without being split.
        seed: of the vector that the power method starts from.

    Call arguments:
        keys: `[B, N, E]` float, what behaviors are compared by.
        values: `[B, N, D]` float.
        time: `[B, N]` int64.
        mask: `[B, N]` bool.

    Returns:
        `{"cluster": [B, M, D], "cluster_time": [B, M] int64, "cluster_size": [B, M]
        float32}`: means of values and times, and the numbers of members.

    Raises:
        UserError: if `num_clusters` is no power of two or `cluster_size` not positive.

    Reference:
        TWIN V2 (Si et al. 2024), section on hierarchical clustering; the split:
        Principal Direction Divisive Partitioning (Boley 1998).

    Example:
        >>> import numpy as np
        >>> from ctr_tf.layers import BehaviorClusters
        >>> keys = np.array([[[1.0], [5.0], [1.0], [5.0]]], "float32")
        >>> time, mask = np.array([[10, 20, 30, 40]]), np.ones((1, 4), bool)
        >>> layer = BehaviorClusters(num_clusters=2, cluster_size=2)
        >>> state = layer(keys, keys, time, mask)
        >>> sorted(np.asarray(state["cluster"]).ravel().tolist())
        [1.0, 5.0]
        >>> np.asarray(state["cluster_size"]).tolist()
        [[2.0, 2.0]]
    """

    def __init__(
        self, num_clusters: int, cluster_size: int, seed: int = 0, **kwargs: Any
    ):
        super().__init__(autocast=False, **kwargs)
        if num_clusters < 1 or num_clusters & (num_clusters - 1):
            raise UserError(
                "`num_clusters` must be a power of two. "
                f"Received: num_clusters={num_clusters}"
            )
        check_positive(cluster_size=cluster_size)
        self.num_clusters = num_clusters
        self.cluster_size = cluster_size
        self.seed = seed

    def build(
        self, keys_shape: Shape, *other_shapes: Shape, **more_shapes: Shape
    ) -> None:
        """Makes the vector that the power method starts from."""
        self.start = self.add_weight(
            name="start",
            shape=(keys_shape[-1],),
            initializer=keras.initializers.RandomNormal(0.0, 1.0, seed=self.seed),
            trainable=False,
            dtype="float32",
            autocast=False,
        )
        self.built = True

    def call(
        self, keys: Tensor, values: Tensor, time: Tensor, mask: Tensor
    ) -> dict[str, Tensor]:
        """Clusters every user's history by itself."""
        check_int64()
        index_BN = self.assign(keys, mask)
        count = self.num_clusters
        real_BN1 = mask[..., None]
        known = ops.where(real_BN1, ops.cast(values, "float32"), 0.0)
        known = ops.concatenate([known, ops.cast(real_BN1, "float32")], axis=-1)
        total_BMD, size_BM = _totals(known, index_BN, count)
        seconds_BN1 = ops.where(real_BN1, time[..., None], 0)
        seconds_BM = _sum_of_members(seconds_BN1, index_BN, count)[..., 0]
        size = ops.maximum(size_BM, 1.0)
        return {
            "cluster": ops.cast(total_BMD / size[..., None], values.dtype),
            "cluster_time": seconds_BM // ops.cast(size, "int64"),
            "cluster_size": size_BM,
        }

    def assign(self, keys: Tensor, mask: Tensor) -> Tensor:
        """Clusters `[B, N]` int32, 0 … M - 1; that of padding means nothing."""
        keys_BNE = ops.cast(ops.stop_gradient(keys), "float32")
        real_BN1 = ops.cast(mask, "float32")[..., None]
        index_BN = ops.zeros_like(mask, dtype="int32")
        count = 1
        while count < self.num_clusters:
            index_BN = 2 * index_BN + self._side(keys_BNE, real_BN1, index_BN, count)
            count *= 2
        return index_BN

    def _side(
        self, keys_BNE: Tensor, real_BN1: Tensor, index_BN: Tensor, count: int
    ) -> Tensor:
        """`[B, N]` int32: 1 for what lies beyond the plane that splits its cluster."""
        known = ops.concatenate([keys_BNE * real_BN1, real_BN1], axis=-1)
        total_BME, size_BM = _totals(known, index_BN, count)
        mean_BME = total_BME / ops.maximum(size_BM, 1.0)[..., None]
        offset_BNE = keys_BNE - take_rows(mean_BME, index_BN)
        # Of equal behaviors only rounding is left, which must not split them.
        differs = ops.abs(offset_BNE) > _NOISE * ops.abs(keys_BNE)
        offset_BNE = ops.where(differs, offset_BNE, 0.0) * real_BN1
        along_BN1 = ops.sum(offset_BNE * self.start, axis=-1, keepdims=True)
        for _ in range(_POWER_STEPS):
            axis_BME = _sum_of_members(offset_BNE * along_BN1, index_BN, count)
            axis_BME = _unit(axis_BME)
            axis_BNE = take_rows(axis_BME, index_BN)
            along_BN1 = ops.sum(offset_BNE * axis_BNE, axis=-1, keepdims=True)
        size_BN = take_rows(size_BM[..., None], index_BN)[..., 0]
        beyond = (along_BN1[..., 0] > 0) & (size_BN > self.cluster_size)
        return ops.cast(beyond, "int32")

    def compute_output_spec(
        self, keys: Tensor, values: Tensor, time: Tensor, mask: Tensor
    ) -> dict[str, keras.KerasTensor]:
        """One row a cluster."""
        shape = (keys.shape[0], self.num_clusters)
        return {
            "cluster": keras.KerasTensor((*shape, values.shape[-1]), values.dtype),
            "cluster_time": keras.KerasTensor(shape, "int64"),
            "cluster_size": keras.KerasTensor(shape, "float32"),
        }

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "num_clusters": self.num_clusters,
            "cluster_size": self.cluster_size,
            "seed": self.seed,
        }


def _sum_of_members(values_BNX: Tensor, index_BN: Tensor, count: int) -> Tensor:
    """Sums of each user's members of each of `count` clusters, `[B, M, X]`."""
    if keras.backend.backend() == "torch" and is_whole(values_BNX):
        # There `segment_sum` adds in float32, which no time survives.
        is_member_BMN1 = index_BN[:, None, :, None] == ops.arange(count)[:, None, None]
        return ops.sum(ops.where(is_member_BMN1, values_BNX[:, None], 0), axis=2)
    batch, _, width = ops.shape(values_BNX)
    first_B1 = ops.arange(batch, dtype="int32")[:, None] * count
    sums = ops.segment_sum(
        ops.reshape(values_BNX, (-1, width)),
        ops.reshape(index_BN + first_B1, (-1,)),
        num_segments=batch * count,
    )
    return ops.reshape(sums, (-1, count, width))


def _totals(known_BNX: Tensor, index_BN: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Sums of the members, and of their last channel, which counts them."""
    sums_BMX = _sum_of_members(known_BNX, index_BN, count)
    return sums_BMX[..., :-1], sums_BMX[..., -1]


def _unit(vectors):
    square = ops.sum(vectors**2, axis=-1, keepdims=True)
    return vectors * ops.rsqrt(ops.maximum(square, 1e-30))
