"""Training on several devices or machines, and what Keras 3 needs for that.

`model.fit` of Keras 3 on TensorFlow fails under `MultiWorkerMirroredStrategy`
(keras-team/keras issue 20585). There are two causes in its TensorFlow trainer:

1. `_maybe_symbolic_build` reduces the first distributed batch by
   `strategy.reduce("MEAN", …)`, which the collective strategy refuses. Rankers are
   built from their schema and need no batch: `Trainer` overrides the method.
2. `reduce_per_replica` reduces scalar logs with `axis=0`, which a scalar has not.
   `Trainer` makes its train and test functions itself and reduces by `reduce_logs`.

When Keras mends them, `reduce_logs` and the override in `Trainer` can go.
"""

import gc
import json
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ctr_tf.errors import UserError, unknown_name

STRATEGIES = ("none", "mirrored", "multi_worker")
_JOBS = ("chief", "worker")
_SECONDS_TO_LEAVE = 60  # that worker 0 gives the others at the end of a training


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Makes a distribution strategy.

    Args:
        name: `"none"`; `"mirrored"`, over all accelerators of this machine (or all
            logical CPUs where it has none); `"multi_worker"`, over the machines that
            the environment variable `TF_CONFIG` lists as `worker`, one of them perhaps
            as `chief`.

    Raises:
        UserError: for an unknown name, or `multi_worker` without `TF_CONFIG` or with
            one that lists or is another job.
    """
    if name not in STRATEGIES:
        raise UserError(unknown_name("distribution", name, STRATEGIES))
    if name == "mirrored":
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        devices = tf.config.list_logical_devices(kind)
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if name == "multi_worker":
        _check_cluster(os.environ.get("TF_CONFIG"))
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.get_strategy()


def _check_cluster(text: str | None) -> None:
    try:
        config = json.loads(text or "{}")
        jobs = {*config["cluster"], config["task"]["type"]}
        config["cluster"][config["task"]["type"]][int(config["task"]["index"])]
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(
            "Distribution 'multi_worker' needs the cluster and this worker's task "
            f"in TF_CONFIG. Received: TF_CONFIG={text!r}"
        ) from error
    if not jobs <= set(_JOBS):
        raise UserError(
            "Distribution 'multi_worker' has the jobs 'chief' and 'worker', all of "
            f"which train. Received: TF_CONFIG={text!r}"
        )


def worker(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """This worker's index and the number of workers; a chief is the first of them."""
    workers = _workers(strategy)
    if not workers:
        return 0, 1
    resolver = strategy.cluster_resolver
    return list(workers).index((resolver.task_type, resolver.task_id)), len(workers)


def _workers(strategy: tf.distribute.Strategy) -> dict[tuple[str, int], str]:
    """Job and task → address, of all workers; the first coordinates the others."""
    resolver = strategy.cluster_resolver
    if resolver is None:
        return {}
    cluster = resolver.cluster_spec()
    return {
        (job, task): cluster.task_address(job, task)
        for job in _JOBS
        if job in cluster.jobs
        for task in cluster.task_indices(job)
    }


def distribute(
    strategy: tf.distribute.Strategy, make_dataset: Callable[..., tf.data.Dataset]
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """The batches of this worker, for `fit` and `evaluate`.

    Every worker reads its share of each global batch, and each of its replicas takes a
    share of that: samples i, i + n, i + 2n, … So all replicas together train on the
    same global batches as one process would.

    Args:
        strategy: from `make_strategy`.
        make_dataset: called with `num_shards` and `shard_index`, which number the
            workers; see `ctr_tf.data.dataset`.

    Returns:
        A dataset that Keras takes as it is.
    """
    index, workers = worker(strategy)
    dataset = make_dataset(num_shards=workers, shard_index=index)
    replicas = strategy.num_replicas_in_sync // workers
    if strategy.num_replicas_in_sync == 1:
        return dataset
    if replicas > 1:
        dataset = dataset.flat_map(lambda *batch: _shares(batch, replicas))
    return strategy.distribute_datasets_from_function(lambda _: dataset)


def _shares(batch: tuple, count: int) -> tf.data.Dataset:
    def share(index):
        return tf.nest.map_structure(lambda x: x[index::count], batch)

    return tf.data.Dataset.range(count).map(share)


def reduce_logs(strategy: tf.distribute.Strategy, logs: dict) -> dict:
    """Means over the replicas, of scalars."""
    return {key: strategy.reduce("MEAN", v, axis=None) for key, v in logs.items()}


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Waits until every worker has come to this place.

    Worker 0 coordinates the others: if it left first, they would take it for lost. So
    it stays until their ports are closed. Then it must leave at once, or it takes them
    for lost: so iterators, whose end may take long, are ended before.
    """
    index, count = worker(strategy)
    if count > 1:
        gc.collect()
        meet = tf.function(lambda: strategy.run(lambda: tf.constant(1.0)))
        strategy.reduce("SUM", meet(), axis=None)
        if index == 0:
            _wait_until_closed(list(_workers(strategy).values())[1:])


def _wait_until_closed(addresses: list[str]) -> None:
    latest = time.monotonic() + _SECONDS_TO_LEAVE
    for address in addresses:
        while time.monotonic() < latest and _is_open(address):
            time.sleep(0.1)


def _is_open(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def open_batch(value: Any) -> tf.TypeSpec:
    """The type of a tensor, or of one tensor a replica, with its first axis open."""
    spec = tf.type_spec_from_value(value)
    if isinstance(spec, tf.TensorSpec):
        return tf.TensorSpec((None, *spec.shape[1:]), spec.dtype)
    parts = [open_batch(part) for part in value.values]
    return type(spec)(*parts)
