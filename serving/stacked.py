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
    """`at_once` for the tensors of each dtype, all of one shape."""
    groups = collections.defaultdict(dict)
    for key, value in tensors.items():
        groups[value.dtype][key] = value
    results = {}
    for group in groups.values():
        results |= at_once(function, group)
    return {key: results[key] for key in tensors}
