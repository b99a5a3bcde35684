"""A whole training: killed and resumed equals uninterrupted; what a run holds."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from helpers import make_narrow_schema
from small_disk import with_small_files

from ctr_tf import config as configs
from ctr_tf.data.prepared import PreparedData
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from ctr_tf.training.callbacks import Validation
from ctr_tf.training.config import Config, TrainingConfig
from ctr_tf.training.run import load_run, open_run, read_config
from ctr_tf.training.train import make_trainer, train

STEPS = 24  # 2 epochs of 12


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    schema = make_narrow_schema(history_length=8)
    vocabularies = random_vocabularies(schema, 30)
    random = np.random.default_rng(0)
    samples = [
        random_sample(schema, vocabularies, random, int(random.integers(0, 9)), 4)
        for _ in range(120)
    ]
    folder = tmp_path_factory.mktemp("prepared") / "data"
    splits = {"train": samples[:100], "validation": samples[100:], "test": []}
    write_prepared(folder, schema, vocabularies, splits, shards=2)
    return folder


def recipe(data, run, **training):
    return {
        "run": str(run),
        "data": {"path": str(data), "batch_size": 8, "shuffle_buffer": 32},
        "model": {"name": "sdim", "dim": 8},  # the quickest to trace
        "optimizer": {"learning_rate": 0.01, "schedule": "cosine", "warmup_steps": 4},
        "training": {"epochs": 2, "checkpoint_every": 2, "log_every": 3}
        | {"baseline": False}  # of those by the command line
        | training,
    }


def run_training(data, run, **training):
    return train(configs.parse(Config, recipe(data, run, **training)))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "whole"
    return run, run_training(data, run)


def assert_checkpoints_equal(one, other):
    for file, count in (("network", 30), ("tables", 5)):
        readers = [tf.train.load_checkpoint(str(path / file)) for path in (one, other)]
        keys = [k for k in readers[0].get_variable_to_shape_map() if "VALUE" in k]
        assert len(keys) > count
        for key in keys:
            np.testing.assert_array_equal(*(r.get_tensor(key) for r in readers))


def test_killed_and_resumed_equals_uninterrupted(whole, data, tmp_path):
    run, path = tmp_path / "run", tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe(data, run)), "utf-8")
    command = [sys.executable, "-m", "ctr_tf", "train", "--config", str(path)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 200
    while not (run / "checkpoints" / "step-00000004").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = max((run / "checkpoints").glob("step-*")).name
    assert left < f"step-{STEPS:08d}", "the process was killed too late"
    assert run_training(data, run)["steps"] == STEPS
    last = f"checkpoints/step-{STEPS:08d}"
    assert_checkpoints_equal(whole[0] / last, run / last)


def test_a_run_holds_what_evaluation_needs(whole):
    run, metrics = whole
    for name in ("config.yaml", "schema.yaml", "metrics.json"):
        assert (run / name).is_file()
    assert (run / "plots" / "learning_curve.png").stat().st_size > 1_000
    assert json.loads((run / "metrics.json").read_text()) == metrics
    assert set(metrics["validation"]) == {"auc", "gauc_request", "loss"}
    best, last = (load_run(run, weights) for weights in ("best", "last"))
    assert best.config.training.epochs == 2
    assert best.ranker.num_chunks == last.ranker.num_chunks
    assert max((run / "checkpoints").glob("best-*")).name.endswith(
        str(metrics["best_step"])
    )


def test_tensorboard_has_scores_by_class_and_embeddings_of_items(whole, data):
    run, _ = whole
    (events,) = (run / "logs").glob("events*")
    found = {}
    for event in tf.compat.v1.train.summary_iterator(str(events)):
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "histograms":
                bins = tf.make_ndarray(value.tensor)
                found.setdefault(value.tag, {})[event.step] = bins
    labels = ["validation/logit_clicked", "validation/logit_not_clicked"]
    assert sorted(found) == labels
    assert sorted(found[labels[0]]) == [12, 24]  # both validations
    prepared = PreparedData.load(data)
    clicks = prepared.manifest.splits["validation"].clicks
    assert found[labels[0]][24][:, 2].sum() == clicks
    assert found[labels[1]][24][:, 2].sum() == 80 - clicks
    config = (run / "logs" / "projector_config.pbtxt").read_text()
    assert 'tensor_path: "projector/items.tsv"' in config
    rows = np.loadtxt(run / "logs" / "projector" / "items.tsv")
    table = load_run(run, "last").ranker.embedding.tables["item_id"].table.numpy()
    np.testing.assert_allclose(rows, table[2:], rtol=1e-5)
    path = run / "logs" / "projector" / "items_metadata.tsv"
    head, *items = path.read_text("utf-8").splitlines()
    assert head == "item_id\tcategory"
    words = [item.split("\t") for item in items]
    assert [word for word, _ in words] == prepared.vocabularies.values("item_id")
    known = set(prepared.vocabularies.values("category"))
    assert {category for _, category in words} <= known | {"?"}
    assert len({category for _, category in words}) > 5


def test_a_complete_run_is_left_as_it_is(whole, data):
    before = (whole[0] / "metrics.json").read_text()
    assert run_training(data, whole[0])["steps"] == STEPS
    assert (whole[0] / "metrics.json").read_text() == before


def test_another_recipe_is_refused(whole, data):
    with pytest.raises(ValueError, match=r"training.epochs \(2 and 5\)"):
        run_training(data, whole[0], epochs=5)


def test_patience_stops_early(data, tmp_path):
    metrics = run_training(
        data, tmp_path / "run", validate_every=1, patience=1, epochs=50
    )
    assert metrics["steps"] == metrics["best_step"] + 1 < 600


def test_patience_that_ends_in_a_killed_validation(data, tmp_path, monkeypatch):
    """The validation is made up, and no step more is done."""
    options = {"validate_every": 3, "patience": 1, "epochs": 50}
    expected = run_training(data, tmp_path / "one", **options)
    validate = Validation._validate

    def killed(self, step):
        if step == expected["steps"]:
            raise KeyboardInterrupt
        validate(self, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Validation, "_validate", killed)
        run_training(data, tmp_path / "two", **options)
    found = run_training(data, tmp_path / "two", **options)
    for key in ("steps", "best_step", "validation"):
        assert found[key] == expected[key]
    names = [
        sorted(path.name for path in (tmp_path / run / "checkpoints").iterdir())
        for run in ("one", "two")
    ]
    assert names[0] == names[1]
    last = f"checkpoints/step-{expected['steps']:08d}"
    assert_checkpoints_equal(tmp_path / "one" / last, tmp_path / "two" / last)
    state = json.loads((tmp_path / "two" / last / "state.json").read_text("utf-8"))
    assert state["finished"] and state["waited"] == 1


def test_what_needs_validation_is_told_where_there_is_none(data, tmp_path, caplog):
    options = {"max_steps": 1, "patience": 3, "monitor": "gauc_request"}
    run_training(data, tmp_path / "one", **options)
    assert "has no effect" not in caplog.text
    run_training(data, tmp_path / "two", **options, validate=False)
    told = [text for text in caplog.messages if "has no effect" in text]
    assert told == [
        "`training.patience=3` has no effect: nothing is validated",
        "`training.monitor=gauc_request` has no effect: nothing is validated",
    ]


def test_a_loss_that_is_no_number_stops_with_its_step(data, tmp_path):
    config = recipe(data, tmp_path / "run")
    config["optimizer"] = {"learning_rate": 1e30}
    with pytest.raises(ValueError, match=r"no finite number since step \d+: lower"):
        train(configs.parse(Config, config))


def test_folders_that_are_no_run(whole, data, tmp_path):
    with pytest.raises(FileNotFoundError, match="not the folder of a run: it has no"):
        load_run(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="exists and is not the folder of a run"):
        run_training(data, tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(whole[0], copy)
    with (copy / "vocabularies" / "item_id.txt").open("a") as stream:
        stream.write("77777\n")
    with pytest.raises(ValueError, match="another schema or other vocabularies"):
        load_run(copy)
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(FileNotFoundError, match="no best checkpoint"):
        load_run(copy)
    with pytest.raises(ValueError, match="'best' or 'last'. Received: 'first'"):
        load_run(copy, "first")


def test_a_training_killed_while_its_folder_is_made(whole, data, tmp_path):
    run, unfinished = tmp_path / "run", tmp_path / "run.unfinished"
    config = configs.parse(Config, recipe(data, run))
    for names in ([], ["schema.yaml"], ["schema.yaml", "vocabularies"]):
        unfinished.mkdir()
        for name in names:
            copy = shutil.copytree if name == "vocabularies" else shutil.copy
            copy(whole[0] / name, unfinished / name)
        assert open_run(config, PreparedData.load(data)) == run
        assert [path.name for path in tmp_path.iterdir()] == ["run"]
        assert open_run(config, PreparedData.load(data)) == run
        shutil.rmtree(run)


def test_a_run_without_a_checkpoint_stays_with_its_data(data, tmp_path):
    config = configs.parse(Config, recipe(tmp_path / "data", tmp_path / "run"))
    shutil.copytree(data, tmp_path / "data")
    open_run(config, PreparedData.load(tmp_path / "data"))
    shutil.rmtree(tmp_path / "data")
    schema = make_narrow_schema(history_length=8)
    vocabularies = random_vocabularies(schema, 31)
    splits = {"train": [], "validation": [], "test": []}
    write_prepared(tmp_path / "data", schema, vocabularies, splits)
    with pytest.raises(ValueError, match="was begun with other data than"):
        open_run(config, PreparedData.load(tmp_path / "data"))


@pytest.mark.parametrize(
    "bytes_left", [500, pytest.param(12_000, marks=pytest.mark.study)]
)
def test_a_full_disk_is_one_line(data, tmp_path, bytes_left):
    run, path = tmp_path / "run", tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe(data, run, max_steps=2)), "utf-8")
    words = ["-m", "ctr_tf", "train", "--config", str(path)]
    ended = subprocess.run(
        with_small_files(bytes_left, words), capture_output=True, text=True
    )
    assert ended.returncode == 2, ended.stderr
    last = ended.stderr.strip().split("\n")[-1]
    assert last.startswith("ctr-tf: error: ") and "File too large" in last
    assert str(run) in last
    assert "Traceback" not in ended.stderr
    assert run_training(data, run, max_steps=2)["steps"] == 2


@pytest.mark.parametrize(
    ("keys", "steps"),
    [
        ({"epochs": 2}, 20),
        ({"epochs": 2, "min_steps": 15}, 20),
        ({"epochs": 2, "min_steps": 33}, 33),
        ({"epochs": 2, "max_steps": 7}, 7),
        ({"epochs": 2, "min_steps": 33, "max_steps": 31}, 31),
    ],
)
def test_how_long_a_training_is(keys, steps):
    assert TrainingConfig(**keys).total_steps(epoch_steps=10) == steps


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_is_none(seed):
    with pytest.raises(ValueError, match=f"and 4294967295. Received: {seed}$"):
        TrainingConfig(seed=seed)
    keras.utils.set_random_seed(TrainingConfig(seed=2**32 - 1).seed)


def test_a_small_log_is_passed_over_again(data, tmp_path):
    metrics = run_training(data, tmp_path / "run", epochs=1, min_steps=15)
    assert metrics["steps"] == 15  # of 12 a pass


def test_a_run_of_before_there_were_towers_has_none(data, whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole[0], run)
    recipe = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
    del recipe["model"]["candidate_tower"]
    recipe["distillation"] = {"teacher": {"name": "din"}}
    (run / "config.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    config = read_config(run)
    assert config.model.candidate_tower == ()
    assert config.distillation.teacher.candidate_tower == ()
    assert read_config(whole[0]).model.candidate_tower == (64, 32)


def test_a_key_of_the_model_without_effect_is_told(data, caplog):
    values = {**recipe(data, "run"), "model": {"name": "din", "dim": 8}}
    config = configs.parse(Config, values)
    with caplog.at_level(logging.WARNING):
        make_trainer(config, PreparedData.load(data), 10, None)
    assert "`model.dim` has no effect" in caplog.text
    assert "Received: 8" in caplog.text
