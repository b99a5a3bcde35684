"""From the vectors of several texts to a logit.

Shape suffixes: `T` texts, `W` width, `E` texts and products.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.layers.checks import check_positive
from ctr_tf.tensors import Shape, Tensor

_SLOPE = 0.01  # of LeakyReLU, PyTorch's


@keras.saving.register_keras_serializable(package="ctr_tf")
class TextsHead(keras.layers.Layer):
    """Each text ``Dense(W/2) → LeakyReLU → Dense(128)``; side by side, an MLP.

    The MLP: ``Dense(128) → LayerNorm → LeakyReLU → Dense(32) → LeakyReLU → Dense(1)``.
    Every text has weights of its own.

    Args:
        units: widths of a text's output, and of the two hidden layers.
        match: two places of texts, whose product, element by element, is one more text;
            None: none. What a product tells, an MLP is slow to learn.

    Call arguments:
        texts: `[..., T, W]`; T is static.

    Returns:
        Logits `[...]`, float32 under every policy.

    Raises:
        UserError: if a width is not positive, or `match` is no pair of texts.

    Reference:
        CTR-Sink, its code; section 4.3 of our notes.
    """

    def __init__(
        self,
        units: tuple[int, int, int] = (128, 128, 32),
        match: tuple[int, int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = tuple(units)
        self.match = None if match is None else tuple(match)
        if len(self.units) != 3:
            raise UserError(f"`units` are three widths. Received: units={units}")
        check_positive(**{f"units[{i}]": width for i, width in enumerate(self.units)})

    def build(self, texts_shape: Shape) -> None:
        """Makes the maps."""
        count, width = texts_shape[-2:]
        if self.match is not None and (
            len(set(self.match)) != 2 or not set(self.match) <= set(range(count))
        ):
            raise UserError(
                f"`match` names two of the texts 0 … {count - 1}. "
                f"Received: match={self.match}"
            )
        count += self.match is not None
        of_text, first, second = self.units
        self.inner = [
            self._dense(max(width // 2, 1), width, f"inner_{i}") for i in range(count)
        ]
        self.outer = [
            self._dense(of_text, max(width // 2, 1), f"outer_{i}") for i in range(count)
        ]
        self.first = self._dense(first, count * of_text, "first")
        self.norm = keras.layers.LayerNormalization(
            epsilon=1e-5, dtype=self.dtype_policy, name="norm"
        )
        self.norm.build((None, first))
        self.second = self._dense(second, first, "second")
        self.logit = self._dense(1, second, "logit", dtype="float32")
        self.built = True

    def _dense(self, units, inputs, name, dtype=None):
        layer = keras.layers.Dense(units, dtype=dtype or self.dtype_policy, name=name)
        layer.build((None, inputs))
        return layer

    def call(self, texts: Tensor) -> Tensor:
        """Scores every set of texts by itself."""
        rows = [texts[..., i, :] for i in range(texts.shape[-2])]
        if self.match is not None:
            rows.append(rows[self.match[0]] * rows[self.match[1]])
        rows = [
            outer(_leaky(inner(row)))
            for inner, outer, row in zip(self.inner, self.outer, rows, strict=True)
        ]
        hidden = _leaky(self.norm(self.first(ops.concatenate(rows, axis=-1))))
        return self.logit(_leaky(self.second(hidden)))[..., 0]

    def compute_output_spec(self, texts: Tensor) -> keras.KerasTensor:
        """One logit a set of texts."""
        return keras.KerasTensor(texts.shape[:-2], dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {**super().get_config(), "units": self.units, "match": self.match}


def _leaky(inputs: Tensor) -> Tensor:
    return ops.leaky_relu(inputs, negative_slope=_SLOPE)
