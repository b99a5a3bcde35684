"""Variables that a distribution strategy leaves alone."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf
from tensorflow.python.ops.resource_variable_ops import default_variable_creator_v2


@contextlib.contextmanager
def own_variables() -> Iterator[None]:
    """Variables made inside are of this process alone, in its host's memory.

    In the scope of a strategy they would be its, made equal on all workers; TensorFlow
    has no public way around that.
    """

    def create(_, **options):
        with tf.device("CPU:0"):
            return default_variable_creator_v2(None, **options)

    with tf.variable_creator_scope(create):
        yield
