"""Types of what layers pass around, whichever backend Keras runs on."""

from typing import Any

# A tensor of the backend: `tf.Tensor`, `jax.Array`, …, or a `keras.KerasTensor` where
# Keras only infers shapes. They have no common class that a checker knows.
Tensor = Any

# Of a tensor: an int for each axis, None where it may have any length. Which axes have
# a length, each layer knows for itself.
Shape = tuple[Any, ...]
