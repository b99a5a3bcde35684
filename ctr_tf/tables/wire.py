"""What workers tell each other of rows: collectives of equal shapes, met by keys.

They run on the processors of the workers, over the cluster that the strategy has set
up, in a group of their own. A collective of TensorFlow meets those of the other workers
by a key, and a key keeps its shape for good: so keys are made of shapes.
"""

import tensorflow as tf

_GROUP = 1 << 20  # the strategy counts its own groups from 1
_SIZES = 1 << 24  # keys of one purpose


class Wire:
    """Collectives over all workers; every worker must make the same calls.

    Args:
        workers: number of them.
    """

    def __init__(self, workers: int):
        self._options = {"group_size": workers, "group_key": _GROUP}
        self._workers = workers

    def exchange(self, values: tf.Tensor, purpose: int) -> tf.Tensor:
        """Gives the i-th part to the i-th worker, and gets what that has for this one.

        Args:
            values: `[workers, capacity, …]`, of one shape on all workers.
            purpose: a number that no other exchange of a step has.

        Returns:
            Of `values`' shape, the i-th part from the i-th worker.
        """
        key = purpose * _SIZES + tf.shape(values)[1]
        found = tf.raw_ops.CollectiveAllToAllV2(
            input=values, instance_key=key, ordering_token=[], **self._options
        )
        return tf.ensure_shape(found, values.shape)

    def reduce(self, values: tf.Tensor, how: str, purpose: int) -> tf.Tensor:
        """Puts the values of all workers together.

        Args:
            values: of one shape on all workers.
            how: `"Max"` or `"Add"`.
            purpose: a number that no other reduction of a step has.
        """
        found = tf.raw_ops.CollectiveReduceV2(
            input=values,
            instance_key=-(purpose * _SIZES + values.shape.num_elements()),
            merge_op=how,
            final_op="Id",
            ordering_token=[],
            **self._options,
        )
        return tf.ensure_shape(found, values.shape)
