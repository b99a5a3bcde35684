"""The temporal bias of every attention logit.

Shape suffixes: `B` batch, `H` heads, `Q` queries, `J` keys, `R` relations.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.layers.relative_encoding import HIDDEN, RelativeEncoding
from ctr_tf.layers.temporal_relations import RELATIONS, check_relations
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class RelTemporal(RelativeEncoding):
    """Weighs the temporal relations of each query and key, by head.

    ``bias = - time * s1_h - hour * s2_h - weekend * s3_h``, with the matrices of
    `temporal_relations`; a key that is hidden gets -1e9 on top. The matrices are
    computed once a forward pass; the scales s are each block's own, and shared by the
    branches of its attention (ours). All of it is float32 under every policy (on a GPU,
    TensorFlow rounds the scales to TF32 unless it is told not to).

    Args:
        num_heads: H. Head h = 1 … H begins with ``s = (2^(-8/H))^(h-1)``.
        relations: which of `"time"`, `"hour"`, `"weekend"`.

    Call arguments:
        relations: `[B, R, Q, J]` float32 from `temporal_relations`.

    Returns:
        `[B, H, Q, J]` float32.

    Raises:
        UserError: for an unknown relation.

    Reference:
        SparseCTR, section 3.5, equations 12 to 15.

    Example:
        >>> import numpy as np
        >>> from keras import ops
        >>> from ctr_tf.layers import FullKeys, RelTemporal
        >>> time, encoding = np.array([[100, 164]]), RelTemporal(2, relations=("time",))
        >>> plan, _ = FullKeys(encoding.relations)(time, time > 0)
        >>> bias = ops.convert_to_numpy(encoding(plan["relations"]))
        >>> bias[0, :, 1].tolist()  # of two heads: log2 of 64 s, and of 0
        [[-6.0, 0.0], [-0.375, 0.0]]
    """

    def __init__(
        self, num_heads: int, relations: tuple[str, ...] = RELATIONS, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.num_heads = self.bias_heads = num_heads
        self.relations = check_relations(relations)

    def build(self, input_shape: Shape | None = None) -> None:
        """Makes the scales, `[len(relations), H]`, float32."""
        start_H = [2.0 ** (-8 / self.num_heads * h) for h in range(self.num_heads)]
        self.scale = self.add_weight(
            name="scale",
            shape=(len(self.relations), self.num_heads),
            initializer=lambda shape, dtype: ops.tile(
                ops.convert_to_tensor(start_H, dtype)[None], (shape[0], 1)
            ),
            dtype="float32",
            autocast=False,
        )
        self.built = True

    def call(self, relations: Tensor) -> Tensor:
        """Weighs the relations."""
        batch, count, queries, keys = relations.shape
        hidden_1H = ops.full((1, self.num_heads), HIDDEN, dtype="float32")
        weight_RH = ops.concatenate([-self.scale.value, hidden_1H], axis=0)
        flat = ops.reshape(relations, (-1, count, queries * keys))
        bias = ops.matmul(ops.transpose(weight_RH), flat)
        return ops.reshape(bias, (-1, self.num_heads, queries, keys))

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "relations": list(self.relations),
        }
