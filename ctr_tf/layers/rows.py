"""Maps of single rows, on all rows of a tensor.

Shape suffixes: `B` batch, `Q` rows of a sample, `D` width.
"""

from collections.abc import Callable

from keras import ops

from ctr_tf.tensors import Tensor


def by_rows(function: Callable, inputs_BQD: Tensor) -> Tensor:
    """Applies a map of rows `[R, D]` → `[R, E]` to `[B, Q, D]`: `[B, Q, E]`.

    The same as the map itself, but each of its products is one of two matrices. On
    three axes of which two are unknown TensorFlow spends a dozen operations on finding
    out the shapes, every time; in serving that is most of the work.
    """
    count = ops.shape(inputs_BQD)[1]
    outputs = function(ops.reshape(inputs_BQD, (-1, inputs_BQD.shape[2])))
    return ops.reshape(outputs, (-1, count, outputs.shape[1]))
