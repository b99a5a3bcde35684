"""Calibration of the query by what the user did just now.

Shape suffixes: `B` batch, `C` candidates, `D` model width.
"""

import keras
from keras import ops

from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class GatedQueryCalibration(keras.layers.Layer):
    """``(1 - z) Q + z H`` with the update gate ``z = sigmoid([Q; H] W + b)``.

    One calibration gating unit of GCQC: Q is the query so far, H what it found in the
    real-time view. The result asks the other two views.

    Call arguments:
        query: `[B, C, D]`, Q.
        found: `[B, C, D]`, H.

    Returns:
        `[B, C, D]`.

    Reference:
        GAP-Net, section 3.3, equation 9.

    Example:
        >>> from keras.random import normal
        >>> from ctr_tf.layers import GatedQueryCalibration
        >>> tuple(GatedQueryCalibration()(normal((1, 5, 8)), normal((1, 5, 8))).shape)
        (1, 5, 8)
    """

    def build(self, query_shape: Shape, found_shape: Shape) -> None:
        """Makes the gate."""
        width = query_shape[-1]
        self.gate = keras.layers.Dense(
            width, activation="sigmoid", dtype=self.dtype_policy, name="gate"
        )
        self.gate.build((*query_shape[:-1], width + found_shape[-1]))
        self.built = True

    def call(self, query: Tensor, found: Tensor) -> Tensor:
        """Moves every query towards what it found."""
        gate_BCD = self.gate(ops.concatenate([query, found], axis=-1))
        return (1 - gate_BCD) * query + gate_BCD * found

    def compute_output_shape(self, query_shape: Shape, found_shape: Shape) -> Shape:
        """The shape of the query."""
        return query_shape
