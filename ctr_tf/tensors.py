"""What layers pass around, whichever backend Keras runs on."""

from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError

# A tensor of the backend: `tf.Tensor`, `jax.Array`, …, or a `keras.KerasTensor` where
# Keras only infers shapes. They have no common class that a checker knows.
Tensor = Any

# Of a tensor: an int for each axis, None where it may have any length. Which axes have
# a length, each layer knows for itself.
Shape = tuple[Any, ...]


def check_int64() -> None:
    """UserError where the backend has no 64-bit integers, as JAX unless it is told.

    Times are whole seconds, int64. In 32 bits their sums run over without a word.
    """
    if keras.backend.backend() != "jax":
        return
    import jax

    if jax.dtypes.canonicalize_dtype("int64") != "int64":
        raise UserError(
            "Times and codes are 64-bit integers, which JAX cuts to 32 bits. Set "
            "JAX_ENABLE_X64=1 in the environment, or call "
            "jax.config.update('jax_enable_x64', True) at the start. "
            "Received: int32"
        )


def is_whole(value: Tensor) -> bool:
    """Whether these are integers."""
    return "int" in keras.backend.standardize_dtype(value.dtype)


def at_least(value: Tensor, least: int) -> Tensor:
    """``max(value, least)`` of whole numbers.

    Keras takes 32 bits for whole numbers on PyTorch, and its `maximum` of int64 is cut
    to them without a word; `where` keeps what it is given.
    """
    return ops.where(value < least, least, value)
