"""From a candidate's row and the user's features to the logit."""

from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.layers.rows import by_rows
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class PredictionHead(keras.layers.Layer):
    """``MLP(ReLU(E_C W4) * sigmoid(e_U W5))``, the MLP with ReLU and one output.

    Args:
        units: widths of the MLP's hidden layers.

    Call arguments:
        candidates: `[B, C, D]`.
        user: `[B, Du]`, the concatenated user features e_U.

    Returns:
        Logits `[B, C]`, float32 under every policy.

    Raises:
        UserError: if a width is not positive.

    Reference:
        SparseCTR, equation 17.

    Example:
        >>> from keras.random import normal
        >>> from ctr_tf.layers import PredictionHead
        >>> tuple(PredictionHead(units=(4,))(normal((2, 5, 8)), normal((2, 3))).shape)
        (2, 5)
    """

    def __init__(self, units: tuple[int, ...] = (32,), **kwargs: Any):
        super().__init__(**kwargs)
        if any(width < 1 for width in units):
            raise UserError(f"`units` must be positive. Received: units={units}")
        self.units = tuple(units)

    def build(self, candidates_shape: Shape, user_shape: Shape) -> None:
        """Makes the maps."""
        width = candidates_shape[-1]

        def dense(units, input_width, name, activation=None, dtype=None, bias=True):
            layer = keras.layers.Dense(
                units,
                activation=activation,
                use_bias=bias,
                dtype=dtype or self.dtype_policy,
                name=name,
            )
            layer.build((None, input_width))
            return layer

        self.candidate_gate = dense(width, width, "candidate_gate", "relu", bias=False)
        self.user_gate = dense(
            width, user_shape[-1], "user_gate", "sigmoid", bias=False
        )
        self.hidden = []
        for index, units in enumerate(self.units):
            self.hidden.append(dense(units, width, f"hidden_{index}"))
            width = units
        self.logit = dense(1, width, "logit", dtype="float32")
        self.built = True

    def call(self, candidates: Tensor, user: Tensor) -> Tensor:
        """Scores every candidate by itself."""
        rows_BCD = by_rows(self.candidate_gate, candidates)
        rows_BCD = rows_BCD * self.user_gate(user)[:, None]
        for layer in self.hidden:
            # Apart from the product: TensorFlow would make one kernel of product, bias
            # and ReLU, which on a CPU turns NaN into 0 and so hides it.
            rows_BCD = ops.relu(by_rows(layer, rows_BCD))
        return ops.squeeze(by_rows(self.logit, rows_BCD), axis=-1)

    def compute_output_spec(
        self, candidates: Tensor, user: Tensor
    ) -> keras.KerasTensor:
        """One float32 logit a candidate."""
        return keras.KerasTensor(candidates.shape[:2], dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {**super().get_config(), "units": list(self.units)}
