"""The last layers of a model: from all that is known of a candidate to its logit."""

from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.layers.dice import Dice
from ctr_tf.tensors import Shape, Tensor

ACTIVATIONS = ("relu", "dice")


@keras.saving.register_keras_serializable(package="ctr_tf")
class Tower(keras.layers.Layer):
    """MLP with ReLU or Dice, and one output.

    Args:
        units: widths of the hidden layers.
        activation: `"relu"`; or `"dice"`, whose maps start by He's rule, as in SUAN's
            code.

    Call arguments:
        inputs: `[B, C, I]`, everything side by side.
        candidate_mask: `[B, C]` bool, which are no padding; all where None.
        training: for Dice, whose statistics are those of candidates that are real.

    Returns:
        Logits `[B, C]`, float32 under every policy.

    Raises:
        UserError: if a width is not positive; for an unknown activation.

    Example:
        >>> from keras.random import normal
        >>> from ctr_tf.layers import Tower
        >>> tuple(Tower(units=(4,), activation="dice")(normal((2, 5, 8))).shape)
        (2, 5)
    """

    def __init__(
        self,
        units: tuple[int, ...] = (64, 32),
        activation: str = "relu",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if activation not in ACTIVATIONS:
            raise UserError(unknown_name("activation", activation, ACTIVATIONS))
        if any(width < 1 for width in units):
            raise UserError(f"`units` must be positive. Received: units={units}")
        self.units = tuple(units)
        self.activation = activation

    def build(
        self, inputs_shape: Shape, candidate_mask_shape: Shape | None = None
    ) -> None:
        """Makes the maps and activations."""
        width = inputs_shape[-1]
        is_dice = self.activation == "dice"
        self.hidden = []
        self.dice = []
        for index, units in enumerate(self.units):
            layer = keras.layers.Dense(
                units,
                activation=None if is_dice else "relu",
                kernel_initializer="he_normal" if is_dice else "glorot_uniform",
                dtype=self.dtype_policy,
                name=f"hidden_{index}",
            )
            layer.build((None, width))
            self.hidden.append(layer)
            if is_dice:
                dice = Dice(dtype=self.dtype_policy, name=f"dice_{index}")
                dice.build((None, units))
                self.dice.append(dice)
            width = units
        self.logit = keras.layers.Dense(1, dtype="float32", name="logit")
        self.logit.build((None, width))
        self.built = True

    def call(
        self,
        inputs: Tensor,
        candidate_mask: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        """Scores every candidate by itself."""
        real = () if candidate_mask is None else (candidate_mask[..., None],)
        for index, layer in enumerate(self.hidden):
            inputs = layer(inputs)
            if self.dice:
                inputs = self.dice[index](inputs, *real, training=training)
        return ops.squeeze(self.logit(inputs), axis=-1)

    def compute_output_spec(
        self,
        inputs: Tensor,
        candidate_mask: Tensor | None = None,
        training: bool = False,
    ) -> keras.KerasTensor:
        """One float32 logit a candidate."""
        return keras.KerasTensor(inputs.shape[:2], dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "units": list(self.units),
            "activation": self.activation,
        }
