"""Normalization by the root of the mean square, as SUAN writes it."""

from typing import Any

import keras
from keras import ops

from ctr_tf.tensors import Shape, Tensor

_SMALLEST = 1e-24  # a mean square: the root's slope at 0 is infinite


@keras.saving.register_keras_serializable(package="ctr_tf")
class RMSNorm(keras.layers.Layer):
    """``scale * x / (rms(x) + e)``, ``rms(x) = sqrt(mean(x^2))``, scale 1 at first.

    Keras' own has e inside the root. All of it is float32.

    Args:
        epsilon: e.

    Call arguments:
        inputs: `[..., D]` float.

    Returns:
        `[..., D]`.

    Reference:
        SUAN's code.

    Example:
        >>> import numpy as np
        >>> from keras import ops
        >>> from ctr_tf.layers import RMSNorm
        >>> inputs = np.array([[1.0, 7.0]], "float32")  # of length 10, rms 5
        >>> print(ops.convert_to_numpy(RMSNorm()(inputs)).round(3))
        [[0.2 1.4]]
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape: Shape) -> None:
        """Makes the scale."""
        self.scale = self.add_weight(
            name="scale",
            shape=(input_shape[-1],),
            initializer="ones",
            autocast=False,
        )
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """Normalizes every row by itself."""
        values = ops.cast(inputs, "float32")
        square = ops.mean(ops.square(values), axis=-1, keepdims=True)
        rms = ops.sqrt(ops.maximum(square, _SMALLEST))
        output = values * self.scale.value / (rms + self.epsilon)
        return ops.cast(output, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {**super().get_config(), "epsilon": self.epsilon}
