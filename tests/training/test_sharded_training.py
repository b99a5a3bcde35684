"""Whole trainings whose tables are cut over two processes, beside those of one."""

import json
import shutil

import numpy as np
import pytest
import yaml
from helpers import make_narrow_schema
from test_distribution import cluster, launch
from test_start import shuffled

from ctr_tf import config as configs
from ctr_tf.data.prepared import PreparedData
from ctr_tf.evaluation.evaluate import evaluate_run
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from ctr_tf.training.config import Config
from ctr_tf.training.run import load_run
from ctr_tf.training.train import train
from serving.export import ExportOptions, export_ranker

pytestmark = pytest.mark.long

# Without statistics of batches, which every worker takes of its own share.
STUDENT = {"name": "sdim", "dim": 8, "candidate_tower": []}
TEACHER = STUDENT | {"embedding_dim": 12}
SCHEMA = make_narrow_schema(history_length=8)
OLD = random_vocabularies(SCHEMA, 20)
STEPS = 10  # 2 epochs of 5
CUT = {"distribution": "multi_worker", "tables": "sharded"}


def write(folder, vocabularies, seed):
    random = np.random.default_rng(seed)
    samples = [random_sample(SCHEMA, vocabularies, random, 8, 4) for _ in range(60)]
    splits = {"train": samples[:40], "validation": samples[40:50]}
    write_prepared(folder, SCHEMA, vocabularies, splits | {"test": samples[50:]})
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write(folder / "old", OLD, 0)
    write(folder / "new", shuffled(OLD), 1)
    return folder


def recipe(data, run, sections=None, **training):
    """Of a model beside a teacher that learns as well, by tables of another width."""
    return {
        "run": str(run),
        "data": {"path": str(data), "batch_size": 8, "shuffle_buffer": 32},
        "model": STUDENT,
        "distillation": {"teacher": TEACHER},
        "optimizer": {
            "dense": "sgd",
            "tables": "adagrad_row",
            "learning_rate": 0.01,
            "global_clipnorm": 0.5,
        },
        "training": {
            "epochs": 2,
            "checkpoint_every": 2,
            "keep_checkpoints": 9,
            **training,
        },
        **(sections or {}),
    }


def alone(values):
    return train(configs.parse(Config, values))


def by_two(values, folder):
    """Trains by the command, in two processes; returns the first one's metrics."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values), "utf-8")
    command = ["-m", "ctr_tf", "train", "--config", str(path)]
    processes = [launch(command, task) for task in cluster(2)]
    try:
        for process in processes:
            _, error = process.communicate(timeout=900)
            assert process.returncode == 0, error[-3_000:]
    finally:
        for process in processes:
            process.kill()
    with open(f"{values['run']}/metrics.json", "rb") as file:
        return json.load(file)


def tables(run):
    loaded = load_run(run).ranker.embedding.tables
    return {name: table.table.numpy() for name, table in loaded.items()}


@pytest.fixture(scope="module")
def whole(world):
    values = recipe(world / "old", world / "whole")
    return world / "whole", alone(values)


def copy_to_go_on(begun, run, step):
    """A run whose last checkpoint is that of a step of a whole run."""
    shutil.copytree(begun, run)
    for folder in (run / "checkpoints").iterdir():
        if folder.name != f"step-{step:08d}":
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def cut(world, whole):
    """Two processes go on where one was; from the start: test_distribution.py."""
    copy_to_go_on(whole[0], world / "cut", 2)
    values = recipe(world / "old", world / "cut", **CUT)
    return world / "cut", by_two(values, world)


def test_two_processes_go_on_from_one_and_train_as_it_does(whole, cut):
    expected, found = (metrics["validation"] for _, metrics in (whole, cut))
    for name, value in expected.items():
        ties = 2e-3 if "auc" in name else 1e-5
        assert found[name] == pytest.approx(value, abs=ties)
    assert cut[1]["steps"] == STEPS
    for name, rows in tables(whole[0]).items():
        np.testing.assert_allclose(tables(cut[0])[name], rows, atol=1e-5)


def test_its_run_is_evaluated_and_exported_by_one_process(cut, tmp_path):
    run = load_run(cut[0])
    data = PreparedData.load(run.config.data.path)
    assert 0 < evaluate_run(cut[0], "test")["auc"] < 1
    options = ExportOptions(slate_sizes=(4,), batch_sizes=(1,), samples=4)
    assert export_ranker(run.ranker, data, tmp_path, options).is_dir()


def test_one_process_goes_on_from_two(world, whole, cut, tmp_path):
    run = tmp_path / "run"
    copy_to_go_on(cut[0], run, 4)  # before the first validation
    found = alone(recipe(world / "old", run))
    assert found["steps"] == STEPS
    assert found["validation"]["log_loss"] == pytest.approx(
        whole[1]["validation"]["log_loss"], abs=1e-5
    )
    for name, rows in tables(whole[0]).items():
        np.testing.assert_allclose(tables(run)[name], rows, atol=1e-5)


@pytest.mark.parametrize(("before", "data"), [("cut", "new")])
def test_a_start_from_a_run_takes_its_rows_over(world, request, before, data, tmp_path):
    run, _ = request.getfixturevalue(before)
    still = {"distillation": None, "optimizer": {"learning_rate": 1e-12}}
    options = {"max_steps": 1, "start_from": str(run)}
    found = {}
    for name, training in (("one", {}), ("two", CUT)):
        values = recipe(world / data, tmp_path / name, still, **options, **training)
        by_two(values, tmp_path) if training else alone(values)
        found[name] = tables(tmp_path / name)
    for name, rows in found["one"].items():
        np.testing.assert_allclose(found["two"][name], rows, atol=1e-6)
    same = {n: r for n, r in tables(run).items() if r.shape == found["two"][n].shape}
    if data == "old":
        for name, rows in same.items():
            np.testing.assert_allclose(found["two"][name], rows, atol=1e-6)
