"""Co-action: the target's own little network reads the behaviors.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `R` orders, `E` width of a
behavior's input, `U` width of a layer, `W` weights of a target.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.layers.checks import check_positive
from ctr_tf.tensors import Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class CoAction(keras.layers.Layer):
    """``sum_j concat_r(h_1(x_j^r), h_2(x_j^r), …)``, the h by the target's weights.

    ``h_1 = tanh(x^r W_1)``, ``h_2 = h_1 W_2``, …: no biases, tanh between the layers,
    none after the last, the same weights for all powers r = 1 … R of the input. The
    last map being linear, its inputs are summed before it.

    Args:
        units: widths of the layers.
        orders: R.

    Call arguments:
        weights: `[B, C, W]`, W = `num_weights(E)`, the matrices one after the other.
        inputs: `[B, N, E]`.
        mask: `[B, N]` bool.

    Returns:
        `[B, C, R * sum(units)]`, order by order, layer by layer.

    Raises:
        UserError: if there is no layer, or a width or `orders` is not positive.

    Reference:
        CAN: Feature Co-Action Network for Click-Through Rate Prediction (WSDM 2022),
        co-action unit and multi-order enhancement; read from the authors' code where
        the paper leaves the last layer and the sharing of weights open.

    Example:
        >>> import numpy as np
        >>> from keras.random import normal
        >>> from ctr_tf.layers import CoAction
        >>> layer = CoAction(units=(4, 2), orders=3)
        >>> weights = normal((1, 5, layer.num_weights(8)))  # of 5 candidates
        >>> tuple(layer(weights, normal((1, 3, 8)), np.ones((1, 3), bool)).shape)
        (1, 5, 18)
    """

    def __init__(self, units: tuple[int, ...] = (8, 4), orders: int = 3, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        if not units or any(width < 1 for width in units):
            raise UserError(
                f"`units` must be one or more positive widths. Received: units={units}"
            )
        check_positive(orders=orders)
        self.units = tuple(units)
        self.orders = orders

    def num_weights(self, input_width: int) -> int:
        """W for behaviors' inputs of a width."""
        widths = (input_width, *self.units)
        return sum(a * b for a, b in zip(widths, self.units, strict=False))

    def call(self, weights: Tensor, inputs: Tensor, mask: Tensor) -> Tensor:
        """Runs every target's network over every behavior."""
        # There are no biases: behaviors whose input is 0 add 0.
        powers = [ops.where(mask[..., None], inputs, 0)]
        for _ in range(1, self.orders):
            powers.append(powers[-1] * powers[0])
        hidden_B1RNE = ops.stack(powers, axis=1)[:, None]
        *kernels, last_BC1UU = self._kernels(weights, inputs.shape[-1])

        hidden_BCRNU, outputs = hidden_B1RNE, []
        for kernel_BC1EU in kernels:
            hidden_BCRNU = ops.tanh(ops.matmul(hidden_BCRNU, kernel_BC1EU))
            outputs.append(_sum(hidden_BCRNU))
        total_BCRU = outputs[-1] if outputs else _sum(hidden_B1RNE)
        total_BCR1U = ops.cast(total_BCRU, last_BC1UU.dtype)[:, :, :, None]
        outputs.append(ops.matmul(total_BCR1U, last_BC1UU)[:, :, :, 0])

        outputs = [ops.cast(output, self.compute_dtype) for output in outputs]
        shape = (-1, ops.shape(weights)[1], self.orders * sum(self.units))
        return ops.reshape(ops.concatenate(outputs, axis=-1), shape)

    def _kernels(self, weights: Tensor, input_width: int) -> list:
        """Each layer's matrices, `[B, C, 1, E, U]`."""
        kernels, start = [], 0
        for units in self.units:
            stop = start + input_width * units
            shape = (-1, ops.shape(weights)[1], 1, input_width, units)
            kernels.append(ops.reshape(weights[..., start:stop], shape))
            start, input_width = stop, units
        return kernels

    def compute_output_spec(
        self, weights: Tensor, inputs: Tensor, mask: Tensor
    ) -> keras.KerasTensor:
        """One vector a target."""
        width = self.orders * sum(self.units)
        return keras.KerasTensor((*weights.shape[:2], width), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "units": list(self.units),
            "orders": self.orders,
        }


def _sum(hidden_BCRNU):
    """Over the behaviors, float32."""
    return ops.sum(ops.cast(hidden_BCRNU, "float32"), axis=3)
