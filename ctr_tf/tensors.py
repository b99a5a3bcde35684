"""Types of what layers pass around, whichever backend Keras runs on."""

from typing import Any

# A tensor of the backend: `tf.Tensor`, `jax.Array`, …, or a `keras.KerasTensor` where
# Keras only infers shapes. They have no common class that a checker knows.
Tensor = Any

# Of a tensor; None is an axis of any length.
Shape = tuple[int | None, ...]
