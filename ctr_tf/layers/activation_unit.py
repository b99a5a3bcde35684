"""How strongly a behavior speaks for a candidate, by a small network.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `D` model width, `U` hidden
width.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.layers.dice import Dice
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class ActivationUnit(keras.layers.Layer):
    """``a = MLP([t, e, t - e, t * e])`` of each candidate t and behavior e, with Dice.

    The first map is one matrix product of the behaviors with a matrix of each
    candidate, ``[t, e, t-e, t*e] W = t (W1 + W3) + e (W2 - W3 + diag(t) W4)``: the
    concatenation, 4 D wide for every pair, is never made.

    Args:
        units: widths of the hidden layers.

    Call arguments:
        target: `[B, C, D]`.
        behaviors: `[B, N, D]`.
        mask: `[B, N]` bool.
        target_mask: `[B, C]` bool, the candidates that are no padding; all where None.
        training: for Dice, whose statistics are those of pairs that neither hides.

    Returns:
        `[B, C, N]` float32, not normalized; 0 where hidden.

    Raises:
        UserError: if there is no hidden layer, or a width is not positive.

    Reference:
        Deep Interest Network, section 4.3 and figure 2; the difference and the product
        as in the authors' code.

    Example:
        >>> import numpy as np
        >>> from keras.random import normal
        >>> from ctr_tf.layers import ActivationUnit
        >>> mask = np.array([[False, True, True]])
        >>> unit = ActivationUnit(units=(4,))
        >>> weight = unit(normal((1, 5, 8)), normal((1, 3, 8)), mask)
        >>> tuple(weight.shape), float(weight[0, 0, 0])  # the first behavior is hidden
        ((1, 5, 3), 0.0)
    """

    def __init__(self, units: tuple[int, ...] = (36,), **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        if not units or any(width < 1 for width in units):
            raise UserError(
                f"`units` must be one or more positive widths. Received: units={units}"
            )
        self.units = tuple(units)

    def build(
        self, target_shape: Shape, *other_shapes: Shape, **more_shapes: Shape
    ) -> None:
        """Makes the maps and activations."""
        width, first = target_shape[-1], self.units[0]
        self.kernel = self.add_weight(
            name="kernel",
            shape=(4 * width, first),
            initializer="glorot_uniform",
        )
        self.bias = self.add_weight(name="bias", shape=(first,), initializer="zeros")
        self.activations = [
            Dice(dtype=self.dtype_policy, name=f"dice_{index}")
            for index in range(len(self.units))
        ]
        self.maps = [
            keras.layers.Dense(units, dtype=self.dtype_policy, name=f"hidden_{index}")
            for index, units in enumerate(self.units[1:], start=1)
        ]
        self.weight = keras.layers.Dense(1, dtype=self.dtype_policy, name="weight")
        for index, activation in enumerate(self.activations):
            activation.build((None, self.units[index]))
        for index, layer in enumerate([*self.maps, self.weight]):
            layer.build((None, self.units[index]))
        self.built = True

    def call(
        self,
        target: Tensor,
        behaviors: Tensor,
        mask: Tensor,
        target_mask: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        """Weighs all pairs."""
        visible_BCN1 = mask[:, None, :, None]
        if target_mask is not None:
            visible_BCN1 = visible_BCN1 & target_mask[:, :, None, None]
        hidden_BCNU = self._first(target, behaviors)
        hidden_BCNU = self.activations[0](hidden_BCNU, visible_BCN1, training=training)
        for layer, activation in zip(self.maps, self.activations[1:], strict=True):
            hidden_BCNU = activation(
                layer(hidden_BCNU), visible_BCN1, training=training
            )
        weight_BCN = ops.squeeze(self.weight(hidden_BCNU), axis=-1)
        return ops.where(mask[:, None], ops.cast(weight_BCN, "float32"), 0.0)

    def _first(self, target_BCD, behaviors_BND):
        kernel, bias = (
            ops.cast(weight, self.compute_dtype) for weight in (self.kernel, self.bias)
        )
        of_target, of_behavior, of_difference, of_product = ops.split(kernel, 4)
        fixed_BCU = ops.matmul(target_BCD, of_target + of_difference) + bias
        of_pair_BCDU = (of_behavior - of_difference) + (
            target_BCD[..., None] * of_product
        )
        varying_BCNU = ops.matmul(behaviors_BND[:, None], of_pair_BCDU)
        return varying_BCNU + fixed_BCU[:, :, None]

    def compute_output_spec(
        self,
        target: Tensor,
        behaviors: Tensor,
        mask: Tensor,
        target_mask: Tensor | None = None,
        training: bool = False,
    ) -> keras.KerasTensor:
        """One float32 weight a pair."""
        shape = (*target.shape[:2], behaviors.shape[1])
        return keras.KerasTensor(shape, dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {**super().get_config(), "units": list(self.units)}
