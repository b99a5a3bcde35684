"""An embedding table whose step costs the same with any number of rows."""

from typing import Any

import keras
from keras import ops

from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class EmbeddingTable(keras.layers.Layer):
    """Rows of one vocabulary, read only by a resource gather.

    Args:
        rows: of the table, padding and out-of-vocabulary included.
        width: of a row.
        initializer: of the rows.

    Call arguments:
        ids: integer, any shape, in 0 … rows - 1.

    Returns:
        float32 `[..., width]`.
    """

    def __init__(
        self,
        rows: int,
        width: int,
        initializer: str | keras.initializers.Initializer = "default",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.rows = rows
        self.width = width
        self.initializer = (
            keras.initializers.RandomNormal(stddev=0.2)
            if initializer == "default"
            else keras.initializers.get(initializer)
        )

    def build(self, input_shape: Shape | None = None) -> None:
        """Makes the table, float32 under every precision policy."""
        self.table = self.add_weight(
            name="table",
            shape=(self.rows, self.width),
            initializer=self.initializer,
            dtype="float32",
            autocast=False,
        )
        self.built = True

    def call(self, ids: Tensor) -> Tensor:
        """Gathers rows."""
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            return tf.gather(self.table.value, ids)
        return ops.take(self.table.value, ids, axis=0)

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "rows": self.rows,
            "width": self.width,
            "initializer": keras.initializers.serialize(self.initializer),
        }
