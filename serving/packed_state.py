"""A state's many tensors ⇄ the few that travel, in the graph; see `serving.state`.

Shape suffixes: `B` batch, `F` values of all tensors of one dtype.
"""

import collections
from collections.abc import Mapping

import tensorflow as tf

from serving.state import STATE, StateLayout, StateTensor


def pack(state: Mapping[str, tf.Tensor], layout: StateLayout) -> dict[str, tf.Tensor]:
    """The tensors of each dtype side by side.

    Args:
        state: as the model's `encode` gives it.
        layout: names its tensors and the dtypes that they travel in.

    Returns:
        `state_<dtype>` → `[B, F]`.
    """
    return {
        STATE + dtype: tf.concat(
            [
                tf.cast(tf.reshape(state[tensor.name], [-1, tensor.size]), dtype)
                for tensor in tensors
            ],
            axis=1,
        )
        for dtype, tensors in _by_dtype(layout).items()
    }


def unpack(
    packed: Mapping[str, tf.Tensor],
    layout: StateLayout,
    specs: Mapping[str, tf.TensorSpec],
) -> dict[str, tf.Tensor]:
    """Inverse of `pack`.

    Args:
        packed: `state_<dtype>` → `[B, F]`.
        layout: that it was packed by.
        specs: of the model's tensors, in whose dtypes they are returned.
    """
    state = {}
    for dtype, tensors in _by_dtype(layout).items():
        sizes = [tensor.size for tensor in tensors]
        parts = tf.split(packed[STATE + dtype], sizes, axis=1)
        for tensor, part_BF in zip(tensors, parts, strict=True):
            part_BF = tf.cast(part_BF, specs[tensor.name].dtype)
            state[tensor.name] = tf.reshape(part_BF, [-1, *tensor.shape])
    return {key: state[key] for key in specs}


def _by_dtype(layout: StateLayout) -> dict[str, list[StateTensor]]:
    """Dtype → its tensors, both in the layout's order."""
    groups = collections.defaultdict(list)
    for tensor in layout.tensors:
        groups[tensor.dtype].append(tensor)
    return groups
