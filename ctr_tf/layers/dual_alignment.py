"""How much of a row is the history's, how much the profile's: SUAN's fusion.

Shape suffixes: `B` batch, `N` behaviors, `Q` rows of a sample, `D` model width.
"""

import keras
from keras import ops

from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class DualAlignment(keras.layers.Layer):
    """``y = a x + (1 - a) c``, weighed by channel, one a for all rows of a sample.

        s = mean over behaviors of (x + c)
        z = relu(s W_d),  D → max(D / 4, 1)
        a = softmax over {z W_1, z W_2} = sigmoid(z W_1 - z W_2)

    x are the rows after self-attention, c what they found in the profile. No map has a
    bias, so that a is 1/2 where there is no behavior and s is 0.

    The mean is over real behaviors alone (ours: the authors' takes in padding and the
    candidate, by which behaviors would depend on the candidate, and no state could be
    kept). So a belongs to the user's state, and candidates are weighed by it, too.

    Call arguments:
        rows: `[B, Q, D]`, behaviors or candidates.
        profile: `[B, Q, D]`, what they found in the profile.
        gate: `[B, D]`, a, from the method `gate`.

    Returns:
        `[B, Q, D]`.

    Reference:
        SUAN, unified attention block.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.layers import DualAlignment
        >>> rows = np.full((1, 2, 4), 8.0, "float32")
        >>> profile = np.zeros((1, 2, 4), "float32")
        >>> gate = np.full((1, 4), 0.25, "float32")
        >>> np.asarray(DualAlignment()(rows, profile, gate))[0, 0].tolist()
        [2.0, 2.0, 2.0, 2.0]
    """

    def build(
        self, rows_shape: Shape, *other_shapes: Shape, **more_shapes: Shape
    ) -> None:
        """Makes the three maps."""
        width = rows_shape[-1]
        hidden = max(width // 4, 1)
        for name, input_width, units, activation in (
            ("hidden", width, hidden, "relu"),
            ("of_history", hidden, width, None),
            ("of_profile", hidden, width, None),
        ):
            layer = keras.layers.Dense(
                units,
                activation=activation,
                use_bias=False,
                dtype=self.dtype_policy,
                name=name,
            )
            layer.build((None, input_width))
            setattr(self, name, layer)
        self.built = True

    def gate(self, behaviors: Tensor, profile: Tensor, mask: Tensor) -> Tensor:
        """The weights a, `[B, D]`.

        Args:
            behaviors: `[B, N, D]`.
            profile: `[B, N, D]`, what they found in the profile.
            mask: `[B, N]` bool, the behaviors that are no padding.
        """
        mask_BN1 = ops.cast(mask, "float32")[..., None]
        rows_BND = ops.cast(behaviors, "float32") + ops.cast(profile, "float32")
        count_B1 = ops.maximum(ops.sum(mask_BN1, axis=1), 1.0)
        mean_BD = ops.sum(rows_BND * mask_BN1, axis=1) / count_B1
        hidden = self.hidden(ops.cast(mean_BD, self.compute_dtype))
        return ops.sigmoid(self.of_history(hidden) - self.of_profile(hidden))

    def call(self, rows: Tensor, profile: Tensor, gate: Tensor) -> Tensor:
        """Weighs every row by itself."""
        gate_B1D = gate[:, None]
        return gate_B1D * rows + (1 - gate_B1D) * profile

    def compute_output_shape(
        self, rows_shape: Shape, profile_shape: Shape, gate_shape: Shape
    ) -> Shape:
        """The shape of the rows."""
        return rows_shape
