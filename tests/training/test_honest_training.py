"""What a training says of itself is so: metrics, checkpoints, its end."""

import json
import logging
import shutil

import numpy as np
import pytest
import tensorflow as tf
from helpers import make_narrow_schema
from sklearn.metrics import roc_auc_score
from test_train import run_training

from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from ctr_tf.training import callbacks
from ctr_tf.training.metrics import DefinedMean, LogitAUC

pytestmark = pytest.mark.long

SCHEMA = make_narrow_schema(history_length=8)
VOCABULARIES = random_vocabularies(SCHEMA, 30)


def make_data(folder, candidates=5, counts=(40, 12)):
    random = np.random.default_rng(0)
    splits = {
        split: [
            random_sample(SCHEMA, VOCABULARIES, random, 8, candidates)
            for _ in range(count)
        ]
        for split, count in zip(("train", "validation"), counts, strict=True)
    }
    write_prepared(folder, SCHEMA, VOCABULARIES, splits | {"test": []})
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("honest") / "data")


@pytest.mark.parametrize("rate", [0.0001, 0.01, 0.4])
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_auc_is_right_at_any_click_rate(rate, shift):
    """Thresholds between 0 and 1 gave .545 for a true .728 at a rate of .01 %."""
    random = np.random.default_rng(0)
    logits = random.normal(np.log(rate / (1 - rate)), 0.8, 400_000) + shift
    chance = 1 / (1 + np.exp(-(logits - shift)))
    labels = (random.random(len(logits)) < chance).astype(np.float32)
    metric = LogitAUC()
    for block in np.split(np.arange(len(logits)), 8):
        metric.update_state(labels[block], logits[block], np.ones(len(block)))
    expected = roc_auc_score(labels, logits)
    assert 0.65 < expected < 0.8
    assert float(metric.result()) == pytest.approx(expected, abs=2e-4)


def test_auc_counts_weights_and_ties_half():
    metric = LogitAUC()
    labels = np.array([[1, 0, 0], [0, 1, 1]], np.float32)
    logits = np.array([[2.0, 2.0, -50.0], [1.0, 1.5, 60.0]], np.float16)
    weights = np.array([[1, 1, 1], [1, 1, 0]], np.float32)
    metric.update_state(labels, logits, weights)
    # Clicked at 2 and 1.5; others at 2, -50 and 1.
    assert float(metric.result()) == pytest.approx((2.5 + 2) / 6)


def test_a_metric_that_cannot_be_computed_is_no_number():
    auc, mean = LogitAUC(), DefinedMean("gauc_request")
    auc.update_state(np.zeros((2, 2)), np.ones((2, 2)), np.ones((2, 2)))
    mean.update_state([0.0, 0.0], [0.0, 0.0])
    assert np.isnan(auc.result()) and np.isnan(mean.result())
    mean.update_state([0.25, 9.0], [2.0, 0.0])
    assert float(mean.result()) == 0.25
    assert callbacks.defined({"loss": 0.5, "auc": float("nan")}) == {"loss": 0.5}


def test_an_undefined_monitor_fails_at_the_first_validation(tmp_path):
    """Slates of one: the mean over requests was 0, and the first weights the best."""
    data = make_data(tmp_path / "data", candidates=1)
    with pytest.raises(ValueError) as error:
        run_training(data, tmp_path / "run", monitor="gauc_request")
    message = str(error.value)
    assert "`training.monitor=gauc_request` cannot be computed" in message
    assert "no request has both clicked and unclicked candidates" in message
    metrics = run_training(data, tmp_path / "other", monitor="auc")
    assert "gauc_request" not in metrics["validation"]
    assert metrics["validation"]["auc"] > 0


@pytest.mark.parametrize("error", [tf.errors.OutOfRangeError, tf.errors.UnknownError])
def test_a_checkpoint_that_cannot_be_written_ends_the_run(
    data, tmp_path, monkeypatch, error
):
    def fail(*_, **__):
        raise error(None, None, "the disk says no")

    with monkeypatch.context() as patch:
        patch.setattr(tf.train.Checkpoint, "write", fail)
        with pytest.raises(OSError, match="the disk says no"):
            run_training(data, tmp_path / "run")
    assert run_training(data, tmp_path / "run")["steps"] > 0


def test_a_run_that_stops_early_fails(data, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise StopIteration

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Reporter, "on_train_batch_end", stop)
        with pytest.raises(RuntimeError, match="stopped after step 1 of 10, and its"):
            run_training(data, tmp_path / "run", epochs=2)


def whole(data, run, **options):
    options = {"epochs": 2, "checkpoint_every": 3, "keep_checkpoints": 3} | options
    return run_training(data, run, **options)


def weights_of(run):
    (best,) = (run / "checkpoints").glob("best-*")
    weights = {}
    for file in ("network", "tables"):
        reader = tf.train.load_checkpoint(str(best / file))
        names = [n for n in reader.get_variable_to_shape_map() if "VALUE" in n]
        assert len(names) > 5
        weights |= {name: reader.get_tensor(name) for name in names}
    return weights


@pytest.fixture(scope="module")
def one(data, tmp_path_factory):
    """A run that nothing disturbed, and its metrics."""
    run = tmp_path_factory.mktemp("whole") / "one"
    return run, whole(data, run)


@pytest.mark.parametrize(
    "damage",
    [
        *("cut", "state"),
        *(
            pytest.param(part, marks=pytest.mark.study)
            for part in ("tables cut", "gone")
        ),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(
    data, one, tmp_path, caplog, damage
):
    undisturbed, expected = one
    shutil.copytree(undisturbed, tmp_path / "two")
    newest = max((tmp_path / "two" / "checkpoints").glob("step-*"))
    file = "tables" if "tables" in damage else "network"
    values = newest / f"{file}.data-00000-of-00001"
    if "cut" in damage:
        values.write_bytes(values.read_bytes()[:100])
    elif damage == "gone":
        values.unlink()
    else:
        (newest / "state.json").write_text('{"step": ')
    with caplog.at_level(logging.WARNING):
        found = whole(data, tmp_path / "two")
    assert f"The checkpoint '{newest}' is damaged and left out" in caplog.text
    assert found["validation"] == expected["validation"]
    first, second = weights_of(undisturbed), weights_of(tmp_path / "two")
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])


def test_checkpoints_that_are_all_damaged_are_told(data, one, tmp_path):
    shutil.copytree(one[0], tmp_path / "run")
    for folder in (tmp_path / "run" / "checkpoints").glob("step-*"):
        (folder / "network.index").write_bytes(b"")
    with pytest.raises(ValueError, match="All checkpoints of the run are damaged"):
        whole(data, tmp_path / "run")


@pytest.mark.parametrize("at", [pytest.param(1, marks=pytest.mark.study), 2])
def test_a_kill_in_a_validation_loses_no_step(data, one, tmp_path, monkeypatch, at):
    """The checkpoint is written before; the validation is made up for."""
    undisturbed, expected = one
    evaluate, calls = callbacks.Validation._validate, []

    def killed(self, step):
        calls.append(step)
        if len(calls) == at:
            raise KeyboardInterrupt
        evaluate(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Validation, "_validate", killed)
        with pytest.raises(KeyboardInterrupt):
            whole(data, tmp_path / "two")
    newest = max((tmp_path / "two" / "checkpoints").glob("step-*"))
    state = json.loads((newest / "state.json").read_text("utf-8"))
    assert state["step"] == calls[-1] > state["validated"]
    found = whole(data, tmp_path / "two")
    assert found["validation"] == expected["validation"]
    assert found["steps"] == expected["steps"]
    first, second = weights_of(undisturbed), weights_of(tmp_path / "two")
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])


def test_long_steps_are_told_by_time(data, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(callbacks, "_TELL_EVERY", 0.0)
    with caplog.at_level(logging.INFO):
        run_training(data, tmp_path / "run", log_every=1_000)
    assert "step 2/10" in caplog.text
