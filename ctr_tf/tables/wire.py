"""What workers tell each other of rows: collectives of equal shapes, met by keys.

They run on the processors of the workers, over the cluster that the strategy has set
up, in a group of their own. A collective of TensorFlow meets those of the other workers
by a key, and a key keeps its shape for good: so keys are made of shapes.
"""

import tensorflow as tf

from ctr_tf.tables.shard import Shard

_GROUP = 1 << 20  # the strategy counts its own groups from 1
_SIZES = 1 << 24  # keys of one purpose
_PLACES = 127 * _SIZES  # the key by which workers find their places


class Wire:
    """Collectives over all workers; every worker must make the same calls.

    Args:
        shard: this worker's, of as many as there are workers.
    """

    def __init__(self, shard: Shard):
        self._worker = shard.index
        self._found: list[int] = []
        self._options = {"group_size": shard.count, "group_key": _GROUP}

    def exchange(self, values: tf.Tensor, purpose: int) -> tf.Tensor:
        """Gives the i-th part to the i-th worker, and gets what that has for this one.

        Args:
            values: `[workers, capacity, …]`, of one shape on all workers.
            purpose: a number that no other exchange of a step has.

        Returns:
            Of `values`' shape, the i-th part from the i-th worker.
        """
        key = purpose * _SIZES + tf.shape(values)[1]
        workers = self._worker_of_place()
        if workers == sorted(workers):
            found = self.all_to_all(values, key)
        else:
            place_of_worker = [workers.index(worker) for worker in sorted(workers)]
            found = self.all_to_all(tf.gather(values, workers), key)
            found = tf.gather(found, place_of_worker)
        return tf.ensure_shape(found, values.shape)

    def _worker_of_place(self) -> list[int]:
        """The collective's order: by the names of devices, so that 10 is before 2."""
        if not self._found:
            with tf.init_scope(), tf.device("CPU:0"):
                own = tf.fill([self._options["group_size"], 1], self._worker)
                found = self.all_to_all(own, tf.constant(_PLACES))
                self._found = found.numpy()[:, 0].tolist()
        return self._found

    def all_to_all(self, values: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """As `exchange`, with parts in the collective's order of workers."""
        return tf.raw_ops.CollectiveAllToAllV2(
            input=values, instance_key=key, ordering_token=[], **self._options
        )

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
