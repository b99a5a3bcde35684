"""RoPE: queries and keys turn with their positions.

Shape suffixes: `B` batch, `H` heads, `Q` queries, `J` keys, `K` head width, `D` model
width.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.layers.relative_encoding import RelativeEncoding
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class RotaryEncoding(RelativeEncoding):
    """Turns each pair of channels of a head by ``position * base^(-2k/K)``.

    The product of a query and a key then depends on their distance alone. Channels k
    and k + K/2 are a pair, k = 0 … K/2 - 1. There is no bias but that of hidden keys.

    Args:
        num_heads: H; D/H must be even.
        base: of the frequencies.

    Call arguments:
        relations: `[B, 1, Q, J]`, what is hidden.

    Returns:
        `[B, 1, Q, J]` float32.

    Raises:
        UserError: if a head's width is odd.

    Reference:
        Su et al., RoFormer (2021), section 3.2; an alternative of SparseCTR, section
        4.4.3.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.layers import RotaryEncoding
        >>> rows = np.array([[[1.0, 0.0]]], "float32")
        >>> turned = RotaryEncoding(num_heads=1).rotate(rows, np.array([[-2]], "int32"))
        >>> print(np.asarray(turned).round(3))  # by two radians
        [[[-0.416 -0.909]]]
    """

    def __init__(self, num_heads: int, base: float = 10_000.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.base = base

    def build(self, input_shape: Shape) -> None:
        """Checks the width of a head, the last axis by H."""
        width = input_shape[-1] // self.num_heads
        if width % 2:
            raise UserError(
                f"Rotary encoding needs heads of even width, of {input_shape[-1]} "
                f"channels in {self.num_heads} heads. Received: {width}"
            )
        self.built = True

    def rotate(self, inputs: Tensor, position: Tensor) -> Tensor:
        """Turns `[B, Q, D]`, heads side by side, by positions `[Q]` or `[B, Q]`.

        Computed in float32, returned in the dtype of the input. One row, Q = 1, and
        many positions give a copy for each.
        """
        width = inputs.shape[-1] // self.num_heads
        half = width // 2
        frequency_K = [self.base ** (-k / half) for k in range(half)]
        frequency_K = ops.array(frequency_K, "float32")
        angle = ops.cast(position, "float32")[..., None, None] * frequency_K
        cosine, sine = ops.cos(angle), ops.sin(angle)
        rows = (-1, inputs.shape[1], self.num_heads, width)
        first, second = ops.split(
            ops.cast(ops.reshape(inputs, rows), "float32"), 2, axis=-1
        )
        turned = ops.concatenate(
            [first * cosine - second * sine, first * sine + second * cosine], axis=-1
        )
        turned = ops.reshape(turned, (-1, turned.shape[1], inputs.shape[-1]))
        return ops.cast(turned, inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "base": self.base,
        }
