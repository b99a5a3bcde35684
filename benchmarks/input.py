"""What tf.data delivers beside what training consumes, at N = 1024.

    ctr-tf bench input [--batch_size 32] [--seconds 5] [--json]

Writes a data set of random samples with 1,024 behaviors and 10 candidates, and then
measures, on the same machine and one after the other,

* the input alone: the training stream of `ctr_tf.data.dataset` (read, shuffle, parse,
  pad, encode), examples/s;
* training alone: steps of SparseCTR (S2, d = 32, two blocks, row-wise Adam) on one
  batch that is there already, plain and compiled by XLA, examples/s;

each after a warm-up. `ratio` is the input's over the faster of the two steps; input and
training share the cores in a real run, where a ratio of 3 means that the input takes
about a quarter of the machine.
"""

import argparse
import json
import logging
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.schemas import bench_schema

HISTORY_LENGTH = 1_024
CANDIDATES = 10
_SAMPLES = 512
_VALUES = 10_000

_log = logging.getLogger(__name__)


def write_samples(folder: Path) -> None:
    """Writes the data set that is read."""
    from ctr_tf.synthetic import random_samples as samples

    schema = bench_schema(HISTORY_LENGTH)
    vocabularies = samples.random_vocabularies(schema, _VALUES)
    random = np.random.default_rng(0)
    drawn = [
        samples.random_sample(schema, vocabularies, random, HISTORY_LENGTH, CANDIDATES)
        for _ in range(_SAMPLES)
    ]
    samples.write_prepared(folder, schema, vocabularies, {"train": drawn}, shards=8)


def rate(step, batch_size: int, seconds: float) -> float:
    """Examples/s of a step that takes one batch, after a warm-up of three."""
    for _ in range(3):
        step()
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        step()
        steps += 1
    return steps * batch_size / (time.perf_counter() - started)


def _input_rate(batches, config, seconds: float) -> float:
    iterator = iter(batches)
    return rate(lambda: next(iterator), config.batch_size, seconds)


def _training_rate(data, batch, config, seconds: float, jit_compile: bool) -> float:
    import tensorflow as tf

    from ctr_tf.models import build_ranker
    from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
    from ctr_tf.training.objective import ObjectiveConfig, make_objective
    from ctr_tf.training.optimizers import OptimizerConfig, make_optimizer
    from ctr_tf.training.trainer import Trainer

    ranker = build_ranker(
        SparseCTRConfig(sparsity="S2", dim=32, num_blocks=2),
        data.schema,
        data.vocabularies.table_sizes(data.schema),
    )
    trainer = Trainer(make_objective(ObjectiveConfig(), ranker), ranker)
    optimizer = make_optimizer(OptimizerConfig(), trainer.tables, 1_000)
    trainer.compile(optimizer, jit_compile=jit_compile)
    train = trainer.make_train_function()
    batches = iter(tf.data.Dataset.from_tensors(batch).cache().repeat())

    def step():
        float(train(batches)["loss"])  # waits for the step to end

    return rate(step, config.batch_size, seconds)


def measure(batch_size: int = 32, seconds: float = 5.0) -> dict:
    """Measures input and training.

    Args:
        batch_size: samples of a batch, for both.
        seconds: each measurement takes.

    Returns:
        Examples/s of each and the ratio.
    """
    from ctr_tf.data.config import DataConfig
    from ctr_tf.data.dataset import dataset
    from ctr_tf.data.prepared import PreparedData

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "data"
        _log.info("Writing %d samples …", _SAMPLES)
        write_samples(folder)
        data = PreparedData.load(folder)
        config = DataConfig(batch_size=batch_size, shuffle_buffer=256)
        batches = dataset(data, "train", config, num_chunks=16, training=True)
        _log.info("Measuring the input …")
        read = _input_rate(batches, config, seconds)
        (batch,) = batches.take(1)
        _log.info("Measuring training …")
        plain, compiled = (
            _training_rate(data, batch, config, seconds, jit_compile)
            for jit_compile in (False, True)
        )
    return {
        "history_length": HISTORY_LENGTH,
        "candidates": CANDIDATES,
        "batch_size": batch_size,
        "cores": len(os.sched_getaffinity(0)),
        "input_examples_per_second": read,
        "training_examples_per_second": plain,
        "training_xla_examples_per_second": compiled,
        "ratio": read / max(plain, compiled),
    }


def main(argv: list[str]) -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf bench input",
        description="What tf.data delivers beside what training consumes, at N = 1024.",
    )
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0, help="a measurement")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    result = measure(options.batch_size, options.seconds)
    if options.json:
        print(json.dumps(result))
        return 0
    for key, value in result.items():
        print(f"{key:<36}{value:>12,.1f}")
    return 0
