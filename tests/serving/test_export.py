"""The exported model scores like the Keras model, whichever way it is asked."""

import copy
import errno
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from small_export import HISTORIES, OPTIONS, SCHEMA, SLATES, VOCABULARIES
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from ctr_tf import time_ops
from ctr_tf.data.batches import BatchReader
from ctr_tf.data.records import BEHAVIORS, take
from ctr_tf.data.writing import serialize
from ctr_tf.schema.vocabulary import content_hash
from serving import golden, warmup
from serving.export import ExportOptions, export_ranker, versions
from serving.exported import Exported, load_content
from serving.golden import compiled_functions, score_once, score_twice
from serving.request import request_from_sample, request_to_tensors
from serving.saved_model import call
from serving.score import Scorer, find_version, main
from serving.self_test import replay_warmup
from serving.signatures import ServingModule
from serving.state import StateMismatchError


@pytest.fixture(scope="module")
def signatures(small_export):
    loaded = tf.saved_model.load(str(small_export))
    yield loaded.signatures
    del loaded  # signatures hold no reference to what they belong to


@pytest.fixture(scope="module")
def expected(ranker, samples):
    """Probabilities of the Keras model on the records, one sample at a time."""
    reader = BatchReader(SCHEMA, ranker.num_chunks, 16, with_labels=False)
    batches = [reader.read(tf.constant([serialize(s)]))[0] for s in samples]
    return [tf.sigmoid(ranker(batch))[0, :, 0].numpy() for batch in batches]


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
            (1, size - value.shape[1], *value.shape[2:]),
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
            name: value[:, i : i + 1] if value.ndim >= 2 else np.array([1])
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
        name: np.resize(value, (1, 1_000, *value.shape[2:]))
        if value.ndim >= 2
        else np.array([1_000])
        for name, value in tensors.items()
        if name.startswith("candidate_")
    }
    assert_close(score_once(signatures, tensors | many)[0], np.resize(scores, 1_000))


def test_more_history_than_the_model_takes(signatures, requests, expected):
    tensors = dict(requests[0])
    older = {
        name: np.concatenate([value[:, :4], value], axis=1)
        for name, value in tensors.items()
        if name.startswith("behavior_") and value.ndim >= 2
    }
    older["behavior_time"][:, :4] -= 10**7
    older["behavior_length"] = tensors["behavior_length"] + 4
    assert_close(score_once(signatures, tensors | older)[0], expected[0])


@pytest.mark.parametrize("behaviors", [0, 1, 5, 6, 7, 15])
def test_a_history_between_two_sizes_scores_as_without_padding(
    signatures, ranker, samples, behaviors
):
    sample = take(samples[0], SCHEMA, BEHAVIORS, np.arange(16 - behaviors, 16))
    reader = BatchReader(SCHEMA, ranker.num_chunks, 16, with_labels=False)
    (inputs,) = reader.read(tf.constant([serialize(sample)]), max(behaviors, 1))
    inputs["behavior_chunk"] = time_ops.chunk_ids(
        inputs["behavior_time"], inputs["behavior_time"] > 0, ranker.num_chunks
    )
    scores = tf.sigmoid(ranker(inputs))[0, :, 0].numpy()
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
        if name.startswith("behavior_") and value.ndim >= 2
    }
    later["behavior_time"][:, -2:] = tensors["request_time"] + [0, 9]
    later["behavior_length"] = tensors["behavior_length"] + 2
    assert_close(score_once(signatures, tensors | later)[0], expected[3])


def test_an_unknown_id_scores_like_a_missing_one(samples, small_export):
    request = request_from_sample(samples[0], SCHEMA, VOCABULARIES)
    unknown, missing = copy.deepcopy(request), copy.deepcopy(request)
    for changed, item, word in ((unknown, 10**15, "ü ∞"), (missing, None, None)):
        changed["candidates"][0]["item_id"] = item
        changed["behaviors"][-1]["item_id"] = item
        changed["context"]["device"] = word
    scorer = Scorer(small_export)
    scores = [
        {s["position"]: s["probability"] for s in scorer.score(r)}
        for r in (unknown, missing, request)
    ]
    assert scores[0] == scores[1]
    assert scores[0] != scores[2]


def test_a_state_in_the_store_scores_like_a_fresh_one(
    small_export, signatures, requests
):
    layout = Exported.load(small_export).state
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


def test_the_graph_refuses_the_state_of_another_model(
    small_export, signatures, requests
):
    state = call(signatures["encode_user"], requests[3])
    state["state_version"] += 1
    fingerprint = Exported.load(small_export).state.fingerprint
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=f"not one of this model, {fingerprint}: "
    ):
        call(signatures["score_candidates"], requests[3] | state)


def test_the_fingerprint_is_the_models(ranker, data, small_export):
    """The same weights give the same; other weights, or another N, do not."""

    def fingerprint(histories=OPTIONS.history_lengths):
        module = ServingModule(ranker, data.folder / "vocabularies", histories, (2,))
        return module.layout.fingerprint

    known = Exported.load(small_export).state.fingerprint
    assert fingerprint() == known
    assert fingerprint((16,)) == known  # padding is not the model
    assert fingerprint((12,)) != known
    bias = ranker.user_projection.bias
    before = bias.numpy()
    bias.assign(before + 1e-3)
    assert fingerprint() != known
    bias.assign(before)


def test_another_model_refuses_the_state(
    small_export, signatures, requests, ranker, data
):
    """Another in one bias, so that its layout is the same but for the fingerprint."""
    layout = Exported.load(small_export).state
    state = call(signatures["encode_user"], requests[3])
    content = layout.serialize({key: value.numpy() for key, value in state.items()})
    bias = ranker.user_projection.bias
    before = bias.numpy()
    bias.assign(before + 0.5)
    try:
        samples = golden.read_samples(data, 3)
        with pytest.raises(RuntimeError, match="does not score like the model: serial"):
            golden.check_export(small_export, signatures, ranker, samples, data)
        module = ServingModule(ranker, data.folder / "vocabularies", (16,), (2,))
    finally:
        bias.assign(before)
    assert module.layout.tensors == layout.tensors
    with pytest.raises(StateMismatchError, match=layout.fingerprint) as error:
        module.layout.deserialize(content)
    assert module.layout.fingerprint in str(error.value)


def test_a_failing_warmup_record_is_named(small_export, signatures, tmp_path):
    path = small_export / "assets.extra" / "tf_serving_warmup_requests"
    (first, *_) = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    log = PredictionLog.FromString(first)
    del log.predict_log.request.inputs["request_time"]
    with tf.io.TFRecordWriter(str(tmp_path / "bad")) as writer:
        writer.write(first)
        writer.write(log.SerializeToString())
    with pytest.raises(RuntimeError, match="Warm-up record 2 of .*, for .*, fails"):
        replay_warmup(tmp_path / "bad", signatures)


def test_more_warmup_than_a_server_takes_is_refused(
    small_export, signatures, data, tmp_path, monkeypatch
):
    monkeypatch.setattr(warmup, "MAX_RECORDS", 3)
    samples, exported = golden.read_samples(data, 10), Exported.load(small_export)
    with pytest.raises(ValueError, match="at most 3 warm-up records: choose fewer siz"):
        warmup.write_warmup(tmp_path / "many", signatures, exported, samples, data)


def test_golden_requests_hold_the_models_scores(small_export, signatures, expected):
    golden = json.loads(
        (small_export / "assets.extra" / "golden.json").read_text("utf-8")
    )
    assert len(golden) == len(HISTORIES)
    for entry in golden:  # shards interleave the samples
        tensors = request_to_tensors(entry["request"], SCHEMA)
        assert_close(score_once(signatures, tensors)[0], entry["probability"])
    longest = sorted(len(entry["probability"]) for entry in golden)
    assert longest == sorted(map(len, expected))


def test_no_graph_asks_for_xla(small_export, tmp_path):
    assert compiled_functions(small_export) == []

    class Compiled(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([])], jit_compile=True)
        def double(self, x):
            return 2 * x

    tf.saved_model.save(Compiled(), str(tmp_path))
    assert compiled_functions(tmp_path)


def test_what_lies_in_the_folder(small_export, signatures):
    assert sorted(p.stem for p in (small_export / "assets").iterdir()) == sorted(
        VOCABULARIES.names
    )
    described = json.loads(
        (small_export / "assets.extra" / "signature.json").read_text()
    )
    assert described.keys() == signatures.keys()
    for name, signature in signatures.items():
        specs = signature.structured_input_signature[1]
        assert described[name]["inputs"].keys() == specs.keys()
        for key, value in described[name]["inputs"].items():
            assert value["dtype"] == specs[key].dtype.name
            assert len(value["shape"]) == specs[key].shape.rank
        assert described[name]["outputs"].keys() == signature.structured_outputs.keys()
    assert "| `behavior_time` | int64 | [batch, behaviors] |" in (
        small_export / "assets.extra" / "README.md"
    ).read_text("utf-8")


def test_a_bad_export_is_not_published(ranker, data, small_export, monkeypatch):
    assert small_export.name == "1"
    monkeypatch.setitem(golden.TOLERANCE, "float32", -1.0)
    with pytest.raises(RuntimeError, match="does not score like the model: serial"):
        export_ranker(ranker, data, small_export.parent, ExportOptions((16,), (7,)))
    assert [path.name for path in small_export.parent.iterdir()] == ["1"]


def test_versions_count_up(tmp_path):
    names = ("2", "10", ".11.temporary", "notes", "11.tmp", "1_2", "٣", "²")
    for name in names:
        (tmp_path / name).mkdir()
    assert versions(tmp_path) == [2, 10]
    assert versions(tmp_path / "nowhere") == []
    for file in ("saved_model.pb", "assets.extra/schema.yaml"):
        (tmp_path / "10" / file).parent.mkdir(exist_ok=True)
        (tmp_path / "10" / file).touch()
    assert find_version(tmp_path) == tmp_path / "10"


def test_score_prints_a_table_and_an_example(small_export, capsys, caplog, tmp_path):
    assert main(["--export", str(small_export), "--example_request"]) == 0
    path = tmp_path / "request.json"
    path.write_text(capsys.readouterr().out, "utf-8")
    assert main(["--export", str(small_export), "--request", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["rank", "item_id", "probability", "position"]
    request = json.loads(path.read_text())
    assert len(lines) == 1 + len(request["candidates"])
    assert "unknown" not in caplog.text
    request["context"]["device"] = "ü ∞"
    path.write_text(json.dumps(request))
    assert main(["--export", str(small_export), "--request", str(path)]) == 0
    told = "context device: 1 of 1 are unknown to the model: ü ∞"
    assert caplog.messages[-1] == told


def test_score_tells_mistakes(small_export, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder '.*nowhere'"):
        find_version(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="not a model written by `ctr-tf expor"):
        find_version(tmp_path)
    (tmp_path / "bad.json").write_text("{")
    for name, error in (("none.json", "no request at"), ("bad.json", "is not JSON")):
        with pytest.raises((FileNotFoundError, ValueError), match=error):
            main(["--export", str(small_export), "--request", str(tmp_path / name)])


def test_an_export_is_the_one_that_was_written(small_export, tmp_path):
    folder = tmp_path / "1"
    shutil.copytree(small_export, folder)
    schema, vocabularies = load_content(folder)
    assert content_hash(schema, vocabularies) == Exported.load(folder).content_hash
    assert vocabularies.values("category") == VOCABULARIES.values("category")
    with (folder / "assets" / "category.txt").open("a") as stream:
        stream.write("another\n")
    for read in (load_content, Scorer):
        with pytest.raises(ValueError, match="is not as it was exported"):
            read(folder)


def test_an_export_without_room_publishes_nothing(ranker, data, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "variables")

    left = tmp_path / ".1.123.unfinished"  # of an export that was killed
    left.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(tf.saved_model, "save", full)
        with pytest.raises(OSError, match="No space left on device: 'variables'"):
            export_ranker(ranker, data, tmp_path, OPTIONS)
    assert not list(tmp_path.iterdir())
