"""Padding to a few chosen sizes, within one graph.

A size that was never run before costs a plain graph several milliseconds at its first
use (kernels are prepared for each shape) and an XLA-compiled one seconds, so that
requests are padded to the next chosen size, and each size is warmed up when the model
is loaded.

* *Histories* have a static length in the models. Each size has a graph of its own, and
  `at_size` runs the one of the smallest that holds the batch's longest history: a short
  history costs what a short one costs.
* *Slates* may have any size; `pad_slate` pads them. Those larger than all stay as they
  are.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from ctr_tf.errors import UserError
from serving.stacked import by_dtype

_FEWEST_BEHAVIORS = 32
_MOST_SIZES = 4

_log = logging.getLogger(__name__)


def default_history_lengths(longest: int) -> tuple[int, ...]:
    """N and its halves: at most four sizes, none below 32."""
    sizes = [longest]
    while len(sizes) < _MOST_SIZES and sizes[0] >= 2 * _FEWEST_BEHAVIORS:
        sizes.insert(0, -(-sizes[0] // 2))
    return tuple(sizes)


def export_history_lengths(
    asked: Sequence[int], trained: Sequence[int]
) -> tuple[int, ...]:
    """The sizes of an export: those asked for, or those of the training.

    One size alone, of the training, is halved. Sizes beyond the training's are told.

    Args:
        asked: of the command line; empty: none.
        trained: that the training padded histories to.
    """
    sizes = tuple(asked) or tuple(trained)
    if not asked and len(sizes) == 1:
        return default_history_lengths(sizes[0])
    if max(sizes) > max(trained):
        _log.warning(
            "histories of up to %d behaviors are longer than any that the run was "
            "trained on, %d: what it makes of them was measured nowhere",
            *(max(sizes), max(trained)),
        )
    return sizes


def check_sizes(name: str, sizes: Sequence[int]) -> tuple[int, ...]:
    """The sizes as a tuple; UserError unless they are positive and ascending."""
    sizes = tuple(sizes)
    ascending = all(a < b for a, b in zip(sizes, sizes[1:], strict=False))
    if not sizes or sizes[0] < 1 or not ascending:
        raise UserError(
            f"`{name}` must be positive and ascending. Received: {list(sizes)}"
        )
    return sizes


def at_size(
    functions: Mapping[int, Callable[[], dict]], length_B: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Runs the function of the smallest size that holds all lengths.

    Args:
        functions: size → what to run, ascending; the last holds everything.
        length_B: of the rows.
    """
    sizes = tf.constant(list(functions), tf.int32)
    # Of an empty batch the maximum is the least integer: the smallest size.
    longest = tf.reduce_max(tf.cast(length_B, tf.int32))
    index = tf.minimum(tf.searchsorted(sizes, [longest])[0], len(functions) - 1)
    return tf.switch_case(index, list(functions.values()))


def pad_slate(
    inputs: dict[str, tf.Tensor], valid_BC: tf.Tensor, sizes: Sequence[int]
) -> tuple[dict, tf.Tensor]:
    """Candidates, padded on the right with 0 to the next size.

    Args:
        inputs: `[B, C]` each.
        valid_BC: bool; what is not valid becomes 0, too.
        sizes: ascending.

    Returns:
        The padded inputs and which of them are valid.
    """
    count = tf.shape(valid_BC)[1]
    index = tf.searchsorted(tf.constant(sizes, tf.int32), [count])[0]
    padding = tf.gather(tf.concat([sizes, [count]], axis=0), index) - count

    def pad(value_BCF):
        value_BCF = tf.where(
            valid_BC[..., None], value_BCF, tf.zeros([], value_BCF.dtype)
        )
        return tf.pad(value_BCF, [[0, 0], [0, padding], [0, 0]])

    return by_dtype(pad, inputs), tf.pad(valid_BC, [[0, 0], [0, padding]])


def pad_left(value: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    """Pads every axis but the batch on the left, with 0 or False, to a shape."""
    more = [
        wanted - size for size, wanted in zip(value.shape[1:], shape[1:], strict=True)
    ]
    return tf.pad(value, [(0, 0), *((n, 0) for n in more)]) if any(more) else value
