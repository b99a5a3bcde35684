"""Padding whole batches at once: one index for all features of a group.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates.
"""

from typing import Any

import tensorflow as tf


def left_index(row_splits: tf.Tensor, size: tf.Tensor | int) -> tf.Tensor:
    """Where each place of a left-padded batch finds its value among the flat values.

    Args:
        row_splits: `[B + 1]` of the ragged group.
        size: N; longer rows keep their last N values.

    Returns:
        `[B, N]`; padding points behind the last flat value.
    """
    index = row_splits[1:, None] - tf.range(size, 0, -1, dtype=row_splits.dtype)
    return tf.where(index >= row_splits[:-1, None], index, row_splits[-1])


def right_index(row_splits: tf.Tensor, size: tf.Tensor | int) -> tf.Tensor:
    """As `left_index`, for right padding; `size` must hold the longest row."""
    index = row_splits[:-1, None] + tf.range(size, dtype=row_splits.dtype)
    return tf.where(index < row_splits[1:, None], index, row_splits[-1])


def pad(flat_values: tf.Tensor, index: tf.Tensor, padding: Any = 0) -> tf.Tensor:
    """Gathers flat values, or rows of values, to their places; `padding` elsewhere."""
    last = tf.constant(padding, flat_values.dtype, [1, *flat_values.shape[1:]])
    return tf.gather(tf.concat([flat_values, last], axis=0), index)
