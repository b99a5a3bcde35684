"""Attention of candidates over clusters of behaviors, large clusters counting more.

Shape suffixes: `B` batch, `C` candidates, `M` clusters, `H` heads, `D` model width.
"""

import math
from typing import Any

import keras
from keras import ops

from ctr_tf.layers.attention import attend, products, split_heads
from ctr_tf.layers.checks import check_heads, check_positive
from ctr_tf.layers.relative_encoding import HIDDEN
from ctr_tf.layers.time_gap import NUM_GAPS, one_hot_gap
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class ClusterAttention(keras.layers.Layer):
    """Multi-head target attention over the most relevant clusters.

    For every head, with `x_c` the mean of the cluster's n_c members:

        r_c  = (x_c W_K) (t W_Q)^T / sqrt(D/H) + [x_c, gap_c] beta + ln n_c
        head = softmax over the k largest r_c of r_c, times x_c W_V

    The heads are concatenated and projected by W_O. ``[x_c, gap_c] beta`` stands for
    the paper's cross features of user and item, one number a cluster and head whatever
    the candidate: what is known of the cluster's behaviors and how long ago they were
    (ours). A cluster of n_c equal behaviors weighs as much as these one by one.

    Search and attention share r_c, as in the paper, and each head searches for itself
    (ours). The search has no gradient. As all r_c are there anyway, no cluster is
    gathered: those that were not found are hidden.

    Args:
        num_heads: H; divides D.
        top_k: k, clusters that a head attends to; of equally relevant ones on the
            border, to all.

    Call arguments:
        target: `[B, C, D]`.
        cluster: `[B, M, D]`.
        cluster_time: `[B, M]` int64 seconds.
        cluster_size: `[B, M]` float32; 0 hides a cluster.
        request_time: `[B]` int64 seconds.

    Returns:
        `[B, C, D]`; exactly 0 where there is no cluster.

    Raises:
        UserError: if `num_heads` does not divide D; if `top_k` is not positive.

    Reference:
        TWIN V2 (Si et al. 2024), cluster-aware target attention; TWIN (Chang et al.
        2023), target attention split into inherent and cross features.

    Example:
        >>> import numpy as np
        >>> from keras.random import normal
        >>> from ctr_tf.layers import ClusterAttention
        >>> time, now = np.array([[100, 200, 900]]), np.array([1_000])
        >>> size = np.array([[4.0, 1.0, 0.0]], "float32")  # the last has no members
        >>> attention = ClusterAttention(num_heads=2, top_k=2)
        >>> found = attention(normal((1, 5, 8)), normal((1, 3, 8)), time, size, now)
        >>> tuple(found.shape)
        (1, 5, 8)
    """

    def __init__(self, num_heads: int, top_k: int = 100, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        check_positive(top_k=top_k)
        self.num_heads = num_heads
        self.top_k = top_k

    def build(
        self, target_shape: Shape, *other_shapes: Shape, **more_shapes: Shape
    ) -> None:
        """Makes the projections."""
        width = target_shape[-1]
        check_heads(self.num_heads, width)
        for name, units, input_width in (
            ("query", width, width),
            ("key", width, width),
            ("value", width, width),
            ("cross", self.num_heads, width + NUM_GAPS),
            ("output_projection", width, width),
        ):
            layer = keras.layers.Dense(
                units, use_bias=False, dtype=self.dtype_policy, name=name
            )
            layer.build((None, None, input_width))
            setattr(self, name, layer)
        self.built = True

    def call(
        self,
        target: Tensor,
        cluster: Tensor,
        cluster_time: Tensor,
        cluster_size: Tensor,
        request_time: Tensor,
    ) -> Tensor:
        """Searches and attends."""
        query_BHCK = split_heads(self.query(target), self.num_heads)
        key_BMD = self.key(cluster)
        bias_BH1M = self._bias(cluster, cluster_time, cluster_size, request_time)
        if cluster.shape[1] > self.top_k:
            bias_BHCM = self._hide_all_but_top(query_BHCK, key_BMD, bias_BH1M)
        else:
            bias_BHCM = bias_BH1M
        found_BCD = attend(query_BHCK, key_BMD, self.value(cluster), bias_BHCM)
        return self.output_projection(found_BCD)

    def _bias(self, cluster_BMD, time_BM, size_BM, request_time):
        gap_BMG = one_hot_gap(request_time, time_BM, cluster_BMD.dtype)
        cross_BMH = self.cross(ops.concatenate([cluster_BMD, gap_BMG], axis=-1))
        log_size_BM = ops.log(ops.maximum(ops.cast(size_BM, "float32"), 1.0))
        bias_BMH = ops.cast(cross_BMH, "float32") + log_size_BM[..., None]
        bias_BMH = ops.where(size_BM[..., None] > 0, bias_BMH, HIDDEN)
        return ops.transpose(bias_BMH, (0, 2, 1))[:, :, None]

    def _hide_all_but_top(self, query_BHCK, key_BMD, bias_BH1M):
        query_BHCK = query_BHCK * (1 / math.sqrt(query_BHCK.shape[-1]))
        logits = products(query_BHCK, split_heads(key_BMD, self.num_heads))
        relevance = ops.stop_gradient(ops.cast(logits, "float32") + bias_BH1M)
        least = ops.top_k(relevance, self.top_k)[0][..., -1:]
        return ops.where(relevance >= least, bias_BH1M, HIDDEN)

    def compute_output_spec(
        self,
        target: Tensor,
        cluster: Tensor,
        cluster_time: Tensor,
        cluster_size: Tensor,
        request_time: Tensor,
    ) -> keras.KerasTensor:
        """One row a candidate."""
        return keras.KerasTensor(target.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "top_k": self.top_k,
        }
