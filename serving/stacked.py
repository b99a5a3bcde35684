"""One operation for many tensors.

A request is small, and so most operations on one cost what it takes to start them. What
is done to every feature alike is therefore done to all of them stacked.

Shape suffixes: `F` features.
"""

import collections
from collections.abc import Callable

import tensorflow as tf


def at_once(function: Callable, tensors: dict[str, tf.Tensor]) -> dict:
    """Applies a function to tensors of one shape and dtype.

    Args:
        function: takes them as `[…, F]`, and returns as many.
        tensors: `[…]` each.
    """
    stacked = function(tf.stack(list(tensors.values()), axis=-1))
    return dict(zip(tensors, tf.unstack(stacked, len(tensors), axis=-1), strict=True))


def by_dtype(function: Callable, tensors: dict[str, tf.Tensor]) -> dict:
    """`at_once` for the tensors of each dtype, all of one shape.

    Lists of values have one axis more, and come as one tensor for each of its places.
    """
    axes = min(value.shape.rank for value in tensors.values())
    groups: dict[tf.DType, dict] = collections.defaultdict(dict)
    for key, value in tensors.items():
        parts = [value] if value.shape.rank == axes else tf.unstack(value, axis=-1)
        for place, part in enumerate(parts):
            groups[value.dtype][key, place] = part
    results: dict[tuple[str, int], tf.Tensor] = {}
    for group in groups.values():
        results |= at_once(function, group)
    return {
        key: results[key, 0]
        if value.shape.rank == axes
        else tf.stack([results[key, i] for i in range(value.shape[-1])], axis=-1)
        for key, value in tensors.items()
    }
