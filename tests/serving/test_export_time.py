"""Exports score like records: with daylight saving, with times finer than seconds."""

import dataclasses

import helpers
import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.data.batches import BatchReader
from ctr_tf.data.records import places, record_spec
from ctr_tf.data.writing import serialize
from ctr_tf.models import build_ranker
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
from ctr_tf.synthetic.random_samples import random_sample, random_vocabularies
from ctr_tf.time import DAY, chunk_ids
from serving.inputs import user_inputs
from serving.request import request_from_sample, request_to_tensors
from serving.saved_model import call
from serving.signatures import ServingModule

pytestmark = pytest.mark.long

SCHEMA = helpers.make_schema(history_length=8, num_chunks=2)
TIE = 2  # behaviors of the request's own second


def export(schema, samples, vocabularies, folder, xla=False):
    """The loaded export of a ranker, and the probabilities of the records."""
    vocabularies.save(folder / "vocabularies")
    config = SparseCTRConfig(dim=16, num_heads=2)
    ranker = build_ranker(config, schema, vocabularies.table_sizes(schema))
    reader = BatchReader(schema, ranker.num_chunks, 8, with_labels=False)
    (inputs,) = reader.read(tf.constant([serialize(sample) for sample in samples]))
    ranker.embedding.adapt([inputs])
    expected = tf.sigmoid(ranker(inputs))[..., 0].numpy()
    module = ServingModule(ranker, folder / "vocabularies", (8,), (3,), xla=xla)
    tf.saved_model.save(module, str(folder / "1"), module.signatures())
    return tf.saved_model.load(str(folder / "1")), expected


def some_samples(schema, vocabularies, count):
    random = np.random.default_rng(0)
    return [random_sample(schema, vocabularies, random, 8, 3) for _ in range(count)]


@pytest.mark.parametrize("xla", [False, True], ids=["plain", "xla"])
def test_raw_requests_of_a_zone_score_like_records(tmp_path, xla):
    schema = dataclasses.replace(SCHEMA, time_zone="Europe/Copenhagen")
    vocabularies = random_vocabularies(schema, 20)
    samples = some_samples(schema, vocabularies, 12)
    hours = {int(sample["context_hour"][0]) for sample in samples}
    assert len(hours) > 3
    loaded, expected = export(schema, samples, vocabularies, tmp_path, xla)
    for sample, scores in zip(samples, expected, strict=True):
        request = request_from_sample(sample, schema, vocabularies)
        tensors = request_to_tensors(request, schema)
        outputs = call(loaded.signatures["serving_default"], tensors)
        np.testing.assert_allclose(outputs["probability"][0], scores, atol=1e-5)


@pytest.mark.parametrize("unit", ["seconds", "milliseconds"])
def test_behaviors_of_the_requests_own_second(tmp_path, unit):
    """Known when the log's own times are finer; else they may be later."""
    schema = dataclasses.replace(SCHEMA, time_unit=unit)
    vocabularies = random_vocabularies(schema, 20)
    samples = some_samples(schema, vocabularies, 4)
    for sample in samples:
        sample["behavior_time"][-TIE:] = sample["request_time"]
        for name in ("hour", "weekend"):
            sample[f"behavior_{name}"][-TIE:] = sample[f"context_{name}"]
        valid = np.ones((1, 8), bool)
        chunks = chunk_ids(sample["behavior_time"][None], valid, schema.num_chunks)
        sample["behavior_chunk"] = chunks[0]
    loaded, whole = export(schema, samples, vocabularies, tmp_path)
    finer = dataclasses.replace(schema, time_unit="milliseconds")  # refuses no tie
    differs = 0.0
    for sample, scores in zip(samples, whole, strict=True):
        request = request_from_sample(sample, schema, vocabularies)
        tensors = request_to_tensors(request, finer)
        tied = call(loaded.signatures["serving_default"], tensors)["probability"]
        tensors["behavior_length"] = tensors["behavior_length"] - TIE
        without = call(loaded.signatures["serving_default"], tensors)["probability"]
        if unit == "milliseconds":
            np.testing.assert_allclose(tied[0], scores, atol=1e-5)
        else:
            np.testing.assert_array_equal(tied, without)
        differs = max(differs, np.abs(without[0] - scores).max())
    assert differs > 1e-3
    (told,) = (i for i in user_inputs(schema) if i.name == "behavior_time")
    word = {"seconds": "not before", "milliseconds": "after"}[unit]
    assert f"those {word} request_time are left out" in told.meaning


def test_behaviors_beyond_the_horizon_are_left_out(tmp_path):
    schema = dataclasses.replace(SCHEMA, horizon="3d")
    vocabularies = random_vocabularies(schema, 20)
    samples = some_samples(schema, vocabularies, 4)
    loaded, _ = export(schema, samples, vocabularies, tmp_path)
    for sample in samples:
        now = int(sample["request_time"][0])
        begin = (now - 3 * DAY) // DAY * DAY
        request = request_from_sample(sample, schema, vocabularies)
        behaviors = request["behaviors"]
        for back, behavior in enumerate(behaviors[::-1]):
            behavior["time"] = begin + 2 - back  # the latest three are known
        scores = []
        for asked in (behaviors, behaviors[-3:], behaviors[-2:]):
            tensors = request_to_tensors(request | {"behaviors": asked}, schema)
            score = call(loaded.signatures["serving_default"], tensors)
            scores.append(score["probability"])
        assert len(behaviors) > 3
        np.testing.assert_array_equal(scores[0], scores[1])
        assert np.abs(scores[1] - scores[2]).max() > 1e-5
    (told,) = (i for i in user_inputs(schema) if i.name == "behavior_time")
    assert "and those before the UTC day of request_time - 3d" in told.meaning


@pytest.mark.parametrize("unit", ["seconds", "milliseconds"])
def test_equal_behaviors_of_one_second(tmp_path, unit):
    """Told twice where the log counts seconds; else perhaps two moments, as here."""
    schema = dataclasses.replace(SCHEMA, time_unit=unit)
    vocabularies = random_vocabularies(schema, 20)
    (sample,) = some_samples(schema, vocabularies, 1)
    for key in [k for k in sample if k.startswith("behavior_")]:
        if f"{key}_length" not in sample and not key.endswith("_length"):
            sample[key][4] = sample[key][3]
    spec = record_spec(schema)
    lists = [k for k in sample if k.startswith("behavior_") and f"{k}_length" in sample]
    for key in lists:
        parts = places(sample, spec[key])
        parts[4] = parts[3]
        sample[key] = np.concatenate(parts)
        sample[f"{key}_length"] = np.array([len(part) for part in parts])
    sample["behavior_item_id"][3:5] = 7
    valid = np.ones((1, 8), bool)
    chunks = chunk_ids(sample["behavior_time"][None], valid, schema.num_chunks)
    sample["behavior_chunk"] = chunks[0]
    loaded, (expected,) = export(schema, [sample], vocabularies, tmp_path)
    request = request_from_sample(sample, schema, vocabularies)
    tensors = request_to_tensors(request, schema)
    found = call(loaded.signatures["serving_default"], tensors)["probability"][0]
    if unit == "milliseconds":
        np.testing.assert_allclose(found, expected, atol=1e-5)
    else:
        assert np.abs(found - expected).max() > 1e-4
    (told,) = (i for i in user_inputs(schema) if i.name == "behavior_time")
    assert ("one counts" in told.meaning) == (unit == "seconds")
