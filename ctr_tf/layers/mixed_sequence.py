"""What layers of the mixed sequence, behaviors and then candidates, put out."""

from typing import Any

import keras

from ctr_tf.tensors import Tensor


class MixedSequenceLayer(keras.layers.Layer):
    """A layer whose outputs have the shapes of its first two inputs.

    That is told and not inferred: where a plan's first axis is a multiple of the batch,
    JAX would take it for the batch.
    """

    def compute_output_spec(
        self, behaviors: Tensor, candidates: Tensor, *others: Any, **more: Any
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """`[B, N, D]` and `[B, C, D]`."""
        dtype = self.compute_dtype
        return (
            keras.KerasTensor(behaviors.shape, dtype),
            keras.KerasTensor(candidates.shape, dtype),
        )
