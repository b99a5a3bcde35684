"""An order of behaviors that their time has no say in.

Shape suffixes: `B` batch, `N` behaviors, `T` tokens of an item's text.
"""

import numpy as np
from keras import ops

from ctr_tf.tensors import Tensor

_ROOM = 1 << 16  # of a hash's lowest bits, for the place; more behaviors than any text


def shuffled_order(tokens: Tensor) -> Tensor:
    """Places of the behaviors, in the order of a hash of their texts.

    Args:
        tokens: `[B, N, T]` int.

    Returns:
        `[B, N]` int32, a permutation of each row; equal texts stay in their order.
    """
    width, count = tokens.shape[2], tokens.shape[1]
    factors_T = np.random.default_rng(0).integers(1 << 60, 1 << 62, width) | 1
    hash_BN = ops.sum((ops.cast(tokens, "int64") + 1) * factors_T, axis=-1)
    hash_BN = hash_BN ^ ops.right_shift(hash_BN, 31)
    # Distinct, so that every backend sorts them alike.
    key_BN = hash_BN - hash_BN % _ROOM + np.arange(count)
    return ops.cast(ops.argsort(key_BN, axis=1), "int32")
