"""The exported model scores like the Keras model, whichever way it is asked."""

import copy
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import make_schema

from ctr_tf import time_ops
from ctr_tf.data.batches import BatchReader
from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.random_samples import (
    random_sample,
    random_vocabularies,
    serialize,
    write_prepared,
)
from ctr_tf.data.records import BEHAVIORS, record_spec
from ctr_tf.models import build_ranker
from ctr_tf.models.sparse_ctr import SparseCTRConfig
from serving import golden, warmup
from serving.export import ExportOptions, export_ranker, versions
from serving.exported import Exported
from serving.golden import call, compiled_functions, score_once, score_twice
from serving.request import request_from_sample, request_to_tensors
from serving.score import Scorer, find_version, main
from serving.signatures import ServingModule
from serving.state import StateMismatchError

SCHEMA = make_schema(history_length=16, num_chunks=4)
VOCABULARIES = random_vocabularies(SCHEMA, 30)
HISTORIES = (16, 0, 1, 5, 16, 12)
SLATES = (3, 4, 1, 7, 2, 5)
OPTIONS = ExportOptions(
    history_lengths=(6, 16), slate_sizes=(2, 5, 8), batch_sizes=(1, 2)
)


@pytest.fixture(scope="module")
def samples():
    random = np.random.default_rng(0)
    return [
        random_sample(SCHEMA, VOCABULARIES, random, behaviors, candidates)
        for behaviors, candidates in zip(HISTORIES, SLATES, strict=True)
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory, samples):
    folder = tmp_path_factory.mktemp("prepared") / "data"
    splits = {"train": samples, "validation": [], "test": samples}
    write_prepared(folder, SCHEMA, VOCABULARIES, splits)
    return PreparedData.load(folder)


@pytest.fixture(scope="module")
def ranker():
    keras.utils.set_random_seed(0)
    config = SparseCTRConfig(dim=16, num_heads=2, embedding_dim=4)
    ranker = build_ranker(config, SCHEMA, VOCABULARIES.table_sizes(SCHEMA))
    random = np.random.default_rng(0)
    for variable in ranker.trainable_variables:  # biases and scores far from zero
        variable.assign(variable + random.normal(scale=0.3, size=variable.shape))
    return ranker


@pytest.fixture(scope="module")
def folder(tmp_path_factory, ranker, data):
    return export_ranker(ranker, data, tmp_path_factory.mktemp("export"), OPTIONS)


@pytest.fixture(scope="module")
def signatures(folder):
    loaded = tf.saved_model.load(str(folder))
    yield loaded.signatures
    del loaded  # signatures hold no reference to what they belong to


@pytest.fixture(scope="module")
def expected(ranker, samples):
    """Probabilities of the Keras model on the records, one sample at a time."""
    reader = BatchReader(SCHEMA, ranker.num_chunks, 16, with_labels=False)
    batches = [reader.read(tf.constant([serialize(s)]))[0] for s in samples]
    return [tf.sigmoid(ranker(batch))[0].numpy() for batch in batches]


@pytest.fixture(scope="module")
def requests(samples):
    return [
        request_to_tensors(request_from_sample(s, SCHEMA, VOCABULARIES), SCHEMA)
        for s in samples
    ]


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_raw_requests_score_like_records(signatures, requests, expected):
    assert np.std(np.concatenate(expected)) > 0.05
    for tensors, scores in zip(requests, expected, strict=True):
        assert_close(score_once(signatures, tensors)[0], scores)
        assert_close(score_twice(signatures, tensors)[0], scores)


def test_serialized_examples_score_like_the_model(signatures, samples, expected):
    records = tf.constant([serialize(sample) for sample in samples])
    outputs = signatures["serialized_examples"](examples=records)
    assert outputs["probability"].shape == (len(SLATES), max(SLATES))
    for row, scores in zip(outputs["probability"].numpy(), expected, strict=True):
        assert_close(row[: len(scores)], scores)
    assert_close(tf.sigmoid(outputs["logit"]), outputs["probability"])


def test_one_batch_of_all_requests(signatures, requests, expected):
    """Rows padded on the right, with nonsense, score like the rows alone."""
    sizes = {"behavior": max(HISTORIES) + 3, "candidate": max(SLATES) + 2}

    def row(name, value):
        size = sizes.get(name.split("_")[0])
        if value.ndim == 1 or size is None:
            return value
        filler = {np.int64: 1_005, object: "category 3", np.float32: 7}
        fill = np.full(
            (1, size - value.shape[1]),
            filler[value.dtype.type if value.dtype != object else object],
        ).astype(value.dtype)
        return np.concatenate([value, fill], axis=1)

    batch = {
        name: np.concatenate([row(name, tensors[name]) for tensors in requests])
        for name in requests[0]
    }
    for scores in (score_once(signatures, batch), score_twice(signatures, batch)):
        for actual, scores_expected in zip(scores, expected, strict=True):
            assert_close(actual[: len(scores_expected)], scores_expected)


def test_a_list_scores_like_its_candidates_one_by_one(signatures, requests, expected):
    tensors, scores = requests[3], expected[3]
    state = call(signatures["encode_user"], tensors)
    for i, score in enumerate(scores):
        single = {
            name: value[:, i : i + 1] if value.ndim == 2 else np.array([1])
            for name, value in tensors.items()
            if name.startswith("candidate_")
        }
        outputs = call(signatures["score_candidates"], single | state)
        assert_close(outputs["probability"][0], [score])
        part = tensors | single  # slate_size still says how many there are in all
        assert_close(score_once(signatures, part)[0], [score])


def test_candidates_by_the_thousand(signatures, requests, expected):
    tensors, scores = requests[0], expected[0]
    many = {
        name: np.resize(value, (1, 1_000)) if value.ndim == 2 else np.array([1_000])
        for name, value in tensors.items()
        if name.startswith("candidate_")
    }
    assert_close(score_once(signatures, tensors | many)[0], np.resize(scores, 1_000))


def test_more_history_than_the_model_takes(signatures, requests, expected):
    tensors = dict(requests[0])
    older = {
        name: np.concatenate([value[:, :4], value], axis=1)
        for name, value in tensors.items()
        if name.startswith("behavior_") and value.ndim == 2
    }
    older["behavior_time"][:, :4] -= 10**7
    older["behavior_length"] = tensors["behavior_length"] + 4
    assert_close(score_once(signatures, tensors | older)[0], expected[0])


@pytest.mark.parametrize("behaviors", [0, 1, 5, 6, 7, 15])
def test_a_history_between_two_sizes_scores_as_without_padding(
    signatures, ranker, samples, behaviors
):
    fields = record_spec(SCHEMA)
    sample = {
        key: value[16 - behaviors :] if fields[key].size == BEHAVIORS else value
        for key, value in samples[0].items()
    }
    reader = BatchReader(SCHEMA, ranker.num_chunks, 16, with_labels=False)
    (inputs,) = reader.read(tf.constant([serialize(sample)]), max(behaviors, 1))
    inputs["behavior_chunk"] = time_ops.chunk_ids(
        inputs["behavior_time"], inputs["behavior_time"] > 0, ranker.num_chunks
    )
    scores = tf.sigmoid(ranker(inputs))[0].numpy()
    request = request_from_sample(sample, SCHEMA, VOCABULARIES)
    tensors = request_to_tensors(request, SCHEMA)
    assert_close(score_once(signatures, tensors)[0], scores)
    assert_close(score_twice(signatures, tensors)[0], scores)


def test_one_user_of_many_behaviors_sets_the_size_of_the_batch(
    signatures, requests, expected
):
    """Rows of 1 and of 16 behaviors together score like each alone."""
    widths = {"behavior": 16, "candidate": 3}

    def pad(name, value):
        width = widths.get(name.split("_")[0])
        if value.ndim == 1 or width is None:
            return value
        more = width - value.shape[1]
        return np.concatenate([value, np.repeat(value[:, :1], more, axis=1)], axis=1)

    batch = {
        name: np.concatenate([pad(name, requests[i][name]) for i in (0, 2)])
        for name in requests[0]
    }
    scores = score_once(signatures, batch)
    assert_close(scores[0], expected[0])
    assert_close(scores[1, :1], expected[2])


def test_behaviors_after_the_request_are_left_out(signatures, requests, expected):
    tensors = dict(requests[3])
    later = {
        name: np.concatenate([value, value[:, :2]], axis=1)
        for name, value in tensors.items()
        if name.startswith("behavior_") and value.ndim == 2
    }
    later["behavior_time"][:, -2:] = tensors["request_time"] + [0, 9]
    later["behavior_length"] = tensors["behavior_length"] + 2
    assert_close(score_once(signatures, tensors | later)[0], expected[3])


def test_an_unknown_id_scores_like_a_missing_one(samples, folder):
    request = request_from_sample(samples[0], SCHEMA, VOCABULARIES)
    unknown, missing = copy.deepcopy(request), copy.deepcopy(request)
    for changed, item, word in ((unknown, 10**15, "ü ∞"), (missing, None, None)):
        changed["candidates"][0]["item_id"] = item
        changed["behaviors"][-1]["item_id"] = item
        changed["context"]["device"] = word
    scorer = Scorer(folder)
    scores = [
        {s["position"]: s["probability"] for s in scorer.score(r)}
        for r in (unknown, missing, request)
    ]
    assert scores[0] == scores[1]
    assert scores[0] != scores[2]


def test_a_state_in_the_store_scores_like_a_fresh_one(folder, signatures, requests):
    layout = Exported.load(folder).state
    tensors = requests[3]
    state = call(signatures["encode_user"], tensors)
    outputs = {key: value.numpy() for key, value in state.items()}
    content = layout.serialize(outputs)
    assert len(content) == layout.num_bytes
    kept = layout.deserialize(content)
    assert kept.keys() == outputs.keys()
    fresh, stored = (
        call(signatures["score_candidates"], tensors | s)["logit"].numpy()
        for s in (state, kept)
    )
    np.testing.assert_array_equal(fresh, stored)


def test_the_graph_refuses_the_state_of_another_model(folder, signatures, requests):
    state = call(signatures["encode_user"], requests[3])
    state["state_version"] += 1
    fingerprint = Exported.load(folder).state.fingerprint
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=f"not one of this model, {fingerprint}: "
    ):
        call(signatures["score_candidates"], requests[3] | state)


def test_the_fingerprint_is_the_models(ranker, data, folder):
    """The same weights give the same; other weights, or another N, do not."""

    def fingerprint(histories=OPTIONS.history_lengths):
        module = ServingModule(ranker, data.folder / "vocabularies", histories, (2,))
        return module.layout.fingerprint

    known = Exported.load(folder).state.fingerprint
    assert fingerprint() == known
    assert fingerprint((16,)) == known  # padding is not the model
    assert fingerprint((12,)) != known
    bias = ranker.user_projection.bias
    before = bias.numpy()
    bias.assign(before + 1e-3)
    assert fingerprint() != known
    bias.assign(before)


def test_another_model_refuses_the_state(folder, signatures, requests, ranker, data):
    """Another in one bias, so that its layout is the same but for the fingerprint."""
    layout = Exported.load(folder).state
    state = call(signatures["encode_user"], requests[3])
    content = layout.serialize({key: value.numpy() for key, value in state.items()})
    bias = ranker.user_projection.bias
    before = bias.numpy()
    bias.assign(before + 0.5)
    try:
        samples = golden.read_samples(data, 3)
        with pytest.raises(RuntimeError, match="does not score like the model: serial"):
            golden.check_export(folder, signatures, ranker, samples, data)
        module = ServingModule(ranker, data.folder / "vocabularies", (16,), (2,))
    finally:
        bias.assign(before)
    assert module.layout.tensors == layout.tensors
    with pytest.raises(StateMismatchError, match=layout.fingerprint) as error:
        module.layout.deserialize(content)
    assert module.layout.fingerprint in str(error.value)


def test_a_failing_warmup_record_is_named(folder, signatures, tmp_path):
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    (first, *_) = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    log = warmup.PredictionLog.FromString(first)
    del log.predict_log.request.inputs["request_time"]
    with tf.io.TFRecordWriter(str(tmp_path / "bad")) as writer:
        writer.write(first)
        writer.write(log.SerializeToString())
    with pytest.raises(RuntimeError, match="Warm-up record 2 of .*, for .*, fails"):
        warmup.replay(tmp_path / "bad", signatures)


def test_more_warmup_than_a_server_takes_is_refused(
    folder, signatures, data, tmp_path, monkeypatch
):
    monkeypatch.setattr(warmup, "MAX_RECORDS", 3)
    samples, exported = golden.read_samples(data, 10), Exported.load(folder)
    with pytest.raises(ValueError, match="at most 3 warm-up records: choose fewer siz"):
        warmup.write_warmup(tmp_path / "many", signatures, exported, samples, data)


def test_golden_requests_hold_the_models_scores(folder, signatures, expected):
    golden = json.loads((folder / "assets.extra" / "golden.json").read_text("utf-8"))
    assert len(golden) == len(HISTORIES)
    for entry in golden:  # shards interleave the samples
        tensors = request_to_tensors(entry["request"], SCHEMA)
        assert_close(score_once(signatures, tensors)[0], entry["probability"])
    longest = sorted(len(entry["probability"]) for entry in golden)
    assert longest == sorted(map(len, expected))


def test_no_graph_asks_for_xla(folder, tmp_path):
    assert compiled_functions(folder) == []

    class Compiled(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([])], jit_compile=True)
        def double(self, x):
            return 2 * x

    tf.saved_model.save(Compiled(), str(tmp_path))
    assert compiled_functions(tmp_path)


def test_what_lies_in_the_folder(folder, signatures):
    assert sorted(p.stem for p in (folder / "assets").iterdir()) == sorted(
        VOCABULARIES.names
    )
    described = json.loads((folder / "assets.extra" / "signature.json").read_text())
    assert described.keys() == signatures.keys()
    for name, signature in signatures.items():
        specs = signature.structured_input_signature[1]
        assert described[name]["inputs"].keys() == specs.keys()
        for key, value in described[name]["inputs"].items():
            assert value["dtype"] == specs[key].dtype.name
            assert len(value["shape"]) == specs[key].shape.rank
        assert described[name]["outputs"].keys() == signature.structured_outputs.keys()
    assert "| `behavior_time` | int64 | [batch, behaviors] |" in (
        folder / "assets.extra" / "README.md"
    ).read_text("utf-8")


def test_a_bad_export_is_not_published(ranker, data, folder, monkeypatch):
    assert folder.name == "1"
    monkeypatch.setitem(golden.TOLERANCE, "float32", -1.0)
    with pytest.raises(RuntimeError, match="does not score like the model: serial"):
        export_ranker(ranker, data, folder.parent, ExportOptions((16,), (7,)))
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


def test_versions_count_up(tmp_path):
    for name in ("2", "10", ".11.temporary", "notes"):
        (tmp_path / name).mkdir()
    assert versions(tmp_path) == [2, 10]


WITHOUT_KERAS = """
import sys
sys.modules["keras"] = None  # TensorFlow itself takes Keras where it can
from serving.score import main
status = main(sys.argv[1:])
assert not [m for m in sys.modules if m.startswith(("keras.", "ctr_tf.models"))]
sys.exit(status)
"""


def test_score_needs_neither_keras_nor_the_model(folder, expected):
    request = folder / "assets.extra" / "example_request.json"
    command = [sys.executable, "-c", WITHOUT_KERAS, "--model", folder.parent]
    command += ["--request", request, "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    scores = json.loads(result.stdout)["candidates"]
    assert len(scores) == len(json.loads(request.read_text())["candidates"])
    probabilities = [score["probability"] for score in scores]
    assert probabilities == sorted(probabilities, reverse=True)


def test_score_prints_a_table_and_an_example(folder, capsys, tmp_path):
    assert main(["--model", str(folder), "--example_request"]) == 0
    path = tmp_path / "request.json"
    path.write_text(capsys.readouterr().out, "utf-8")
    assert main(["--model", str(folder), "--request", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["rank", "item_id", "probability", "position"]
    assert len(lines) == 1 + len(json.loads(path.read_text())["candidates"])


def test_score_tells_mistakes(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder '.*nowhere'"):
        find_version(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="not a model written by `ctr-tf expor"):
        find_version(tmp_path)
    (tmp_path / "bad.json").write_text("{")
    for name, error in (("none.json", "no request at"), ("bad.json", "is not JSON")):
        with pytest.raises((FileNotFoundError, ValueError), match=error):
            main(["--model", str(folder), "--request", str(tmp_path / name)])
