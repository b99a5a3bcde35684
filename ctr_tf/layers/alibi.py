"""ALiBi: the further back a key, the smaller its logit.

Shape suffixes: `B` batch, `H` heads, `Q` queries, `J` keys.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.layers.relative_encoding import HIDDEN, RelativeEncoding
from ctr_tf.tensors import Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class Alibi(RelativeEncoding):
    """``bias = - m_h (i - j)`` with the fixed slopes ``m_h = 2^(-8 h / H)``.

    Args:
        num_heads: H; h = 1 … H.

    Call arguments:
        relations: `[B, 2, Q, J]`, the distances i - j and what is hidden.

    Returns:
        `[B, H, Q, J]` float32.

    Reference:
        Press et al., Train Short, Test Long (ICLR 2022), section 3; an alternative of
        SparseCTR, section 4.4.3.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.layers import Alibi
        >>> distance, hidden = [[1.0, 4.0]], [[0.0, 0.0]]
        >>> bias = Alibi(num_heads=2)(np.array([[distance, hidden]], "float32"))
        >>> np.asarray(bias).tolist()  # of two heads, slopes 1/16 and 1/256
        [[[[-0.0625, -0.25]], [[-0.00390625, -0.015625]]]]
    """

    relations = ("distance",)

    def __init__(self, num_heads: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_heads = self.bias_heads = num_heads

    def call(self, relations: Tensor) -> Tensor:
        """Biases each head by its slope."""
        heads = range(1, self.num_heads + 1)
        slope_H = [2.0 ** (-8 * h / self.num_heads) for h in heads]
        slope_H11 = ops.array(slope_H, "float32")[:, None, None]
        distance, hidden = relations[:, 0, None], relations[:, 1, None]
        return HIDDEN * hidden - slope_H11 * distance

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {**super().get_config(), "num_heads": self.num_heads}
