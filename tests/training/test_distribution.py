"""Several replicas train like one: two real processes, and two devices of one."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import helpers
import numpy as np
import pytest
import small_language_model
from distributed_worker import train
from small_run import make_splits, train_two_steps

from ctr_tf.models.ctr_sink import CTRSinkConfig
from ctr_tf.ports import HOST, free_ports
from ctr_tf.synthetic.random_samples import random_vocabularies, write_prepared
from ctr_tf.training.distribution import make_strategy
from ctr_tf.training.run import load_run

WORKER = Path(__file__).with_name("distributed_worker.py")


def start(distribution, precision, output, devices=1, task=None, tables="replicated"):
    words = [distribution, precision, output, str(devices), tables]
    return launch([WORKER, *words], task)


def launch(arguments, task):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CONFIG"}
    environment["PYTHONPATH"] = os.pathsep.join([str(WORKER.parents[1]), *sys.path])
    if task is not None:
        environment["TF_CONFIG"] = json.dumps(task)
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finish(process):
    out, error = process.communicate(timeout=240)
    assert process.returncode == 0, error[-3_000:]
    return json.loads(out.splitlines()[-1])


def weights(path):
    with np.load(path) as arrays:
        return [arrays[f"arr_{index}"] for index in range(len(arrays.files))]


def cluster(*sizes):
    """TF_CONFIG of each task; `sizes` are those of the jobs `worker` and `chief`."""
    addresses = [f"{HOST}:{port}" for port in free_ports(sum(sizes))]
    jobs = {
        job: [addresses.pop() for _ in range(size)]
        for job, size in zip(("worker", "chief"), sizes, strict=False)
    }
    return [
        {"cluster": jobs, "task": {"type": job, "index": index}}
        for job in jobs
        for index in range(len(jobs[job]))
    ]


def assert_equal(ours, expected, atol, rtol=1e-4):
    assert len(ours) == len(expected)
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


@pytest.fixture(scope="module")
def alone():
    return train("none", "float32")


def test_two_processes_train_to_the_weights_of_one(tmp_path, alone):
    outputs = [str(tmp_path / f"{index}.npz") for index in range(2)]
    processes = [
        start("multi_worker", "float32", output, task=task)
        for output, task in zip(outputs, cluster(2), strict=True)
    ]
    try:
        evaluations = [finish(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
    first, second = (weights(output) for output in outputs)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    assert_equal(first, alone[0], atol=2e-6)
    for evaluation in evaluations:
        assert evaluation == pytest.approx(alone[1], abs=1e-5)


def joined(parts, whole):
    """All rows, of the shares that workers have of them; what they share, once."""
    if parts[0].shape == whole.shape:
        for part in parts[1:]:
            np.testing.assert_array_equal(part, parts[0])
        return parts[0]
    rows = np.full(whole.shape, np.nan, whole.dtype)
    for index, part in enumerate(parts):
        rows[index :: len(parts)] = part
    return rows


def test_processes_with_shares_of_the_tables_train_to_the_weights_of_one(
    tmp_path, alone
):
    workers = 2  # more, in one process: tests/tables/test_sharded.py
    outputs = [str(tmp_path / f"{index}.npz") for index in range(workers)]
    processes = [
        start("multi_worker", "float32", output, task=task, tables="sharded")
        for output, task in zip(outputs, cluster(workers), strict=True)
    ]
    try:
        evaluations = [finish(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
    expected, shares = alone[0], [weights(output) for output in outputs]
    found = [joined(list(p), w) for *p, w in zip(*shares, expected, strict=True)]
    # Adam of rows divides by the size of gradients that are sums in another order.
    assert_equal(found, expected, atol=1e-6, rtol=1e-6)
    cut = [
        (part.nbytes, whole.nbytes)
        for part, whole in zip(shares[0], expected, strict=True)
        if part.shape != whole.shape
    ]
    here, all_rows = map(sum, zip(*cut, strict=True))
    assert len(cut) > 10 and here < 1.2 / workers * all_rows
    for evaluation in evaluations:
        assert evaluation == pytest.approx(alone[1], abs=1e-5)


ONCE = CTRSinkConfig(
    language_model=small_language_model.folder(),
    pretrained=False,
    dropout=0.0,
    tune="upper",
    history_tokens=40,
    candidate_tokens=8,
    units=(8, 8, 4),
)


@pytest.mark.study  # `test_launch` starts the same by `ctr-tf launch`
def test_the_command_of_a_chief_and_a_worker_leaves_one_run(tmp_path):
    schema = helpers.make_narrow_schema(history_length=16, texts=True)
    run = train_two_steps(tmp_path, schema, ONCE)
    words = [f"run={tmp_path / 'both'}", "training.distribution=multi_worker"]
    command = ["-m", "ctr_tf", "train", "--config", str(run / "config.yaml")]
    processes = [launch([*command, *words], task) for task in cluster(1, 1)]
    try:
        for process in processes:
            _, error = process.communicate(timeout=240)
            assert process.returncode == 0, error[-3_000:]
            assert "UNAVAILABLE" not in error  # nobody left too early
    finally:
        for process in processes:
            process.kill()
    alone, both = (
        json.loads((folder / "metrics.json").read_text())["validation"]
        for folder in (run, tmp_path / "both")
    )
    assert both == pytest.approx(alone, abs=1e-5)
    assert load_run(tmp_path / "both").ranker.built


@pytest.mark.long
def test_workers_that_would_train_differently_are_told(tmp_path):
    """Both of them, before anything is made; where data lie they need not agree."""
    schema = helpers.make_narrow_schema(history_length=16)
    vocabularies, splits = random_vocabularies(schema, 20), make_splits(schema)
    for index in range(2):
        splits["train"] = splits["train"][index:]
        write_prepared(tmp_path / f"data-{index}", schema, vocabularies, splits)
    command = ["-m", "ctr_tf", "train", "--config", "sdim", "--run", tmp_path / "run"]
    command += ["training.distribution=multi_worker"]
    processes = [
        launch(
            [*command, *words, "--data", tmp_path / f"data-{task['task']['index']}"],
            task,
        )
        for words, task in zip(([], ["training.seed=5"]), cluster(2), strict=True)
    ]
    try:
        told = [process.communicate(timeout=240)[1] for process in processes]
        assert [process.returncode for process in processes] == [2, 2], told
    finally:
        for process in processes:
            process.kill()
    expected = r"Received, beside worker 0: worker 1: data set \('\w+' and '\w+'\), "
    for text in told:
        (line,) = (part for part in text.split("\n") if part.startswith("ctr-tf: err"))
        assert re.search(expected + r"training\.seed \(0 and 5\)$", line), text
    assert not (tmp_path / "run").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("mixed_float16", marks=pytest.mark.study)]
)
def test_two_devices_train_to_the_weights_of_one(tmp_path, alone, precision):
    output = str(tmp_path / "mirrored.npz")
    evaluation = finish(start("mirrored", precision, output, devices=2))
    if precision == "float32":
        assert_equal(weights(output), alone[0], atol=2e-6)
        assert evaluation == pytest.approx(alone[1], abs=1e-5)
    else:
        assert evaluation["loss"] == pytest.approx(alone[1]["loss"], abs=0.05)


def test_multi_worker_needs_a_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="needs the cluster .* Received: TF_CONFIG=N"):
        make_strategy("multi_worker")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "needs the cluster .* Received: TF_CONFIG='{'"),
        ({"cluster": {"worker": ["a:1"]}}, "needs the cluster and this worker's task"),
        (
            {
                "cluster": {"worker": ["a:1"]},
                "task": {"type": "worker", "index": 1},
            },
            "needs the cluster and this worker's task",
        ),
        (
            {
                "cluster": {"worker": ["a:1"], "ps": ["b:1"]},
                "task": {"type": "ps", "index": 0},
            },
            "jobs 'chief' and 'worker'",
        ),
    ],
)
def test_a_wrong_cluster_is_told(monkeypatch, config, message):
    text = config if isinstance(config, str) else json.dumps(config)
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=message):
        make_strategy("multi_worker")


def test_unknown_distribution():
    with pytest.raises(ValueError, match="Unknown distribution 'mirror'.*'mirrored'"):
        make_strategy("mirror")
