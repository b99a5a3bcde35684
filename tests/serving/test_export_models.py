"""Every registered model as a SavedModel, by the C++ loader: all ways score alike."""

import contextlib
import dataclasses

import keras
import numpy as np
import pytest
import small_language_model
import tensorflow as tf
from helpers import make_schema
from small_export import HISTORIES, SCHEMA, SLATES, VOCABULARIES, many_inputs

from ctr_tf.data.batches import BatchReader
from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.text_inputs import TextInputs
from ctr_tf.data.writing import serialize
from ctr_tf.models import MODELS, build_ranker
from ctr_tf.models.ctr_sink import CTRSinkConfig
from ctr_tf.models.din import DINConfig
from ctr_tf.models.texts_config import TextsConfig
from ctr_tf.models.with_texts import WithTextsConfig
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from serving.golden import model_scores, read_samples
from serving.request import request_from_sample, request_to_tensors
from serving.signatures import ServingModule

TINY = {"dim": 16, "num_heads": 2, "embedding_dim": 4, "num_blocks": 1}
HISTORY_LENGTHS, SLATE_SIZES = (6, 16), (5,)
EVERY_TIME = ("sparsectr", "light_suan", "with_texts")
# Of the others those whose states differ most: `make test-long`; and `test-studies`.
OF_OWN_STATES = ("suan", "hstu", "eta", "sdim", "twin_v2", "din_gap", "ctr_sink")
TEXT_SCHEMA = make_schema(history_length=16, num_chunks=4, texts=True)
TEXT_VOCABULARIES = random_vocabularies(TEXT_SCHEMA, 30)
TEXTS = TextsConfig(
    language_model=small_language_model.folder("bert"),
    pretrained=False,
    history_tokens=48,
    inter_sink=1,
    units=(8, 8, 4),
)
READERS = {
    "ctr_sink": CTRSinkConfig(**dataclasses.asdict(TEXTS)),
    "with_texts": WithTextsConfig(ranker=DINConfig(dim=16, num_heads=2), texts=TEXTS),
}


@pytest.fixture(scope="module")
def text_data(tmp_path_factory):
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("texts") / "data"
    samples = [
        random_sample(TEXT_SCHEMA, TEXT_VOCABULARIES, random, *sizes)
        for sizes in zip(HISTORIES, SLATES, strict=True)
    ]
    write_prepared(folder, TEXT_SCHEMA, TEXT_VOCABULARIES, {"test": samples})
    return PreparedData.load(folder)


def make_reader(name, data, **changes):
    """Untrained, sinks far from words."""
    keras.utils.set_random_seed(0)
    config = READERS[name].with_texts(**changes)
    sizes = data.vocabularies.table_sizes(TEXT_SCHEMA)
    texts = data.vocabularies.texts
    ranker = build_ranker(config, TEXT_SCHEMA, sizes, texts=texts)
    random = np.random.default_rng(0)
    for variable in ranker.trainable_variables:
        variable.assign(variable + random.normal(scale=0.1, size=variable.shape))
    return ranker


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


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=()
            if name in EVERY_TIME
            else pytest.mark.long
            if name in OF_OWN_STATES
            else pytest.mark.study,
        )
        for name in MODELS
    ],
)
def test_all_signatures_score_like_the_model(name, data, samples, text_data, tmp_path):
    # Each size is traced by itself.
    lengths = HISTORY_LENGTHS if name in EVERY_TIME else HISTORY_LENGTHS[-1:]
    reads = MODELS[name].reads_texts
    if reads:
        data, ranker = text_data, make_reader(name, text_data)
        samples = read_samples(data, len(SLATES))
    else:
        ranker = make_ranker(name)
    expected = list(model_scores(ranker, lengths[-1], samples, data))
    assert np.std(np.concatenate(expected)) > (0.01 if reads else 0.05)
    vocabularies = data.folder / "vocabularies"
    module = ServingModule(ranker, vocabularies, lengths, SLATE_SIZES)
    tf.saved_model.save(module, str(tmp_path), module.signatures())
    with loaded(tmp_path) as call:
        records = {"examples": [serialize(sample) for sample in samples]}
        replayed = call("serialized_examples", records)["probability"]
        for row, sample, scores in zip(replayed, samples, expected, strict=True):
            request = request_from_sample(sample, data.schema, data.vocabularies)
            tensors = request_to_tensors(request, data.schema)
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


@pytest.mark.long
@pytest.mark.parametrize(
    "tune", ["upper", pytest.param("nothing", marks=pytest.mark.study)]
)
def test_texts_that_no_training_changes_are_read_once(text_data, tmp_path, tune):
    ranker = make_reader("ctr_sink", text_data, tune=tune, inter_sink=0)
    samples = read_samples(text_data, len(SLATES))
    module = ServingModule(
        ranker, text_data.folder / "vocabularies", HISTORY_LENGTHS, SLATE_SIZES
    )
    texts = text_data.vocabularies.known_texts
    assert module.item_vectors.table.shape == (texts.num_rows, 2, 16)
    tf.saved_model.save(module, str(tmp_path), module.signatures())
    expected = list(model_scores(ranker, HISTORY_LENGTHS[-1], samples, text_data))
    assert np.std(np.concatenate(expected)) > 0.01
    unknown = {"item_id": 5, "title": [7, 9], "topic": [8]}
    with loaded(tmp_path) as call:
        records = {"examples": [serialize(sample) for sample in samples]}
        replayed = call("serialized_examples", records)["probability"]
        for row, sample, scores in zip(replayed, samples, expected, strict=True):
            np.testing.assert_allclose(row[: len(scores)], scores, 0, 1e-5)
            request = request_from_sample(
                sample, text_data.schema, text_data.vocabularies
            )
            tensors = request_to_tensors(request, text_data.schema)
            found = call("serving_default", tensors)["probability"][0]
            np.testing.assert_allclose(found, scores, 0, 1e-5)
            first = request["candidates"][0]
            request["candidates"].append({**first, **unknown})
            tensors = request_to_tensors(request, text_data.schema)
            tensors |= call("encode_user", tensors)
            found = call("score_candidates", tensors)["probability"][0]
            np.testing.assert_allclose(found[:-1], scores, 0, 1e-5)
    # The last is read as its tokens say, by the model itself.
    (inputs,) = BatchReader(
        TEXT_SCHEMA,
        4,
        16,
        with_labels=False,
        texts=TextInputs.of_tokens(text_data.vocabularies.texts),
    ).read(tf.constant([serialize(samples[-1])]))
    tokens = {"title": [[[7, 9, 0, 0]]], "topic": [[[8, 0]]]}
    for key, value in inputs.items():
        if key.startswith("candidate_"):
            own = tokens.get(key.removeprefix("candidate_"))
            inputs[key] = value[:, :1] if own is None else tf.constant(own)
    alone = tf.sigmoid(ranker(inputs))[0, 0, 0]
    np.testing.assert_allclose(found[-1], alone, 0, 1e-5)
