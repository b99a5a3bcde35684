"""Hashed features in an export: the graph hashes raw values as the job does."""

import json

import keras
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.writing import serialize
from ctr_tf.models import build_ranker
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
from ctr_tf.schema import Categorical, Schema
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from serving.export import ExportOptions, export_ranker
from serving.exported import EXAMPLE_REQUEST, EXTRA, GOLDEN
from serving.golden import (
    example_request,
    model_scores,
    read_samples,
    score_once,
    score_twice,
)
from serving.request import request_from_sample, request_to_tensors
from serving.score import Scorer

SCHEMA = Schema.from_yaml("""
name: shop
history_length: 8
num_chunks: 2
counters: []
features:
  - {name: item_id, role: item, kind: categorical, dtype: int64, hash_buckets: 1000}
  - {name: tags, role: item, kind: categorical, length: 3, hash_buckets: 50}
  - {name: city, role: user, kind: categorical, hash_buckets: 90}
  - {name: group, role: user, kind: categorical, dtype: int64, hash_buckets: 9}
  - {name: page, role: context, kind: categorical, hash_buckets: 200000}
""")
VOCABULARIES = random_vocabularies(SCHEMA, 0)
RAW = {
    "int64": [None, 0, 7, -3, 2**62, -(2**62), 123_456_789],
    "string": [None, "", "0", "ä ∞", "a b", "x" * 99, " x"],
}
KEYS = [
    (group, feature)
    for group, features in SCHEMA.groups().items()
    for feature in features
    if isinstance(feature, Categorical)
]


def stored(feature, raw):
    """As the job stores it, to which the empty text is a missing value."""
    raw = [None if value == "" else value for value in raw]
    return feature.store(pa.array(raw, feature.arrow_type), VOCABULARIES)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    random = np.random.default_rng(0)
    samples = [random_sample(SCHEMA, VOCABULARIES, random, n, 4) for n in (8, 0, 3, 5)]
    folder = tmp_path_factory.mktemp("prepared") / "data"
    write_prepared(folder, SCHEMA, VOCABULARIES, {"test": samples})
    return PreparedData.load(folder)


@pytest.fixture(scope="module")
def ranker():
    """Untrained, with scores far from each other."""
    keras.utils.set_random_seed(0)
    config = SparseCTRConfig(dim=16, num_heads=2, embedding_dim=4)
    ranker = build_ranker(config, SCHEMA, VOCABULARIES.table_sizes(SCHEMA))
    random = np.random.default_rng(0)
    for variable in ranker.trainable_variables:
        variable.assign(variable + random.normal(scale=0.2, size=variable.shape))
    return ranker


OPTIONS = ExportOptions((4, 8), (4, 8), (1,), samples=4)


@pytest.fixture(scope="module")
def export(ranker, data, tmp_path_factory):
    return export_ranker(ranker, data, tmp_path_factory.mktemp("export"), OPTIONS)


def raw_request(sample, random):
    """A request of raw values, which takes the place of the sample's hashed ids."""
    request = request_from_sample(sample, SCHEMA, VOCABULARIES)
    rows = {
        "user": [request["user"]],
        "context": [request["context"]],
        "behavior": request["behaviors"],
        "candidate": request["candidates"],
    }
    for group, feature in KEYS:
        values = []
        for row in rows[group]:
            count = len(row[feature.name]) if feature.length > 1 else 1
            own = [RAW[feature.dtype][i] for i in random.integers(0, 7, count)]
            row[feature.name] = own if feature.length > 1 else own[0]
            values += own
        sample[f"{group}_{feature.name}"] = stored(feature, values)
    return request


def test_raw_values_score_like_the_ids_that_the_job_writes(ranker, data, export):
    random = np.random.default_rng(1)
    samples = [random_sample(SCHEMA, VOCABULARIES, random, n, 5) for n in (8, 1, 4)]
    requests = [raw_request(sample, random) for sample in samples]
    expected = list(model_scores(ranker, 8, samples, data))
    assert np.std(np.concatenate(expected)) > 0.02
    model = tf.saved_model.load(str(export))
    records = tf.constant([serialize(sample) for sample in samples])
    by_records = model.signatures["serialized_examples"](examples=records)
    for request, scores, found in zip(
        requests, expected, by_records["probability"], strict=True
    ):
        tensors = request_to_tensors(request, SCHEMA)
        for row in (
            found,
            score_once(model.signatures, tensors)[0],
            score_twice(model.signatures, tensors)[0],
        ):
            np.testing.assert_allclose(row, scores, atol=1e-5)


def test_a_sample_becomes_a_request_that_gets_its_ids(data):
    samples = read_samples(data, 4)
    assert len(samples) == 4
    for sample in samples:
        request = request_from_sample(sample, SCHEMA, VOCABULARIES)
        rows = {
            "user": [request["user"]],
            "context": [request["context"]],
            "behavior": request["behaviors"],
            "candidate": request["candidates"],
        }
        for group, feature in KEYS:
            raw = [row[feature.name] for row in rows[group]]
            if feature.length > 1:
                raw = [value for values in raw for value in values]
            ids = sample[f"{group}_{feature.name}"].tolist()
            assert stored(feature, raw).tolist() == ids
            assert [value is None for value in raw] == [i == 1 for i in ids]


def test_ids_stay_as_far_as_there_are_values_for_them(data):
    """Of few buckets every one has a value, and equal ids stay equal."""
    found = [
        sample["candidate_item_id"].tolist() + sample["behavior_tags"].tolist()
        for sample in read_samples(data, 4)
    ]
    random = np.random.default_rng(0)
    own = [random_sample(SCHEMA, VOCABULARIES, random, n, 4) for n in (8, 0, 3, 5)]
    expected = [
        sample["candidate_item_id"].tolist() + sample["behavior_tags"].tolist()
        for sample in own
    ]
    assert sorted(found) == sorted(expected)


def test_the_examples_of_an_export_can_be_scored(export):
    request = json.loads((export / EXTRA / EXAMPLE_REQUEST).read_text("utf-8"))
    items = [candidate["item_id"] for candidate in request["candidates"]]
    assert len(items) == len(set(items)) > 8 and None not in items
    assert len(Scorer(export).score(request)) == len(items)
    golden = json.loads((export / EXTRA / GOLDEN).read_text("utf-8"))
    assert any(entry["request"]["user"]["city"] for entry in golden)


def test_a_graph_that_hashes_otherwise_is_not_published(
    ranker, data, tmp_path, monkeypatch
):
    right = Categorical.to_stored

    def other(self, raw, encoder):
        ids = right(self, raw, encoder)
        return tf.where(ids < 2, ids, 2 + (ids - 1) % self.hash_buckets)

    monkeypatch.setattr(Categorical, "to_stored", other)
    with pytest.raises(RuntimeError, match="does not score like the model: serving_de"):
        export_ranker(ranker, data, tmp_path, OPTIONS)


def test_an_example_without_any_known_item_has_candidates(data):
    samples = read_samples(data, 4)
    for sample in samples:
        sample["candidate_item_id"] = np.ones_like(sample["candidate_item_id"])
    request = example_request(samples, data, 3)
    assert [candidate["item_id"] for candidate in request["candidates"]] == [None] * 3
