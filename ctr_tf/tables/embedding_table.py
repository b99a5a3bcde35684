"""An embedding table whose step costs the same with any number of rows."""

import contextlib
import random
from typing import Any

import keras
import numpy as np
from keras import ops

from ctr_tf.tables.row_normal import row_normal
from ctr_tf.tables.shard import Shard
from ctr_tf.tensors import Shape, Tensor

_STDDEV = 0.2


@keras.saving.register_keras_serializable(package="ctr_tf")
class EmbeddingTable(keras.layers.Layer):
    """Rows of one vocabulary, read only by a resource gather.

    New rows are normal numbers, each row's by the seed and its own number alone.

    Args:
        rows: of the table, padding and out-of-vocabulary included.
        width: of a row.
        seed: of new rows; drawn like those of Keras' initializers where None.

    Attributes:
        shard: the rows that are here; all of them, but where `cut` said otherwise.

    Call arguments:
        ids: integer, any shape, in 0 … rows - 1.

    Returns:
        float32 `[..., width]`.
    """

    def __init__(self, rows: int, width: int, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.rows = rows
        self.width = width
        self.seed = random.randint(1, 10**9) if seed is None else seed
        self.shard = Shard()

    def cut(self, shard: Shard) -> None:
        """Decides, before the table is made, which rows are here.

        Whoever keeps the other rows looks rows up (`ctr_tf.tables.sharded`); a call
        cannot.
        """
        assert not self.built
        self.shard = shard

    def build(self, input_shape: Shape | None = None) -> None:
        """Makes the table, float32 under every precision policy."""
        with self._where():
            self.table = self.add_weight(
                name="table",
                shape=(len(self.shard.rows(self.rows)), self.width),
                initializer=self._new_rows,
                dtype="float32",
                autocast=False,
            )
        self.built = True

    def _where(self) -> contextlib.AbstractContextManager:
        if self.shard.is_whole:
            return contextlib.nullcontext()
        from ctr_tf.tables.own_variables import own_variables

        return own_variables()

    def _new_rows(self, shape: Shape, dtype: str) -> Tensor:
        rows = self.shard.rows(self.rows)
        values: np.ndarray = row_normal(rows, self.width, _STDDEV, self.seed)
        return ops.convert_to_tensor(values, dtype)

    def call(self, ids: Tensor) -> Tensor:
        """Gathers rows."""
        assert self.shard.is_whole
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
            "seed": self.seed,
        }
