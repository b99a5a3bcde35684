"""Trains on hand-made global batches and writes all weights; see test_distribution."""

import json
import logging
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from helpers import (
    make_inputs,
    make_labels,
    make_schema,
    make_table_sizes,
    make_trainer,
)

from ctr_tf.models import build_ranker
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
from ctr_tf.training.checkpoints import Checkpoints, Progress
from ctr_tf.training.distribution import distribute, make_strategy, shard_of
from ctr_tf.training.optimizers import OptimizerConfig

SCHEMA = make_schema()
CONFIG = SparseCTRConfig(
    dim=8, num_heads=2, num_blocks=1, num_chunks=4, candidate_tower=(8,)
)


def global_batches(num_shards, shard_index):
    """Three batches of eight; shares differ in their numbers of real candidates."""
    batches = []
    for seed in range(3):
        inputs = make_inputs(SCHEMA, batch=8, seed=seed)
        batches.append((inputs, *make_labels(inputs, seed=seed)))
    stacked = tf.nest.map_structure(lambda *x: np.concatenate(x), *batches)
    dataset = tf.data.Dataset.from_tensor_slices(stacked).batch(8).repeat()
    return dataset.map(
        lambda *batch: tf.nest.map_structure(
            lambda x: x[shard_index::num_shards], batch
        )
    )


def train(distribution, precision, checkpoints=None, tables="replicated"):
    """Trains six steps of two epochs; returns weights, slots and an evaluation."""
    strategy = make_strategy(distribution)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        sizes, shard = make_table_sizes(SCHEMA), shard_of(tables, strategy)
        ranker = build_ranker(CONFIG, SCHEMA, sizes, precision, shard=shard)
        # Dense Adam would divide rounding errors by rounding errors where a gradient
        # is 0 by symmetry, as that of a bias under a softmax is.
        options = OptimizerConfig("sgd", learning_rate=0.01, global_clipnorm=0.5)
        scaling = precision == "mixed_float16"
        trainer = make_trainer(ranker, options, loss_scaling=scaling)
    batches = distribute(strategy, global_batches)
    trainer.fit(batches, epochs=2, steps_per_epoch=3, shuffle=False, verbose=0)
    values = trainer.evaluate(batches, steps=3, verbose=0, return_dict=True)
    if checkpoints:
        own = Checkpoints(checkpoints, trainer)
        own.save(Progress(step=6))
        assert own.restore().step == 6
        own.restore_metrics()
        again = {k: float(v) for k, v in trainer.get_metrics_result().items()}
        assert all(abs(again[k] - v) < 1e-6 for k, v in values.items()), (again, values)
    slots = [*trainer.optimizer.variables, *trainer.store.optimizer.variables]
    variables = [*ranker.variables, *slots]
    return [v.numpy() for v in variables], values


if __name__ == "__main__":
    logging.disable()
    distribution, precision, output, devices, tables = sys.argv[1:]
    if int(devices) > 1:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * int(devices),
        )
    folder = Path(output).with_name("checkpoints")  # one for all workers
    arrays, values = train(distribution, precision, folder, tables)
    np.savez(output, *arrays)
    print(json.dumps(values))
