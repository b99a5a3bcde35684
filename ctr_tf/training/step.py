"""One step of training and evaluation: tables outside, the dense network compiled.

    rows       = gather of the batch's embedding rows             (no XLA)
    loss, logits, gradients of rows and dense weights             (XLA, if asked for)
    gradients  = sum over all replicas, tables' as IndexedSlices  (no XLA)
    optimizer  updates only the rows of the batch                 (no XLA)

The loss is the mean binary cross-entropy over all real candidates of the global batch:
each replica divides the sum over its own candidates by the count over all replicas.
What is trained on adds, one to one, that of a model's auxiliary logits; metrics, the
loss among them, are always those of the logits alone. With further tasks the loss is
the mean over the tasks, and labels and logits are `[B, C, T]` (see `Ranker`).

This module is TensorFlow, so that models can stay free of it.
"""

import time
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from ctr_tf.training import distribution
from ctr_tf.training.metrics import DefinedMean, LogitAUC
from ctr_tf.training.paired_optimizer import is_table
from ctr_tf.training.row_dropout import RowDropout


class Step:
    """What `Ranker.fit`, `evaluate` and `predict` do with a batch.

    Args:
        ranker: built; its optimizer is used.
        jit_compile: whether XLA compiles the dense computation.
        row_dropout: what training does to embedding rows; None: nothing.
    """

    def __init__(
        self, ranker, jit_compile: bool, row_dropout: RowDropout | None = None
    ):
        self.ranker = ranker
        self.row_dropout = row_dropout
        self.metrics = [
            keras.metrics.Mean("loss", dtype="float32"),
            LogitAUC(),
            DefinedMean("gauc_request", dtype="float32"),
            *(LogitAUC(f"auc_{task}") for task in ranker.tasks),
        ]
        self.input_seconds = 0.0
        weights = ranker.trainable_variables
        self._dense = [v for v in weights if not is_table(v)]
        options = {"jit_compile": jit_compile, "autograph": False}
        self._gradients = tf.function(self._gradients, **options)
        self._forward = tf.function(self._forward, **options)

    def train(self, data) -> dict:
        """Trains on one replica's share of a global batch.

        Args:
            data: `(inputs, labels, weights)`; see `ctr_tf.data`.

        Returns:
            The metrics so far.
        """
        inputs, labels, weights = data
        optimizer = self.ranker.optimizer
        count = _sum_over_replicas(tf.reduce_sum(weights))
        logits, losses, (of_rows, of_dense) = self._gradients(
            inputs,
            self._rows(inputs),
            labels,
            weights,
            optimizer.scale_loss(1 / tf.maximum(count, 1.0)),
        )
        pairs = [
            *_table_gradients(self.ranker.embedding, inputs, of_rows),
            *zip(of_dense, self._dense, strict=True),
        ]
        pairs = [pair for pair in pairs if pair[0] is not None]
        gradients = _sum_over_replicas([gradient for gradient, _ in pairs])
        optimizer.apply(gradients, [variable for _, variable in pairs])
        return self._update_metrics(labels, logits, weights, losses)

    def test(self, data) -> dict:
        """Evaluates one replica's share of a global batch; returns the metrics."""
        _, labels, weights = data
        logits = self.predict(data)
        losses = cross_entropy(labels, logits, weights)
        return self._update_metrics(labels, logits, weights, losses)

    def predict(self, data):
        """Logits `[B, C]`, with tasks `[B, C, T]`."""
        inputs = data[0] if isinstance(data, tuple) else data
        return self._forward(inputs, self.ranker.lookup(inputs))

    def _rows(self, inputs) -> dict:
        rows = self.ranker.lookup(inputs)
        if self.row_dropout is None:
            return rows
        keys = {name: key for name, (key, _) in self.ranker.embedding.lookups().items()}
        return self.row_dropout(rows, self.ranker.optimizer.iterations, keys)

    def _gradients(self, inputs, rows, labels, weights, scale):
        dense = [variable.value for variable in self._dense]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch((rows, dense))
            logits, auxiliary = self.ranker.forward_in_training(inputs, rows)
            losses = cross_entropy(labels, logits, weights)
            loss = tf.reduce_sum(losses)
            for more in auxiliary.values():
                main = self.ranker.by_task(labels)[0]
                loss += tf.reduce_sum(cross_entropy(main, more, weights))
            loss *= scale
        return logits, losses, tape.gradient(loss, (rows, dense))

    def _forward(self, inputs, rows):
        return self.ranker.forward(inputs, rows, training=False)

    def _update_metrics(self, labels, logits, weights, losses) -> dict:
        loss, auc, gauc, *further = self.metrics
        loss.update_state(tf.math.divide_no_nan(losses, weights), weights)
        labels, logits = (self.ranker.by_task(values) for values in (labels, logits))
        gauc.update_state(*request_auc(labels[0], logits[0], weights))
        for metric, label, logit in zip((auc, *further), labels, logits, strict=True):
            metric.update_state(label, logit, weights)
        return {metric.name: metric.result() for metric in self.metrics}

    def make_function(self, step: Callable) -> Callable[[Iterator], dict]:
        """A Keras train or test function: runs a step on an iterator's next batch.

        It differs from Keras' own in three points. It waits for the batch outside of
        the graph, so that the time it waited is known (`input_seconds`). It traces once
        for each history and slate length with the batch left open, because models rely
        on static shapes in all axes but the batch. And it reduces the logs in a way
        that every strategy allows (see `ctr_tf.training.distribution`).
        """
        strategy = self.ranker.distribute_strategy

        def on_replicas(data):
            logs = strategy.run(step, args=(data,))
            return distribution.reduce_logs(strategy, logs)

        functions: dict[tuple, Callable] = {}

        def function(iterator):
            started = time.perf_counter()
            data = next(iterator)
            self.input_seconds += time.perf_counter() - started
            if self.ranker.run_eagerly:
                return on_replicas(data)
            specs = tf.nest.map_structure(distribution.open_batch, data)
            key = tuple(str(spec) for spec in tf.nest.flatten(specs))
            if key not in functions:
                functions[key] = tf.function(
                    on_replicas, input_signature=(specs,), autograph=False
                )
            return functions[key](data)

        return function


def cross_entropy(labels, logits, weights):
    """Weighted binary cross-entropy of each candidate, `[B, C]` float32, 0 on padding.

    Args:
        labels: `[B, C]`, 0 … 1, or `[B, C, T]` for the mean over T tasks.
        logits: as the labels; those of padding candidates have no influence.
        weights: `[B, C]`, 0 on padding.
    """
    if len(labels.shape) == 3:
        tasks = (tf.unstack(values, axis=-1) for values in (labels, logits))
        losses = [cross_entropy(*task, weights) for task in zip(*tasks, strict=True)]
        return tf.add_n(losses) / len(losses)
    real = weights > 0
    logits = tf.where(real, tf.cast(logits, tf.float32), 0.0)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
    return tf.where(real, losses * weights, 0.0)


def request_auc(labels, logits, weights):
    """The AUC of each request's slate, and its weight in the mean over requests.

    Args:
        labels: `[B, C]`, 0 or 1.
        logits: `[B, C]`.
        weights: `[B, C]`, 0 on padding.

    Returns:
        AUC `[B]`, ties counted half, and weight `[B]`: the number of real candidates,
        or 0 where the slate lacks clicked or unclicked ones.
    """
    real = weights > 0
    count_B = tf.reduce_sum(tf.cast(real, tf.float32), -1)
    logits = tf.where(real, tf.cast(logits, tf.float32), tf.float32.min)
    ordered = tf.sort(logits)
    below = tf.searchsorted(ordered, logits, "left")
    not_above = tf.searchsorted(ordered, logits, "right")
    padding_B1 = tf.cast(tf.shape(labels)[1], tf.float32) - count_B[:, None]
    rank = tf.cast(below + not_above + 1, tf.float32) / 2 - padding_B1
    clicked = tf.cast(real & (labels > 0.5), tf.float32)
    clicks_B = tf.reduce_sum(clicked, -1)
    pairs_B = clicks_B * (count_B - clicks_B)
    wins_B = tf.reduce_sum(rank * clicked, -1) - clicks_B * (clicks_B + 1) / 2
    return tf.math.divide_no_nan(wins_B, pairs_B), tf.where(pairs_B > 0, count_B, 0)


def _sum_over_replicas(values):
    replica = tf.distribute.get_replica_context()
    return replica.all_reduce(tf.distribute.ReduceOp.SUM, values)


def _table_gradients(embedding, inputs, of_rows) -> list:
    """`(IndexedSlices, table)` of every table that any of the inputs goes through."""
    lookups_of_table: dict[str, list] = {}
    for name, (key, table_name) in embedding.lookups().items():
        if of_rows.get(name) is not None:
            lookups_of_table.setdefault(table_name, []).append((name, key))
    pairs = []
    for table_name, lookups in lookups_of_table.items():
        table = embedding.tables[table_name].table
        values = [
            tf.reshape(of_rows[name], (-1, table.shape[1])) for name, _ in lookups
        ]
        ids = [embedding.row_ids(inputs, key) for _, key in lookups]
        ids = [tf.reshape(tf.cast(i, tf.int64), (-1,)) for i in ids]
        shape = tf.constant(list(table.shape), tf.int64)
        gradient = tf.IndexedSlices(tf.concat(values, 0), tf.concat(ids, 0), shape)
        pairs.append((gradient, table))
    return pairs
