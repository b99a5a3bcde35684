"""The feed-forward part of a block."""

from typing import Any

import keras
from keras import ops

from ctr_tf.layers.checks import check_positive
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class SwiGLU(keras.layers.Layer):
    """Gated feed-forward network: ``(silu(x W1) * (x W2)) W3``.

    Args:
        hidden_dim: columns of W1 and W2.
        use_bias: whether the three maps have biases.

    Call arguments:
        inputs: `[..., D]` float.

    Returns:
        `[..., D]`.

    Raises:
        UserError: if `hidden_dim` is not positive.

    Reference:
        SparseCTR, equation 2 (without biases).

    Example:
        >>> from keras.random import normal
        >>> from ctr_tf.layers import SwiGLU
        >>> tuple(SwiGLU(hidden_dim=16)(normal((2, 5, 8))).shape)
        (2, 5, 8)
    """

    def __init__(self, hidden_dim: int, use_bias: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        check_positive(hidden_dim=hidden_dim)
        self.hidden_dim = hidden_dim
        self.use_bias = use_bias

    def build(self, input_shape: Shape) -> None:
        """Makes the three maps."""

        def dense(units, name):
            return keras.layers.Dense(
                units, use_bias=self.use_bias, dtype=self.dtype_policy, name=name
            )

        self.gate = dense(self.hidden_dim, "gate")
        self.up = dense(self.hidden_dim, "up")
        self.down = dense(input_shape[-1], "down")
        self.gate.build(input_shape)
        self.up.build(input_shape)
        self.down.build((*input_shape[:-1], self.hidden_dim))
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """Maps every row by itself."""
        return self.down(ops.silu(self.gate(inputs)) * self.up(inputs))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "use_bias": self.use_bias,
        }
