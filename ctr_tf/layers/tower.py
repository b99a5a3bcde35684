"""The last layers of a model: from all that is known of a candidate to its logit."""

from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class Tower(keras.layers.Layer):
    """MLP with ReLU and one output.

    Args:
        units: widths of the hidden layers.

    Call arguments:
        inputs: `[B, C, I]`, everything side by side.

    Returns:
        Logits `[B, C]`, float32 under every policy.

    Raises:
        UserError: if a width is not positive.
    """

    def __init__(self, units: tuple[int, ...] = (64, 32), **kwargs: Any):
        super().__init__(**kwargs)
        if any(width < 1 for width in units):
            raise UserError(f"`units` must be positive. Received: units={units}")
        self.units = tuple(units)

    def build(self, inputs_shape: Shape) -> None:
        """Makes the maps."""
        width = inputs_shape[-1]
        self.hidden = []
        for index, units in enumerate(self.units):
            layer = keras.layers.Dense(
                units,
                activation="relu",
                dtype=self.dtype_policy,
                name=f"hidden_{index}",
            )
            layer.build((None, width))
            self.hidden.append(layer)
            width = units
        self.logit = keras.layers.Dense(1, dtype="float32", name="logit")
        self.logit.build((None, width))
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """Scores every candidate by itself."""
        for layer in self.hidden:
            inputs = layer(inputs)
        return ops.squeeze(self.logit(inputs), axis=-1)

    def compute_output_spec(self, inputs: Tensor) -> keras.KerasTensor:
        """One float32 logit a candidate."""
        return keras.KerasTensor(inputs.shape[:2], dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {**super().get_config(), "units": list(self.units)}
