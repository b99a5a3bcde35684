"""Where the sinks of a text are, as a matrix: no row is gathered or scattered.

Shape suffixes: `B` batch, `S` sinks, `L` tokens, `W` width.
"""

from keras import ops

from ctr_tf.tensors import Tensor


def one_hot_places(place: Tensor, length: int) -> Tensor:
    """The matrix O.

    Args:
        place: `[B, S]` int, the index of each sink's token in its text; -1 for a sink
            that is missing.
        length: L.

    Returns:
        `[B, S, L]` float32; a missing sink's row is 0.
    """
    place = ops.cast(place, "int32")
    return ops.cast(place[..., None] == ops.arange(length), "float32")


def rows_at(places_BSL: Tensor, rows_BLW: Tensor) -> Tensor:
    """``O X``, rows of a text at its sinks, `[B, S, W]`; 0 for a missing one."""
    return ops.matmul(ops.cast(places_BSL, rows_BLW.dtype), rows_BLW)


def replace_rows(rows_BLW: Tensor, places_BSL: Tensor, new_BSW: Tensor) -> Tensor:
    """Rows of a text, those at its sinks replaced, `[B, L, W]`."""
    dtype = rows_BLW.dtype
    turned_BLS = ops.cast(ops.transpose(places_BSL, (0, 2, 1)), dtype)
    is_sink_BL1 = ops.any(places_BSL > 0, axis=1)[..., None]
    new_BLW = ops.matmul(turned_BLS, ops.cast(new_BSW, dtype))
    return ops.where(is_sink_BL1, new_BLW, rows_BLW)
