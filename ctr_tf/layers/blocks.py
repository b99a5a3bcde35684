"""Parts of histories, counted from the newest behavior, so that padding moves none.

Shape suffixes: `B` batch, `N` behaviors, `P` blocks, `L` behaviors a block.
"""

from keras import ops

from ctr_tf.tensors import Tensor


def to_blocks(inputs: Tensor, length: int) -> Tensor:
    """`[B, N, …]` → `[B, P, L, …]`: zeros on the left fill up the oldest block."""
    filled = fill_blocks(inputs, length)
    _, rows, *more = filled.shape
    return ops.reshape(filled, (-1, rows // length, length, *more))


def fill_blocks(inputs: Tensor, length: int) -> Tensor:
    """`[B, N, …]` → `[B, P L, …]`: zeros on the left, until `length` divides N."""
    return _pad_left(inputs, -inputs.shape[1] % length)


def last_rows(inputs: Tensor, count: int) -> Tensor:
    """The last rows of `[B, N, …]`, zeros on the left where there are fewer."""
    return _pad_left(inputs[:, -count:], max(count - inputs.shape[1], 0))


def _pad_left(inputs: Tensor, count: int) -> Tensor:
    if not count:
        return inputs
    return ops.pad(inputs, ((0, 0), (count, 0), *[(0, 0)] * (len(inputs.shape) - 2)))
