"""Real processes on real streams: two, then one or four, train like one."""

import time

import numpy as np
import pytest
import yaml
from helpers import make_narrow_schema
from small_run import saved_arrays
from test_distribution import cluster, launch

from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)

pytestmark = pytest.mark.long

SECONDS = 600


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    schema = make_narrow_schema(history_length=8)
    vocabularies, random = random_vocabularies(schema, 30), np.random.default_rng(0)
    samples = [
        random_sample(schema, vocabularies, random, int(random.integers(0, 9)), 4)
        for _ in range(120)
    ]
    folder = tmp_path_factory.mktemp("prepared") / "data"
    splits = {"train": samples[:100], "validation": samples[100:]}
    write_prepared(folder, schema, vocabularies, splits, shards=2)
    return folder


def start(data, run, workers):
    """Starts the processes of a training; two sizes, so that shares are uneven."""
    recipe = {
        "run": str(run),
        "data": {
            "path": str(data),
            "batch_size": 16,
            "streams": 8,
            "history_lengths": [4, 8],
            "shuffle_buffer": 48,
        },
        "model": {"name": "sdim", "dim": 8},
        "optimizer": {"dense": "sgd", "learning_rate": 0.01},
        "training": {
            "epochs": 3,
            "checkpoint_every": 3,
            "distribution": "multi_worker",
        },
    }
    path = run.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(recipe))
    command = ["-m", "ctr_tf", "train", "--config", str(path)]
    return [launch(command, task) for task in cluster(workers)]


def finish(processes):
    try:
        for process in processes:
            _, error = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, error[-3_000:]
    finally:
        for process in processes:
            process.kill()


def weights_of_run(run):
    """Path → value, of all weights of the last checkpoint."""
    last = max((run / "checkpoints").glob("step-*"))
    found = saved_arrays(run, int(last.name.removeprefix("step-")))
    return {k: v for k, v in found.items() if np.issubdtype(v.dtype, np.floating)}


def wait_for_a_checkpoint(run, processes):
    deadline = time.monotonic() + SECONDS
    while not list((run / "checkpoints").glob("step-*")):
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)


@pytest.mark.study
@pytest.mark.parametrize("workers", [1, 4])
def test_another_number_of_workers_goes_on_as_if_one_had_trained(
    data, tmp_path, workers
):
    finish(start(data, tmp_path / "alone", 1))
    begun = start(data, tmp_path / "changed", 2)
    wait_for_a_checkpoint(tmp_path / "changed", begun)
    for process in begun:
        process.kill()
        process.wait()
    finish(start(data, tmp_path / "changed", workers))
    alone, found = (weights_of_run(tmp_path / name) for name in ("alone", "changed"))
    assert found.keys() == alone.keys()
    for key, value in alone.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=2e-6, err_msg=key)
