"""The rows that stand in a text at its sinks.

Shape suffixes: `B` batch, `S` sinks, `D` width of a signal, `W` width of the language
model.
"""

import math
from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.layers.checks import check_positive
from ctr_tf.layers.text.sink_signals import NUM_SIGNALS
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class SinkEmbedding(keras.layers.Layer):
    """``E[signal] W + b``, E of 100 rows.

    Rows begin near a given length: that of the language model's own, so that its first
    layer meets nothing strange. As PyTorch would begin them they are ten times longer,
    which the norm of an encoder's embeddings undoes and a decoder's first layers do
    not.

    Args:
        width: W.
        signal_width: D.
        start_norm: mean length of rows at first; see `LanguageModel.mean_row_norm`.

    Call arguments:
        signals: `[B, S]` int, 0 … 99, of `sink_signals`.

    Returns:
        `[B, S, W]`.

    Raises:
        UserError: if an argument is not positive.

    Reference:
        CTR-Sink, its code; section 4.2 of our notes.
    """

    def __init__(
        self,
        width: int,
        signal_width: int = 128,
        start_norm: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_positive(width=width, signal_width=signal_width)
        if not start_norm > 0:
            raise UserError(
                f"`start_norm` must be positive. Received: start_norm={start_norm}"
            )
        self.width = width
        self.signal_width = signal_width
        self.start_norm = start_norm

    def build(self, signals_shape: Shape | None = None) -> None:
        """Makes the table, `[100, D]`, and the map."""
        self.table = self.add_weight(
            name="table",
            shape=(NUM_SIGNALS, self.signal_width),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
        )
        deviation = self.start_norm / math.sqrt(self.signal_width * self.width)
        self.projection = keras.layers.Dense(
            self.width,
            kernel_initializer=keras.initializers.RandomNormal(stddev=deviation),
            dtype=self.dtype_policy,
            name="projection",
        )
        self.projection.build((None, None, self.signal_width))
        self.built = True

    def call(self, signals: Tensor) -> Tensor:
        """Looks up and maps."""
        one_hot = ops.one_hot(signals, NUM_SIGNALS, dtype=self.compute_dtype)
        return self.projection(ops.matmul(one_hot, self.table))

    def compute_output_shape(self, signals_shape: Shape) -> Shape:
        """One row a sink."""
        return (*signals_shape, self.width)

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "width": self.width,
            "signal_width": self.signal_width,
            "start_norm": self.start_norm,
        }
