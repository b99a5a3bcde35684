"""The user's features as a short sequence, one token each.

Shape suffixes: `B` batch, `P` features, `E` width of a token.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.layers.checks import check_positive
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class ProfileTokens(keras.layers.Layer):
    """``token_p = x_p W_p + b_p``, x_p the channels of feature p.

    Features differ in width and may be numbers, so each has a map of its own to the
    width that all share (ours; the paper's are all rows of tables, of one width).

    Args:
        widths: of the features, in their order.
        units: E.

    Call arguments:
        user: `[B, sum(widths)]`, the features side by side.

    Returns:
        `[B, P, E]`.

    Raises:
        UserError: if there is no feature, or a width is not positive.

    Reference:
        SUAN.

    Example:
        >>> from keras.random import normal
        >>> from ctr_tf.layers import ProfileTokens
        >>> tuple(ProfileTokens(widths=(2, 1, 3), units=4)(normal((2, 6))).shape)
        (2, 3, 4)
    """

    def __init__(self, widths: tuple[int, ...], units: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_positive(units=units)
        if not widths or any(width < 1 for width in widths):
            raise UserError(
                f"`widths` must be one or more positive widths. Received: "
                f"widths={tuple(widths)}"
            )
        self.widths = tuple(widths)
        self.units = units

    def build(self, user_shape: Shape) -> None:
        """Makes a map for each feature."""
        self.maps = [
            keras.layers.Dense(
                self.units, dtype=self.dtype_policy, name=f"feature_{index}"
            )
            for index in range(len(self.widths))
        ]
        for layer, width in zip(self.maps, self.widths, strict=True):
            layer.build((None, width))
        self.built = True

    def call(self, user: Tensor) -> Tensor:
        """Cuts the features apart and maps each."""
        tokens, start = [], 0
        for layer, width in zip(self.maps, self.widths, strict=True):
            tokens.append(layer(user[:, start : start + width]))
            start += width
        return ops.stack(tokens, axis=1)

    def compute_output_shape(self, user_shape: Shape) -> Shape:
        """One token a feature."""
        return (user_shape[0], len(self.widths), self.units)

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "widths": list(self.widths),
            "units": self.units,
        }
