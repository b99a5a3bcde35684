"""HSTU's bias: learned numbers for distances and for time differences.

Shape suffixes: `B` batch, `Q` queries, `J` keys.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.layers.relative_encoding import HIDDEN, RelativeEncoding
from ctr_tf.layers.temporal_relations import NUM_LOG_TIMES
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class HSTUBias(RelativeEncoding):
    """``bias = position[i - j] + time[bucket(|t_i - t_j|)]``, the same for all heads.

    ``bucket(x) = min(floor(ln(max(x, 1)) / 0.301), 128)``. Both tables are N(0, 0.02)
    and each block's own, but one for all blocks in SUAN. Queries and keys stand at
    their own times (ours; HSTU's authors take the query's next time, which is what it
    predicts).

    Args:
        max_distance: the largest i - j with a number of its own, at least 0; a history
            of N behaviors needs N.

    Call arguments:
        relations: `[B, 3, Q, J]`: the distances i - j, the buckets of the time
            differences, and what is hidden.

    Returns:
        `[B, 1, Q, J]` float32.

    Raises:
        UserError: if `max_distance` is negative.

    Reference:
        Zhai et al., Actions Speak Louder than Words (ICML 2024), section 3.2, and the
        authors' code; an alternative of SparseCTR, section 4.4.3.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.layers import FullKeys, HSTUBias
        >>> time, bias = np.array([[100, 160, 9_000]]), HSTUBias(max_distance=3)
        >>> plan, _ = FullKeys(bias.relations)(time, time > 0)
        >>> tuple(bias(plan["relations"]).shape)
        (1, 1, 3, 3)
    """

    relations = ("distance", "log_time")

    def __init__(self, max_distance: int, **kwargs: Any):
        super().__init__(**kwargs)
        if max_distance < 0:
            raise UserError(
                "`max_distance` must not be negative. "
                f"Received: max_distance={max_distance}"
            )
        self.max_distance = max_distance

    def build(self, input_shape: Shape | None = None) -> None:
        """Makes the tables, `[max_distance + 1]` and `[129]`, float32."""
        sizes = {"position": self.max_distance + 1, "time": NUM_LOG_TIMES}
        for name, size in sizes.items():
            weight = self.add_weight(
                name=name,
                shape=(size,),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
                dtype="float32",
                autocast=False,
            )
            setattr(self, name, weight)
        self.built = True

    def call(self, relations: Tensor) -> Tensor:
        """Looks every pair up."""
        distance = ops.minimum(relations[:, 0], self.max_distance)
        bias = ops.take(self.position.value, ops.cast(distance, "int32"))
        bias = bias + ops.take(self.time.value, ops.cast(relations[:, 1], "int32"))
        return (bias + HIDDEN * relations[:, 2])[:, None]

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {**super().get_config(), "max_distance": self.max_distance}
