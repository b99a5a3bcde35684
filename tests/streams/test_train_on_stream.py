"""Samples from a real broker: predicted by the weights of before, learned once."""

import json
import logging
import math

import numpy as np
import pytest
import tensorflow as tf
from broker import Broker
from helpers import make_narrow_schema
from small_run import saved_arrays

from ctr_tf import config as configs
from ctr_tf.commands import send as command
from ctr_tf.data import send
from ctr_tf.data.batches import BatchReader
from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.reading import read_records
from ctr_tf.errors import UserError
from ctr_tf.evaluation.evaluate import evaluate_run
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from ctr_tf.training.checkpoints import Checkpoints
from ctr_tf.training.config import Config
from ctr_tf.training.run import load_run
from ctr_tf.training.train import make_trainer, train

pytestmark = pytest.mark.long

SCHEMA = make_narrow_schema(history_length=8)
SAMPLES, BATCH = 60, 8
CONSTANT = {"learning_rate": 0.01, "global_clipnorm": 1.0}


def recipe(data, run, **training):
    return {
        "run": str(run),
        "data": {"path": str(data), "batch_size": BATCH, "shuffle_buffer": 32},
        "model": {"name": "sdim", "dim": 8},
        "optimizer": CONSTANT,
        "training": {"checkpoint_every": 2, **training},
    }


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    broker = Broker(tmp_path_factory.mktemp("broker"))
    yield broker
    broker.stop()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    vocabularies = random_vocabularies(SCHEMA, 30)
    random = np.random.default_rng(0)
    samples = [
        random_sample(SCHEMA, vocabularies, random, int(random.integers(0, 9)), 4)
        for _ in range(48 + SAMPLES)
    ]
    splits = {"train": samples[:48], "validation": [], "test": samples[48:]}
    folder = tmp_path_factory.mktemp("prepared") / "data"
    write_prepared(folder, SCHEMA, vocabularies, splits, shards=2)
    return folder


@pytest.fixture(scope="module")
def begun(data, tmp_path_factory):
    """A run to go on from."""
    run = tmp_path_factory.mktemp("begun") / "run"
    train(configs.parse(Config, recipe(data, run, validate=False)))
    return run


@pytest.fixture(scope="module")
def topic(broker, data):
    """The test split, by time."""
    topic = broker.make_topic(1)
    words = ["--data", str(data), "--stream", broker.address, "--topic", topic]
    assert command.main(words) == 0
    return topic


def config(data, run, begun, broker, topics, **stream):
    values = recipe(data, run, start_from=str(begun))
    values["stream"] = {
        "broker": broker.address,
        "topics": list(topics),
        "window_steps": 2,
        "to_end": True,
        **stream,
    }
    return configs.parse(Config, values)


@pytest.fixture(scope="module")
def whole(data, begun, broker, topic, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    return run, train(config(data, run, begun, broker, [topic]))


def rows(run):
    last = max((run / "checkpoints").glob("step-*"))
    return json.loads((last / "state.json").read_text("utf-8"))


def test_a_split_is_sent_by_time(data):
    found = [sample for _, sample in send.by_time(PreparedData.load(data), "test")]
    stored = PreparedData.load(data)
    records = [
        record
        for file in stored.files("test")
        for record in read_records(str(file), stored.compression)
    ]
    times = send._parsed(np.array(found, object))[0]
    assert (np.diff(times) >= 0).all() and len(set(times)) > 10
    assert sorted(found) == sorted(records) and found != records


def test_each_window_is_predicted_and_then_learned(data, begun, whole, topic):
    """By hand: the weights of before score a window, then every batch is a step."""
    run, metrics = whole
    assert metrics["samples"] == SAMPLES and metrics["steps"] == 8  # 7 and one of 4
    state = rows(run)
    assert state["positions"] == {f"{topic}/0": SAMPLES}
    prepared = PreparedData.load(data)
    samples = [sample for _, sample in send.by_time(prepared, "test")]
    trainer = make_trainer(configs.parse(Config, recipe(data, "")), prepared, 1, None)
    for own, value in zip(
        trainer.ranker.variables, load_run(begun).ranker.variables, strict=True
    ):
        own.assign(value)
    reader = BatchReader(SCHEMA, trainer.num_chunks, 8)
    seen = []
    for start in range(0, SAMPLES, 2 * BATCH):
        window = samples[start : start + 2 * BATCH]
        cut = [window[i : i + BATCH] for i in range(0, len(window), BATCH)]
        batches = [reader.read(np.array(batch, object), 8, 4) for batch in cut]
        seen.append(trainer.evaluate((b for b in batches), return_dict=True, verbose=0))
        trainer.fit((b for b in batches), shuffle=False, verbose=0)
    for row, values in zip(state["history"], seen, strict=True):
        for key in ("loss", "auc"):
            assert row[f"validation_{key}"] == pytest.approx(float(values[key]), 1e-5)
    weights = [16, 16, 16, 12]
    mean = np.average([float(values["loss"]) for values in seen], weights=weights)
    assert metrics["validation"]["loss"] == pytest.approx(mean, 1e-5)
    for own, value in zip(
        trainer.ranker.variables, load_run(run).ranker.variables, strict=True
    ):
        np.testing.assert_allclose(own.numpy(), value.numpy(), 1e-5, 1e-6)


def test_killed_and_called_again_equals_uninterrupted(
    data, begun, broker, topic, whole, tmp_path, monkeypatch
):
    class KilledError(Exception):
        pass

    saved, save = [], Checkpoints.save

    def killed(self, progress):
        if len(saved) == 2:  # two windows are safe, a third is learned in vain
            raise KilledError
        saved.append(progress.step)
        save(self, progress)

    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Checkpoints, "save", killed)
        train(config(data, run, begun, broker, [topic]))
    assert rows(run)["positions"] == {f"{topic}/0": 4 * BATCH}
    assert train(config(data, run, begun, broker, [topic]))["steps"] == 8
    for key, value in saved_arrays(whole[0], 8).items():
        np.testing.assert_array_equal(saved_arrays(run, 8)[key], value, err_msg=key)
    assert rows(run)["validation"] == rows(whole[0])["validation"]
    # There is no more; and its run is one as any other.
    assert train(config(data, run, begun, broker, [topic]))["steps"] == 8
    assert 0 < evaluate_run(run, "test")["auc"] < 1


def changed(sample, key, value):
    """A sample of which the first value of a key is another."""
    example = tf.train.Example.FromString(sample)
    feature = example.features.feature[key]
    getattr(feature, feature.WhichOneof("kind")).value[0] = value
    return example.SerializeToString()


def test_what_is_no_sample_is_set_aside(data, begun, broker, whole, tmp_path, caplog):
    from confluent_kafka import Producer

    prepared = PreparedData.load(data)
    samples = [sample for _, sample in send.by_time(prepared, "test")]
    topic = broker.make_topic(1)
    producer = Producer({"bootstrap.servers": broker.address})
    later = changed(samples[20], "candidate_item_id", 10_000)
    unfit = {
        3: [b"no sample"],
        20: [later] + [changed(samples[20], "label", y) for y in (math.nan, 7.0)],
        40: [b""],
    }
    for number, sample in enumerate(samples):
        for message in [*unfit.get(number, ()), sample]:
            producer.produce(topic, message)
    assert producer.flush(60) == 0
    run = tmp_path / "run"
    with caplog.at_level(logging.INFO):
        found = train(config(data, run, begun, broker, [topic]))
    assert found["samples"] == SAMPLES
    lines = (run / "rejected.jsonl").read_text("utf-8").splitlines()
    told = [json.loads(line) for line in lines]
    assert [(row["place"], row["offset"]) for row in told] == [
        (f"{topic}/0", offset) for offset in (3, 21, 22, 23, 44)
    ]
    reasons = [row["reason"] for row in told]
    assert "is not a tf.train.Example" in reasons[0]
    assert "'candidate_item_id' is no id of the data set's" in reasons[1]
    assert reasons[1].endswith("Received: 10000")
    assert reasons[2] == "'label' must be 0 or 1. Received: nan"
    assert reasons[3] == "'label' must be 0 or 1. Received: 7"
    assert "1 set aside: 1 × " in caplog.text
    assert rows(run)["validation"].keys() == rows(whole[0])["validation"].keys()
    assert np.isfinite(list(rows(run)["validation"].values())).all()


def test_it_ends_after_so_many_steps_and_goes_on_with_more(
    data, begun, broker, topic, whole, tmp_path, caplog
):
    run = tmp_path / "run"

    def steps(most):
        values = configs.to_mapping(config(data, run, begun, broker, [topic]))
        values["stream"]["to_end"] = most == 9
        values["training"] |= {"max_steps": most, "epochs": 3, "patience": 5}
        return train(configs.parse(Config, values))["steps"]

    assert steps(3) == 3  # a window of 2, and one of 1
    assert rows(run)["finished"]
    assert rows(run)["positions"] == {f"{topic}/0": 3 * BATCH}
    told = [text for text in caplog.messages if "has no effect" in text]
    assert [text.split("`")[1] for text in told] == [
        "training.epochs=3",
        "training.patience=5",
    ]
    assert steps(3) == 3
    assert load_run(run).config.training.max_steps == 3
    assert steps(9) == 8  # where the topic ends
    assert rows(run)["positions"] == rows(whole[0])["positions"]
    # The same batches are learned in the same order, whatever windows they were of.
    for key, value in saved_arrays(whole[0], 8).items():
        if "/metrics/" not in key:
            np.testing.assert_array_equal(saved_arrays(run, 8)[key], value, err_msg=key)


def test_a_topic_of_something_else_or_of_nothing_ends_it(data, begun, broker, tmp_path):
    from confluent_kafka import Producer

    topic = broker.make_topic(1)
    producer = Producer({"bootstrap.servers": broker.address})
    for _ in range(9):
        producer.produce(topic, b'{"table": "exposures"}')
    assert producer.flush(60) == 0
    with pytest.raises(UserError, match="None of 9 messages of .* is a sample of"):
        train(config(data, tmp_path / "run", begun, broker, [topic]))
    empty = broker.make_topic(2)
    with pytest.raises(UserError, match=f"no message in {empty}, and nothing was"):
        train(config(data, tmp_path / "other", begun, broker, [empty]))


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("training", {"start_from": None}, "`training.start_from` a run to go on from"),
        ("training", {"distribution": "multi_worker"}, "'none': it is one process"),
        ("optimizer", {"schedule": "cosine"}, "'constant', as it has no end"),
        ("stream", {"topics": []}, "belong together"),
        ("stream", {"since": "erliest"}, "Did you mean 'earliest'"),
        ("stream", {"window_steps": 0}, "`stream.window_steps` must be positive"),
        ("stream", {"topics": ["nothing"]}, "topic 'nothing'"),
    ],
)
def test_mistakes(data, begun, broker, topic, tmp_path, section, change, message):
    values = configs.to_mapping(config(data, tmp_path / "run", begun, broker, [topic]))
    values[section] |= change
    with pytest.raises(UserError, match=message):
        train(configs.parse(Config, values))
