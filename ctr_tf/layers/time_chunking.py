"""Personalized time-aware chunks."""

from typing import Any

import keras
from keras import ops

from ctr_tf.layers.checks import check_positive
from ctr_tf.tensors import Tensor
from ctr_tf.time_ops import chunk_ids


@keras.saving.register_keras_serializable(package="ctr_tf")
class TimeChunking(keras.layers.Layer):
    """Cuts each history at its largest gaps: chunk ids of the behaviors.

    The `num_chunks - 1` largest gaps ``t_{j+1} - t_j`` between adjacent valid
    behaviors cut; of equal gaps the later cuts first; padding is chunk 0. A history
    of at most `num_chunks` behaviors gets one chunk a behavior. The rule itself lives
    in `ctr_tf.time_ops.chunk_ids` (and, for the jobs, in `ctr_tf.time`).

    Args:
        num_chunks: P, positive.

    Call arguments:
        time: `[B, N]` int64 seconds, left-padded, oldest first.
        mask: `[B, N]` bool, False on padding.
        chunk: `[B, N]` int32, where the input pipeline computed the ids already, for
            the same P; None computes them here.
        embedding: not used; see `SimilarityChunking`.

    Returns:
        `[B, N]` int32: 0 on padding, then 1 … P, oldest chunk first.

    Raises:
        UserError: if `num_chunks` is not positive.

    Reference:
        SparseCTR, section 3.4.1.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.layers import TimeChunking
        >>> time = np.array([[0, 100, 160, 9_000, 9_030, 9_100]])  # left-padded
        >>> np.asarray(TimeChunking(3)(time, time > 0)).tolist()
        [[0, 1, 1, 2, 2, 3]]
    """

    def __init__(self, num_chunks: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_positive(num_chunks=num_chunks)
        self.num_chunks = num_chunks

    def call(
        self,
        time: Tensor,
        mask: Tensor,
        chunk: Tensor | None = None,
        embedding: Tensor | None = None,
    ) -> Tensor:
        """Takes the given ids, or computes them."""
        if chunk is None:
            return chunk_ids(time, mask, self.num_chunks)
        return ops.where(mask, ops.cast(chunk, "int32"), 0)

    def compute_output_spec(
        self,
        time: Tensor,
        mask: Tensor,
        chunk: Tensor | None = None,
        embedding: Tensor | None = None,
    ) -> keras.KerasTensor:
        """Ids have the shape of the times."""
        return keras.KerasTensor(time.shape, dtype="int32")

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {**super().get_config(), "num_chunks": self.num_chunks}
