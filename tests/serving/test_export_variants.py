"""Every kind of export: attention, precision, state format, XLA; and its warm-up."""

import collections
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import make_schema

from ctr_tf.data.prepared import PreparedData
from ctr_tf.models import build_ranker
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from serving.export import ExportOptions, export_ranker
from serving.exported import Exported
from serving.golden import (
    compiled_functions,
    model_scores,
    read_samples,
    score_once,
    score_twice,
)
from serving.request import request_from_sample, request_to_tensors
from serving.saved_model import call
from serving.self_test import read_warmup, replay_warmup

pytestmark = pytest.mark.long

SCHEMA = make_schema(history_length=12, num_chunks=3)
VOCABULARIES = random_vocabularies(SCHEMA, 30)
HISTORIES = (12, 0, 3, 7)
SLATES = (3, 4, 1, 6)
SMALL = {"dim": 16, "num_heads": 2, "embedding_dim": 4}
SIZES = {"history_lengths": (6, 12), "slate_sizes": (3, 5), "batch_sizes": (1, 2)}
# Name → SparseCTR, precision, export; test_export has the plain one, and
# test_export_models the other models. The absolute bounds are those of serving.golden.
ONE_SIZE = {"slate_sizes": (6,), "history_lengths": (12,)}
HALF_STATE = {"state_dtype": "bfloat16"}
VARIANTS = {
    "mixed_bfloat16": ({}, "mixed_bfloat16", HALF_STATE),
    "full": ({"attention": "full"}, "float32", HALF_STATE | ONE_SIZE),
    "mixed_float16": ({"attention": "full"}, "mixed_float16", ONE_SIZE),
    "xla": ({}, "float32", {"xla": True} | ONE_SIZE),
}
BOUND = {"float32": 1e-5, "mixed_bfloat16": 2e-2, "mixed_float16": 2e-3}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    random = np.random.default_rng(0)
    samples = [
        random_sample(SCHEMA, VOCABULARIES, random, behaviors, candidates)
        for behaviors, candidates in zip(HISTORIES, SLATES, strict=True)
    ]
    folder = tmp_path_factory.mktemp("prepared") / "data"
    splits = {"train": samples, "validation": [], "test": samples}
    write_prepared(folder, SCHEMA, VOCABULARIES, splits)
    return PreparedData.load(folder)


def make_ranker(config, precision):
    keras.utils.set_random_seed(0)
    sizes = VOCABULARIES.table_sizes(SCHEMA)
    ranker = build_ranker(config, SCHEMA, sizes, dtype=precision)
    random = np.random.default_rng(0)
    for variable in ranker.trainable_variables:  # biases and scores far from zero
        variable.assign(variable + random.normal(scale=0.1, size=variable.shape))
    return ranker


Variant = collections.namedtuple("Variant", "name ranker folder model exported")


@pytest.fixture(scope="module", params=list(VARIANTS))
def variant(request, tmp_path_factory, data):
    settings, precision, options = VARIANTS[request.param]
    config = SparseCTRConfig(**SMALL, num_blocks=1, **settings)
    ranker = make_ranker(config, precision)
    options = ExportOptions(**SIZES | options)
    folder = export_ranker(ranker, data, tmp_path_factory.mktemp("export"), options)
    model = tf.saved_model.load(str(folder))
    return Variant(request.param, ranker, folder, model, Exported.load(folder))


def test_every_signature_scores_like_the_model(variant, data):
    signatures = variant.model.signatures
    samples = read_samples(data, 10)
    expected = list(model_scores(variant.ranker, 12, samples, data))
    assert np.std(np.concatenate(expected)) > 0.02
    bound = BOUND[VARIANTS[variant.name][1]]
    assert variant.exported.tolerance == bound
    half = VARIANTS[variant.name][2].get("state_dtype") == "bfloat16"
    assert variant.exported.state_tolerance == (2e-2 if half else bound)
    for sample, scores in zip(samples, expected, strict=True):
        request = request_from_sample(sample, SCHEMA, VOCABULARIES)
        tensors = request_to_tensors(request, SCHEMA)
        once = score_once(signatures, tensors)[0]
        np.testing.assert_allclose(once, scores, rtol=0, atol=bound)
        twice = score_twice(signatures, tensors)[0]
        np.testing.assert_allclose(
            twice, scores, rtol=0, atol=variant.exported.state_tolerance
        )
        assert np.isfinite([once, twice]).all()


def test_plain_graphs_unless_xla_is_asked_for(variant):
    assert bool(compiled_functions(variant.folder)) == (variant.name == "xla")
    assert variant.exported.xla == (variant.name == "xla")


def test_the_state_is_as_the_layout_says(variant, data):
    (sample, *_) = read_samples(data, 1)
    request = request_from_sample(sample, SCHEMA, VOCABULARIES)
    tensors = request_to_tensors(request, SCHEMA)
    state = call(variant.model.signatures["encode_user"], tensors)
    layout = variant.exported.state
    content = layout.serialize({key: np.asarray(value) for key, value in state.items()})
    assert len(content) == layout.num_bytes
    dtypes = {tensor.dtype for tensor in layout.tensors}
    options = VARIANTS[variant.name][2]
    assert dtypes == {options.get("state_dtype", "float32"), "int64", "bool"}
    tensors |= layout.deserialize(content)
    outputs = call(variant.model.signatures["score_candidates"], tensors)
    np.testing.assert_array_equal(
        outputs["probability"],
        score_twice(variant.model.signatures, tensors | state),
    )


def test_warmup_covers_every_signature_and_size(variant):
    path = variant.folder / "assets.extra" / "tf_serving_warmup_requests"
    seen = collections.defaultdict(set)
    for request in read_warmup(path):
        value = {key: tf.make_ndarray(tensor) for key, tensor in request.inputs.items()}
        sizes = [len(next(iter(value.values())))]
        if "behavior_length" in value:
            sizes.append(int(value["behavior_length"][0]))
            assert value["behavior_time"].shape[1] == sizes[-1]
            assert (np.diff(value["behavior_time"]) >= 0).all()
            assert (value["behavior_time"] < value["request_time"][:, None]).all()
        if "candidate_length" in value:
            sizes.append(int(value["candidate_length"][0]))
            assert value["candidate_item_id"].shape[1] == sizes[-1]
        if "examples" in value:
            example = tf.train.Example.FromString(value["examples"][0])
            for key in ("behavior_time", "candidate_item_id"):
                sizes.append(len(example.features.feature[key].int64_list.value))
        seen[request.model_spec.signature_name].add(tuple(sizes))
    batches = (1, 2) if variant.name == "xla" else (1,)
    histories, slates = variant.exported.history_lengths, variant.exported.slate_sizes
    both = {(b, n, c) for b in batches for n in histories for c in slates}
    assert seen == {
        "serving_default": both,
        "serialized_examples": both,
        "encode_user": {(b, n) for b in batches for n in histories},
        "score_candidates": {(b, c) for b in batches for c in slates},
    }
    assert replay_warmup(path, variant.model.signatures) == sum(map(len, seen.values()))


def test_the_readme_tells_sizes_and_state(variant):
    extra = variant.folder / "assets.extra"
    text = (extra / "README.md").read_text("utf-8")
    assert f"{variant.exported.state.num_bytes:,} bytes" in text
    sizes = ", ".join(map(str, variant.exported.history_lengths))
    assert f"padded to {sizes} behaviors" in text
    described = json.loads((extra / "export.json").read_text("utf-8"))
    assert described["state"]["bytes"] == variant.exported.state.num_bytes
