"""Chunks of similar behaviors, the alternative to `TimeChunking` by content."""

from typing import Any

import keras
from keras import ops

from ctr_tf.layers.checks import check_positive
from ctr_tf.tensors import Tensor, at_least
from ctr_tf.time_ops import cut_at_largest

_STEPS = 2**20  # finer is float32's rounding; equal neighbors are to be equal here


@keras.saving.register_keras_serializable(package="ctr_tf")
class SimilarityChunking(keras.layers.Layer):
    """Cuts each history where adjacent behaviors' embeddings differ most.

    As `TimeChunking`, but the gap between adjacent valid behaviors is ``1 - cos(e_j,
    e_{j+1})``, computed in float32 and rounded to a millionth. There is no gradient.

    Args:
        num_chunks: P, positive.

    Call arguments:
        time: not used; the arguments are those of `TimeChunking`.
        mask: `[B, N]` bool, False on padding, which is on the left.
        chunk: not used.
        embedding: `[B, N, E]`, of the behaviors.

    Returns:
        `[B, N]` int32: 0 on padding, then 1 … P, oldest chunk first.

    Raises:
        UserError: if `num_chunks` is not positive.

    Reference:
        SparseCTR, section 4.4.2 (SimChunking).

    Example:
        >>> import numpy as np
        >>> from ctr_tf.layers import SimilarityChunking
        >>> time, mask = np.array([[0, 1, 2, 3]]), np.array([[False, True, True, True]])
        >>> embedding = np.array([[[0, 0], [1, 0], [1, 0], [0, 1]]], "float32")
        >>> np.asarray(SimilarityChunking(2)(time, mask, None, embedding)).tolist()
        [[0, 1, 1, 2]]
    """

    def __init__(self, num_chunks: int, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        check_positive(num_chunks=num_chunks)
        self.num_chunks = num_chunks

    def call(
        self, time: Tensor, mask: Tensor, chunk: Tensor, embedding: Tensor
    ) -> Tensor:
        """Compares neighbors."""
        embedding = ops.cast(ops.stop_gradient(embedding), "float32")
        square_BN1 = ops.sum(embedding**2, axis=-1, keepdims=True)
        unit_BND = embedding * ops.rsqrt(ops.maximum(square_BN1, 1e-12))
        cosine = ops.sum(unit_BND[:, 1:] * unit_BND[:, :-1], axis=-1)
        gap = ops.cast(ops.round((1.0 - cosine) * _STEPS), "int64")
        return cut_at_largest(at_least(gap, 0), mask, self.num_chunks)

    def compute_output_spec(
        self, time: Tensor, mask: Tensor, chunk: Tensor, embedding: Tensor
    ) -> keras.KerasTensor:
        """Ids have the shape of the mask."""
        return keras.KerasTensor(mask.shape, dtype="int32")

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {**super().get_config(), "num_chunks": self.num_chunks}
