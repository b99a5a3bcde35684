"""A model of a log with daylight saving: its export computes the local hours itself."""

import dataclasses

import helpers
import numpy as np
import tensorflow as tf

from ctr_tf.data.batches import BatchReader
from ctr_tf.data.random_samples import random_sample, random_vocabularies, serialize
from ctr_tf.models import build_ranker
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
from serving.golden import call
from serving.request import request_from_sample, request_to_tensors
from serving.signatures import ServingModule

SCHEMA = dataclasses.replace(
    helpers.make_schema(history_length=8, num_chunks=2), time_zone="Europe/Copenhagen"
)


def test_raw_requests_score_like_records(tmp_path):
    vocabularies = random_vocabularies(SCHEMA, 20)
    vocabularies.save(tmp_path / "vocabularies")
    config = SparseCTRConfig(dim=16, num_heads=2)
    ranker = build_ranker(config, SCHEMA, vocabularies.table_sizes(SCHEMA))
    random = np.random.default_rng(0)
    samples = [random_sample(SCHEMA, vocabularies, random, 8, 3) for _ in range(12)]
    reader = BatchReader(SCHEMA, ranker.num_chunks, 8, with_labels=False)
    (inputs,) = reader.read(tf.constant([serialize(sample) for sample in samples]))
    ranker.embedding.adapt([inputs])
    expected = tf.sigmoid(ranker(inputs)).numpy()
    module = ServingModule(ranker, tmp_path / "vocabularies", (8,), (3,))
    tf.saved_model.save(module, str(tmp_path / "1"), module.signatures())
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    for sample, scores in zip(samples, expected, strict=True):
        request = request_from_sample(sample, SCHEMA, vocabularies)
        tensors = request_to_tensors(request, SCHEMA)
        outputs = call(loaded.signatures["serving_default"], tensors)
        np.testing.assert_allclose(outputs["probability"][0], scores, atol=1e-5)
