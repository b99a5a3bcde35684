"""Pre-attention feature sifting: a gated network over embeddings before attention."""

import keras

from ctr_tf.layers.swiglu import SwiGLU
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class PAFS(keras.layers.Layer):
    """``(silu(x W_g + b_g) * (x W_u + b_u)) W_d + b_d`` of every row.

    The hidden width is the smallest power of two above D (ours: "the next power of 2
    relative to the hidden size").

    Call arguments:
        inputs: `[..., D]` float.

    Returns:
        `[..., D]`.

    Reference:
        GAP-Net, equations 3 to 5, and 13.

    Example:
        >>> from keras.random import normal
        >>> from ctr_tf.layers import PAFS
        >>> layer = PAFS()
        >>> tuple(layer(normal((2, 12))).shape), tuple(layer.ffn.gate.kernel.shape)
        ((2, 12), (12, 16))
    """

    def build(self, input_shape: Shape) -> None:
        """Makes the gated network."""
        hidden_dim = 1 << int(input_shape[-1]).bit_length()
        self.ffn = SwiGLU(
            hidden_dim, use_bias=True, dtype=self.dtype_policy, name="ffn"
        )
        self.ffn.build(input_shape)
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """Maps every row by itself."""
        return self.ffn(inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the input."""
        return input_shape
