"""Every registered model as a SavedModel, by the C++ loader: all ways score alike."""

import contextlib
import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_export import SCHEMA, VOCABULARIES, many_inputs

from ctr_tf.data.writing import serialize
from ctr_tf.models import MODELS, build_ranker
from serving.golden import model_scores
from serving.request import request_from_sample, request_to_tensors
from serving.signatures import ServingModule

TINY = {"dim": 16, "num_heads": 2, "embedding_dim": 4, "num_blocks": 1}
HISTORY_LENGTHS, SLATE_SIZES = (6, 16), (5,)


def make_ranker(name):
    """Untrained, biases and scores far from zero."""
    keras.utils.set_random_seed(0)
    config_class = MODELS[name].config_class
    fields = {field.name for field in dataclasses.fields(config_class)}
    config = config_class(**{key: TINY[key] for key in TINY.keys() & fields})
    ranker = build_ranker(config, SCHEMA, VOCABULARIES.table_sizes(SCHEMA))
    random = np.random.default_rng(0)
    for variable in ranker.trainable_variables:
        variable.assign(variable + random.normal(scale=0.1, size=variable.shape))
    ranker.embedding.adapt([many_inputs(ranker, random)])
    return ranker


@contextlib.contextmanager
def loaded(folder):
    """What calls a signature of a SavedModel: name, tensors → outputs."""
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True  # takes long
    with tf.compat.v1.Session(graph=tf.Graph(), config=config) as session:
        model = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))

        def call(name, tensors):
            signature = model.signature_def[name]
            return session.run(
                {key: info.name for key, info in signature.outputs.items()},
                {info.name: tensors[key] for key, info in signature.inputs.items()},
            )

        yield call


@pytest.mark.parametrize("name", MODELS)
def test_all_signatures_score_like_the_model(name, data, samples, tmp_path):
    ranker = make_ranker(name)
    expected = list(model_scores(ranker, HISTORY_LENGTHS[-1], samples, data))
    assert np.std(np.concatenate(expected)) > 0.05
    vocabularies = data.folder / "vocabularies"
    module = ServingModule(ranker, vocabularies, HISTORY_LENGTHS, SLATE_SIZES)
    tf.saved_model.save(module, str(tmp_path), module.signatures())
    with loaded(tmp_path) as call:
        records = {"examples": [serialize(sample) for sample in samples]}
        replayed = call("serialized_examples", records)["probability"]
        for row, sample, scores in zip(replayed, samples, expected, strict=True):
            request = request_from_sample(sample, SCHEMA, VOCABULARIES)
            tensors = request_to_tensors(request, SCHEMA)
            state = call("encode_user", tensors)
            ways = {
                "serialized_examples": row[: len(scores)],
                "serving_default": call("serving_default", tensors)["probability"][0],
                "two steps": call("score_candidates", tensors | state)["probability"][
                    0
                ],
            }
            for way, found in ways.items():
                np.testing.assert_allclose(found, scores, 0, 1e-5, err_msg=way)
