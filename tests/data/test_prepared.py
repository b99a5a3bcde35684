"""Prepared data sets and their records: what is wrong with a bad one, in words."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from helpers import make_schema
from small_run import reordered

from ctr_tf.commands import main as cli
from ctr_tf.data.config import DataConfig
from ctr_tf.data.dataset import dataset
from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.reading import diagnosed, read_examples
from ctr_tf.data.records import check_example, record_spec
from ctr_tf.data.writing import serialize
from ctr_tf.schema import RESERVED_KEYS
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)

SCHEMA = make_schema()
VOCABULARIES = random_vocabularies(SCHEMA, 20)


def make_samples(count, seed=0):
    random = np.random.default_rng(seed)
    return [
        random_sample(SCHEMA, VOCABULARIES, random, behaviors=3 + i, candidates=2)
        for i in range(count)
    ]


def write(folder, samples, shards=1, compression="none"):
    splits = {"train": samples, "validation": []}
    write_prepared(folder, SCHEMA, VOCABULARIES, splits, shards, compression)
    return PreparedData.load(folder)


def test_the_spec_names_every_key_of_a_sample():
    spec = record_spec(SCHEMA)
    (sample,) = make_samples(1)
    assert set(spec) == set(sample)
    assert spec["user_tags"].shape == "[<=3]"
    assert spec["behavior_hour"].shape == "[behaviors]"
    assert spec["candidate_position"].dtype == "int64"
    assert spec["user_age"].dtype == "float32"
    assert spec["true_probability"].optional


def test_no_feature_can_take_a_key_that_every_record_has():
    every = {key for key, field in record_spec(SCHEMA).items() if not field.feature}
    of_features = {field.length_key for field in record_spec(SCHEMA).values()}
    labels = {f"label_{name}" for name in SCHEMA.labels[1:]}
    assert every - of_features - labels <= set(RESERVED_KEYS)


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_records_read_back_equal(tmp_path, compression):
    samples = make_samples(5)
    data = write(tmp_path / "data", samples, compression=compression)
    read = [
        check_example(example, SCHEMA)
        for _, _, example in read_examples(data.files("train"), data.compression)
    ]
    for sample, values in zip(samples, read, strict=True):
        assert sample.keys() == values.keys()
        for key in sample:
            np.testing.assert_array_equal(sample[key], values[key], err_msg=key)


def test_a_data_set_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder '.*nowhere'"):
        PreparedData.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="not a prepared data set: it has no m"):
        PreparedData.load(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="manifest.json' is not JSON"):
        PreparedData.load(tmp_path)


def test_an_incomplete_or_changed_data_set(tmp_path):
    data = write(tmp_path / "data", make_samples(4), shards=2)
    data.verify()
    first, second = map(data.folder.joinpath, sorted(data.files("train")))
    content = first.read_bytes()
    first.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="part-00000.*must have the SHA-256.*Received"):
        data.verify()
    first.write_bytes(content + b"x")
    with pytest.raises(
        ValueError, match=f"{len(content)} bytes. Received: {len(content) + 1}"
    ):
        data.verify()
    second.unlink()
    with pytest.raises(FileNotFoundError, match="incomplete.*part-00001.*missing"):
        data.files("train")
    with pytest.raises(ValueError, match="Split 'validation'.*no samples"):
        data.files("validation")
    with pytest.raises(ValueError, match="Unknown split 'text'.*Known: train, valid"):
        data.files("text")


def without(sample, key):
    return {name: value for name, value in sample.items() if name != key}


FAULTS = {
    "missing key": (
        lambda s: without(s, "candidate_item_id"),
        "'candidate_item_id' is missing.",
    ),
    "missing behavior key": (
        lambda s: without(s, "behavior_hour"),
        "'behavior_hour' is missing.",
    ),
    "missing scalar": (lambda s: without(s, "user_age"), "'user_age' is missing."),
    "missing label": (lambda s: without(s, "label"), "'label' is missing."),
    "wrong dtype": (
        lambda s: s | {"candidate_position": np.float32([1, 2])},
        "'candidate_position' must be int64. Received: float32",
    ),
    "uneven behaviors": (
        lambda s: s | {"behavior_action": s["behavior_action"][1:]},
        "'behavior_action' must have as many values as the sample has behaviors, 5. "
        "Received: 4",
    ),
    "uneven candidates": (
        lambda s: s | {"label": np.float32([1, 0, 1])},
        "'label' must have as many values as the sample has candidates, 2. Received: 3",
    ),
    "two request times": (
        lambda s: s | {"request_time": np.int64([1, 2])},
        "'request_time' must have 1 values. Received: 2",
    ),
}


@pytest.mark.parametrize("fault, message", FAULTS.values(), ids=FAULTS)
def test_a_bad_sample_is_found(tmp_path, fault, message):
    samples = make_samples(4)
    samples[2] = fault(samples[2])
    if "label" not in samples[2]:
        label = samples[2].pop("true_probability")
        samples[2]["label"] = label  # for the writer's count of candidates
    data = write(tmp_path / "data", samples)
    if "missing label" in message or message == "'label' is missing.":
        rewrite_without_label(data, samples)
    with pytest.raises(ValueError) as error, diagnosed(data, "train"):
        list(
            dataset(
                data, "train", DataConfig(batch_size=4), num_chunks=4, training=False
            )
        )
    (file,) = data.files("train")
    assert str(error.value) == f"{file}: record 2: {message}"


def rewrite_without_label(data, samples):
    (file,) = data.files("train")
    with tf.io.TFRecordWriter(file) as writer:
        for i, sample in enumerate(samples):
            writer.write(serialize(without(sample, "label") if i == 2 else sample))


@pytest.mark.parametrize("cut", ["flip", "truncate", "text"])
def test_a_bad_file_is_found(tmp_path, cut):
    samples = make_samples(3)
    data = write(tmp_path / "data", samples)
    (file,) = data.files("train")
    if cut == "text":
        with tf.io.TFRecordWriter(file) as writer:
            for record in (serialize(samples[0]), b"hello"):
                writer.write(record)
        expected = "record 1 is not a tf.train.Example"
    else:
        content = bytearray(open(file, "rb").read())
        if cut == "flip":
            content[-20] ^= 1
        open(file, "wb").write(content if cut == "flip" else content[:-20])
        expected = "record 2 is corrupt or cut off"
    with pytest.raises(ValueError, match=expected), diagnosed(data, "train"):
        list(
            dataset(
                data, "train", DataConfig(batch_size=4), num_chunks=4, training=False
            )
        )


def test_another_error_stays_what_it_is(tmp_path):
    data = write(tmp_path / "data", make_samples(1))
    with (
        pytest.raises(tf.errors.InvalidArgumentError, match="mine"),
        diagnosed(data, "train"),
    ):
        raise tf.errors.InvalidArgumentError(None, None, "mine")


def test_a_manifest_of_another_format(tmp_path):
    data = write(tmp_path / "data", make_samples(1))
    path = data.folder / "manifest.json"
    values = data.manifest.to_mapping()
    for version, what in ((99, "is of a newer version"), (3, "must be prepared again")):
        path.write_text(json.dumps(values | {"format_version": version}))
        with pytest.raises(ValueError) as error:
            PreparedData.load(data.folder)
        assert str(error.value) == (
            f"'{path}' must have format_version 4; what it tells of {what}. "
            f"Received: {version}"
        )


def test_a_vocabulary_changed_by_hand(tmp_path):
    folder = write(tmp_path / "data", make_samples(2)).folder
    path = folder / "vocabularies" / "category.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[1], lines[0], *lines[2:]]))
    with pytest.raises(ValueError, match="category.txt' is not what manifest.json say"):
        PreparedData.load(folder)


def test_a_record_file_of_another_size(tmp_path, capsys):
    data = write(tmp_path / "data", make_samples(4), shards=2)
    assert cli.main(["inspect", "--data", str(data.folder), "--verify"]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    path = Path(data.files("train")[1])
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    expected = f"part-00001.*{len(content)} bytes. Received: {len(content) - 1}"
    with pytest.raises(ValueError, match=expected):
        PreparedData.load(data.folder)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert cli.main(["inspect", "--data", str(data.folder), "--verify"]) == 2
    assert f"'{path}' must have the SHA-256" in capsys.readouterr().err
    path.unlink()
    with pytest.raises(FileNotFoundError, match="incomplete.*part-00001.*missing"):
        PreparedData.load(data.folder)


def test_data_are_read_by_other_vocabularies(tmp_path, caplog):
    samples = make_samples(5)
    data = write(tmp_path / "data", samples)
    assert data.read_as(SCHEMA, VOCABULARIES) is data
    changed, vocabularies = reordered(samples, SCHEMA, VOCABULARIES)
    splits = {"train": changed, "validation": []}
    write_prepared(tmp_path / "other", SCHEMA, vocabularies, splits)
    other = PreparedData.load(tmp_path / "other")
    with caplog.at_level("INFO"):
        mapped = other.read_as(SCHEMA, VOCABULARIES)
    assert "item_id 1 of 21" in caplog.text

    def batches(data):
        config = DataConfig(batch_size=5)
        (batch,) = dataset(data, "train", config, num_chunks=4, training=False)
        return batch[0]

    expected = batches(write(tmp_path / "same", samples, shards=2))
    found, unmapped = batches(mapped), batches(other)
    for key in expected:
        np.testing.assert_array_equal(found[key], expected[key], err_msg=key)
    assert not np.array_equal(unmapped["candidate_item_id"], found["candidate_item_id"])
    wanted = "must be that of the model .*'history_length: 7' there"
    with pytest.raises(ValueError, match=wanted):
        other.read_as(make_schema(history_length=7), VOCABULARIES)
    horizon = dataclasses.replace(SCHEMA, horizon="90d")
    with pytest.raises(ValueError, match="'horizon: 90d' there, '' here"):
        other.read_as(horizon, VOCABULARIES)
