"""The two lines at the end of a training; the run is made up, the data are not."""

import json

import numpy as np
import pytest
from helpers import make_narrow_schema

from ctr_tf.commands import main as cli
from ctr_tf.data.config import DataConfig
from ctr_tf.evaluation import baseline_line
from ctr_tf.evaluation.baseline_line import lines, log_loss_of, tell_baseline
from ctr_tf.evaluation.predictions import sigmoid
from ctr_tf.models.sdim import SDIMConfig
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from ctr_tf.training import train
from ctr_tf.training.config import Config, TrainingConfig
from ctr_tf.training.objective import ObjectiveConfig

SCHEMA = make_narrow_schema(history_length=4)
VOCABULARIES = random_vocabularies(SCHEMA, 20)


def planted(random, effect):
    sample = random_sample(SCHEMA, VOCABULARIES, random, int(random.integers(5)), 5)
    chance = sigmoid(effect[sample["candidate_item_id"]])
    return sample | {"label": (random.random(5) < chance).astype(np.float32)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    random = np.random.default_rng(0)
    effect = 2 * random.normal(size=40)
    splits = {
        split: [planted(random, effect) for _ in range(size)]
        for split, size in (("train", 150), ("validation", 60))
    }
    folder = tmp_path_factory.mktemp("planted") / "data"
    write_prepared(folder, SCHEMA, VOCABULARIES, splits)
    return folder


def finished(run, data, auc, **training):
    """A run that has reached so much."""
    run.mkdir()
    validation = {"loss": 0.9, "log_loss": 0.5, "auc": auc, "gauc_request": 0.5}
    (run / "metrics.json").write_text(json.dumps({"validation": validation}))
    return Config(
        run=str(run),
        data=DataConfig(str(data)),
        training=TrainingConfig(**training),
    )


def told(config, caplog):
    caplog.clear()
    with caplog.at_level("INFO"):
        tell_baseline(config)
    return caplog.text


def test_both_lines_are_told_and_kept(data, tmp_path, caplog, monkeypatch):
    better = finished(tmp_path / "better", data, auc=0.99)
    text = told(better, caplog)
    kept = json.loads((tmp_path / "better" / "baseline.json").read_text())
    found = kept["validation"]
    assert found["auc"] > 0.75  # clicks follow from items, which it finds
    assert f"auc {found['auc']:.4f}" in text and "auc 0.9900" in text
    assert "log_loss 0.5000" in text  # not the whole loss
    assert "the run beats logistic regression in auc" in text
    assert "150 of 150 training samples" in text
    assert found["log_loss"] < 0.6 < np.log(2)
    assert found["gauc_request"] > 0.7

    def fail(*_):
        raise AssertionError("it is known already")

    monkeypatch.setattr(baseline_line, "fit_logistic_regression", fail)
    assert "the run beats" in told(better, caplog)


@pytest.mark.parametrize(
    ("weights", "tasks", "validation", "expected"),
    [
        ({}, (), {"loss": 0.5}, 0.5),
        ({"log_loss": 4.0}, (), {"loss": 2.0}, 0.5),
        ({"listwise": 0.1}, (), {"loss": 0.9, "log_loss": 0.5}, 0.5),
        ({"log_loss": 0.0, "listwise": 1.0}, (), {"loss": 2.0}, None),
        ({}, ("like",), {"loss": 0.5}, None),  # the mean of two labels
    ],
)
def test_the_log_loss_of_a_run_is_unweighted(weights, tasks, validation, expected):
    config = Config(model=SDIMConfig(tasks=tasks), objective=ObjectiveConfig(**weights))
    found = log_loss_of(validation, config)
    assert found == expected
    own = {**validation, "auc": 0.6, "log_loss": found}
    baseline = {"validation": {"auc": 0.5, "log_loss": 0.7}}
    told, *_ = lines(own, baseline, "auc")
    assert f"log_loss {'–' if expected is None else '0.5000'}" in told


def test_a_run_that_does_not_beat_it_is_told_so(data, tmp_path, caplog, monkeypatch):
    asked = []

    def fit(data, folder, label, most):
        asked.append((label, most))
        return lambda inputs: np.asarray(inputs["candidate_item_id"]) / 100

    monkeypatch.setattr(baseline_line, "fit_logistic_regression", fit)
    monkeypatch.setattr(baseline_line, "SAMPLES", 120)
    text = told(finished(tmp_path / "run", data, auc=0.1), caplog)
    assert asked == [(None, 120)]
    assert "120 of 150 training samples" in text
    assert "the run does NOT beat logistic regression in auc. Try" in text
    assert "`ctr-tf tune`" in text


def test_what_decides_is_what_the_run_was_chosen_by():
    own = {"loss": 0.5, "auc": 0.6, "gauc_request": 0.7}
    beside = {"auc": 0.7, "gauc_request": 0.6, "log_loss": 0.5}
    baseline = {"validation": beside}
    assert "does NOT beat" in lines(own, baseline, "auc")[-1]
    assert "the run beats" in lines(own, baseline, "gauc_request")[-1]
    beside["gauc_request"] = None
    assert "nobody can tell" in lines(own, baseline, "gauc_request")[-1]


def test_a_leak_and_what_is_lost_are_told():
    own = {"auc": 0.7, "gauc_request": 0.6, "loss": 0.5}
    baseline = {"validation": {"auc": 0.6, "gauc_request": 0.65, "log_loss": 0.6}}
    *_, last = lines(own, baseline, "auc")
    assert last == "the run beats logistic regression in auc, not in gauc_request"
    baseline["validation"]["auc"] = 1.0
    leak, _ = lines(own, baseline, "auc")[-2:]
    assert leak.startswith("WARNING: an AUC of nearly 1")


def test_where_nothing_is_fitted(data, tmp_path, caplog, monkeypatch):
    for name, training in (("a", {"baseline": False}), ("b", {"validate": False})):
        assert told(finished(tmp_path / name, data, 0.5, **training), caplog) == ""
    cluster = {"worker": ["a:1", "b:2"]}
    for index, expected in ((0, "not fitted where several workers train"), (1, "")):
        task = {"type": "worker", "index": index}
        text = json.dumps({"cluster": cluster, "task": task})
        monkeypatch.setenv("TF_CONFIG", text)
        found = told(finished(tmp_path / str(index), data, 0.5), caplog)
        assert expected in found and bool(found) == bool(expected)
    assert not list(tmp_path.glob("*/baseline.json"))


def test_data_that_it_cannot_be_fitted_to_leave_the_run_as_it_is(tmp_path, caplog):
    random = np.random.default_rng(0)
    samples = [planted(random, np.zeros(40)) for _ in range(10)]
    for sample in samples:
        sample["label"][:] = 0
    splits = {"train": samples, "validation": samples}
    write_prepared(tmp_path / "data", SCHEMA, VOCABULARIES, splits)
    text = told(finished(tmp_path / "run", tmp_path / "data", 0.5), caplog)
    assert "logistic regression was not fitted" in text and "0 clicks" in text


@pytest.mark.parametrize(("status", "steps"), [(0, ["train", "tell"]), (75, ["train"])])
def test_the_command_tells_it_when_a_training_is_over(monkeypatch, status, steps):
    done = []
    monkeypatch.setattr(train, "run", lambda config: done.append("train") or status)
    monkeypatch.setattr(baseline_line, "tell_baseline", lambda _: done.append("tell"))
    words = ["train", "--config", "din", "data.path=nowhere", "run=nowhere"]
    assert cli.main(words) == status
    assert done == steps
