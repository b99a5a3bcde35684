"""T5's bias: a learned number for each head and bucket of distances.

Shape suffixes: `B` batch, `H` heads, `Q` queries, `J` keys, `M` distances.
"""

import math
from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.layers.relative_encoding import HIDDEN, RelativeEncoding
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class T5Bias(RelativeEncoding):
    """``bias = table[bucket(i - j), h]``, the causal half of T5's buckets.

    The first half of the buckets hold one distance each, the others grow
    logarithmically up to `max_distance`; everything further is in the last one. Each
    block has its own table (ours; T5's layers share one), from N(0, 0.02).

    Args:
        num_heads: H.
        num_buckets: rows of the table.
        max_distance: where the last bucket begins at the latest.

    Call arguments:
        relations: `[B, 2, Q, J]`, the distances i - j and what is hidden.

    Returns:
        `[B, H, Q, J]` float32.

    Raises:
        UserError: unless ``2 <= num_buckets < max_distance``.

    Reference:
        Raffel et al., Exploring the Limits of Transfer Learning (JMLR 2020), section
        2.1; an alternative of SparseCTR, section 4.4.3.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.layers import FullKeys, T5Bias
        >>> time, bias = np.array([[100, 160, 9_000]]), T5Bias(num_heads=4)
        >>> plan, _ = FullKeys(bias.relations)(time, time > 0)
        >>> tuple(bias(plan["relations"]).shape)
        (1, 4, 3, 3)
    """

    relations = ("distance",)

    def __init__(
        self,
        num_heads: int,
        num_buckets: int = 32,
        max_distance: int = 128,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not 2 <= num_buckets < max_distance:
            raise UserError(
                f"`num_buckets` must be at least 2 and below `max_distance`="
                f"{max_distance}. Received: num_buckets={num_buckets}"
            )
        self.num_heads = self.bias_heads = num_heads
        self.num_buckets = num_buckets
        self.max_distance = max_distance

    def build(self, input_shape: Shape | None = None) -> None:
        """Makes the table, `[num_buckets, H]`, float32."""
        self.table = self.add_weight(
            name="table",
            shape=(self.num_buckets, self.num_heads),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            dtype="float32",
            autocast=False,
        )
        self.built = True

    def call(self, relations: Tensor) -> Tensor:
        """Looks every distance up."""
        # One row a distance, so that no pair needs a logarithm.
        buckets = [self._bucket(distance) for distance in range(self.max_distance + 1)]
        one_hot = ops.one_hot(buckets, self.num_buckets, dtype="float32")
        table_MH = ops.matmul(one_hot, self.table.value)
        distance = ops.minimum(relations[:, 0], self.max_distance)
        bias = ops.take(table_MH, ops.cast(distance, "int32"), axis=0)
        return ops.transpose(bias, (0, 3, 1, 2)) + HIDDEN * relations[:, 1, None]

    def _bucket(self, distance: int) -> int:
        exact = self.num_buckets // 2
        if distance < exact:
            return distance
        share = math.log(distance / exact) / math.log(self.max_distance / exact)
        bucket = exact + int(share * (self.num_buckets - exact))
        return min(bucket, self.num_buckets - 1)

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "num_buckets": self.num_buckets,
            "max_distance": self.max_distance,
        }
