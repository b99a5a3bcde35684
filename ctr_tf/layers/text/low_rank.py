"""LoRA: what is learned beside a frozen map, of low rank."""

import dataclasses
from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.layers.checks import check_positive
from ctr_tf.tensors import Shape, Tensor


@dataclasses.dataclass(frozen=True)
class LoRA:
    """Which maps of a language model get factors beside them, and which factors.

    Args:
        rank: of the product of the factors.
        alpha: the product counts ``alpha / rank`` times.
        maps: of each layer: query, key, value, output, up, down; of decoders also gate.
        dropout: of the factors' inputs, in training.
    """

    rank: int = 8
    alpha: float = 16.0
    maps: tuple[str, ...] = ("query", "value")
    dropout: float = 0.0


@keras.saving.register_keras_serializable(package="ctr_tf")
class LowRank(keras.layers.Layer):
    """``alpha / rank * x A B``: A random, B zero at first.

    Keras' own `enable_lora` gives each head of a map factors of its own, A alone then
    as large as the map.

    Args:
        units: O, width of the output.
        rank: R.
        alpha: see above.

    Call arguments:
        inputs: `[..., I]`.

    Returns:
        `[..., O]`.

    Raises:
        UserError: if a size or `alpha` is not positive.

    Reference:
        Hu et al., LoRA (2021), section 4.1.
    """

    def __init__(self, units: int, rank: int = 8, alpha: float = 16.0, **kwargs: Any):
        super().__init__(**kwargs)
        check_positive(units=units, rank=rank)
        if not alpha > 0:
            raise UserError(f"`alpha` must be positive. Received: alpha={alpha}")
        self.units = units
        self.rank = rank
        self.alpha = alpha

    def build(self, input_shape: Shape) -> None:
        """Makes the factors, `[I, R]` and `[R, O]`."""
        # U(-1, 1) / sqrt(I), as PyTorch's maps begin.
        initializer = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
        self.first = self.add_weight(
            name="first", shape=(input_shape[-1], self.rank), initializer=initializer
        )
        self.second = self.add_weight(
            name="second", shape=(self.rank, self.units), initializer="zeros"
        )
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        """Maps down, and up again."""
        rows = ops.matmul(ops.matmul(inputs, self.first), self.second)
        return rows * (self.alpha / self.rank)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Another last axis."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "units": self.units,
            "rank": self.rank,
            "alpha": self.alpha,
        }
