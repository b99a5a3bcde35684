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

import functools
import gc
import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.tables.shard import Shard

STRATEGIES = ("none", "mirrored", "multi_worker")
TABLES = ("replicated", "sharded")
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
        UserError: for an unknown name; `multi_worker` without `TF_CONFIG` or with one
            that lists or is another job; another one where it lists several workers.
    """
    if name not in STRATEGIES:
        raise UserError(unknown_name("distribution", name, STRATEGIES))
    if name != "multi_worker":
        _check_alone(name)
    if name == "mirrored":
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        devices = tf.config.list_logical_devices(kind)
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    if name == "multi_worker":
        _check_cluster(os.environ.get("TF_CONFIG"))
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.get_strategy()


def worker_of_environment() -> tuple[int, int]:
    """As `worker`, by what TF_CONFIG says alone; one that is alone is 0 of 1."""
    config = json.loads(os.environ.get("TF_CONFIG") or "{}")
    jobs = config.get("cluster", {})
    workers = [(job, place) for job in _JOBS for place in range(len(jobs.get(job, ())))]
    if not workers:
        return 0, 1
    task = config.get("task", {})
    me = task.get("type"), int(task.get("index", 0))
    return workers.index(me) if me in workers else 0, len(workers)


def _check_alone(name: str) -> None:
    _, count = worker_of_environment()
    if count > 1:
        raise UserError(
            f"TF_CONFIG lists {count} workers, each of which would train by itself: "
            "they train together with `training.distribution=multi_worker`. "
            f"Received: training.distribution={name}"
        )


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


def shard_of(tables: str, strategy: tf.distribute.Strategy) -> Shard:
    """The rows of the tables that learn which are this worker's.

    Args:
        tables: `"replicated"` or `"sharded"`.
        strategy: from `make_strategy`.

    Raises:
        UserError: if tables are sharded, and a worker has more than one replica.
    """
    index, workers = worker(strategy)
    replicas = strategy.num_replicas_in_sync
    if tables == "replicated":
        return Shard()
    if replicas > workers:
        raise UserError(
            "Tables are sharded over workers of one replica each: show every worker "
            "one device, by CUDA_VISIBLE_DEVICES, and start one for each. Received: "
            f"training.tables=sharded, workers={workers}, replicas={replicas}"
        )
    return Shard(index, workers)


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


def told_by_all(strategy: tf.distribute.Strategy, numbers: Sequence[int]) -> np.ndarray:
    """What every worker says; all must come to this place.

    Args:
        strategy: from `make_strategy`.
        numbers: this worker's; as many on all workers.

    Returns:
        int64 `[workers, len(numbers)]`, in the order of the workers.
    """
    index, count = worker(strategy)
    if count == 1:
        return np.array([numbers], np.int64)
    own = np.zeros((count, len(numbers)), np.int64)
    own[index] = numbers
    said = _on_replicas(strategy)(tf.constant(own))
    total = strategy.reduce("SUM", said, axis=None).numpy()
    return total // (strategy.num_replicas_in_sync // count)


def texts_of_all(strategy: tf.distribute.Strategy, text: str) -> list[str]:
    """As `told_by_all`, of a text of each worker."""
    own = text.encode()
    sizes = told_by_all(strategy, [len(own)])[:, 0]
    told = told_by_all(strategy, [*own, *[0] * (int(sizes.max()) - len(own))])
    return [
        bytes(row[:size].astype(np.uint8)).decode()
        for row, size in zip(told, sizes, strict=True)
    ]


@functools.lru_cache(maxsize=1)  # traced once
def _on_replicas(strategy: tf.distribute.Strategy) -> Callable:
    """Gives a tensor to each replica of this worker."""
    return tf.function(
        lambda own: strategy.run(tf.identity, args=(own,)),
        input_signature=[tf.TensorSpec([None, None], tf.int64)],
        autograph=False,
    )


def together(
    strategy: tf.distribute.Strategy, what: str, action: Callable[[], None]
) -> None:
    """Does something on all workers; where it fails on one of them, on all.

    Args:
        strategy: from `make_strategy`.
        what: is done, to be named.
        action: this worker's part of it.

    Raises:
        OSError: on the workers whose own part was done, names the others. These raise
            what `action` does.
    """
    failed: list[Exception] = []
    try:
        action()
    except Exception as error:
        failed.append(error)
    told = told_by_all(strategy, [len(failed)])[:, 0]
    if failed:
        raise failed[0]
    if told.any():
        raise OSError(f"{what} failed on {named(told)}, whose log says why.")


def named(told: np.ndarray) -> str:
    """The workers whose number is not 0."""
    workers = [str(index) for index in np.flatnonzero(told)]
    return f"worker{'s' if len(workers) > 1 else ''} {', '.join(workers)}"


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Waits until every worker has come to this place.

    Worker 0 coordinates the others: if it left first, they would take it for lost. So
    it stays until their ports are closed. Then it must leave at once, or it takes them
    for lost: so iterators, whose end may take long, are ended before.
    """
    index, count = worker(strategy)
    if count > 1:
        gc.collect()
        told_by_all(strategy, [0])
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
