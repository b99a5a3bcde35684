"""Texts in an export: found by item ids, or brought along, and never mixed up."""

import json

import numpy as np
import pytest
import tensorflow as tf
from title_reader import (
    ITEMS,
    SCHEMA,
    VOCABULARIES,
    export_title_reader,
    make_title_reader,
)

from ctr_tf.data.writing import serialize
from ctr_tf.synthetic.random_samples import (
    random_sample,
)
from pipelines.score import run as run_scoring
from serving.exported import EXTRA, load_content
from serving.fit import SignatureSchema, check_signature
from serving.golden import score_once, score_twice
from serving.inputs import candidate_inputs, user_inputs
from serving.request import request_to_tensors
from serving.saved_model import read_meta_graph
from serving.specs import read_signatures

TABLE = VOCABULARIES.known_texts.tables["title"]
UNSEEN, UNKNOWN = 1_000 + ITEMS, 5  # in the table alone; nowhere
TIME = 1_700_000_000


@pytest.fixture(scope="module")
def ranker():
    return make_title_reader()


@pytest.fixture(scope="module")
def export(ranker, tmp_path_factory):
    return export_title_reader(ranker, tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="module")
def loaded(export):
    return tf.saved_model.load(str(export))


def request(behaviors, candidates):
    """Of items, or of items with tokens of their own."""

    def row(item):
        return dict(zip(("item_id", "title"), item, strict=False))

    return {
        "request_time": TIME,
        "user": {},
        "context": {},
        "behaviors": [
            {"time": TIME - 9 + i, **row(b)} for i, b in enumerate(behaviors)
        ],
        "candidates": [row(candidate) for candidate in candidates],
    }


def expected(ranker, behaviors, candidates):
    """By the tokens of each."""
    words = ranker.words.numpy()
    history = sum((words[tokens].sum(0) for tokens in behaviors), np.zeros(4))
    logits = np.array([history @ words[tokens].sum(0) for tokens in candidates])
    return 1 / (1 + np.exp(-logits))


def title(item):
    return [token for token in TABLE[2 + item - 1_000] if token]


def test_texts_follow_from_item_ids(ranker, loaded):
    known, behaviors = range(1_000, UNSEEN + 1), [(1_003,), (UNSEEN,), (1_007,)]
    assert len(title(UNSEEN)) > 0
    asked = request(behaviors, [(item,) for item in known])
    tensors = request_to_tensors(asked, SCHEMA)
    scores = expected(
        ranker, [title(item) for (item,) in behaviors], [title(item) for item in known]
    )
    assert np.std(scores) > 0.05
    for score in (score_once, score_twice):
        found = score(loaded.signatures, tensors)[0]
        np.testing.assert_allclose(found, scores, atol=1e-5)


def test_an_unknown_item_may_bring_its_tokens(ranker, loaded):
    behaviors = [(1_003, None), (UNKNOWN, [7, 8]), (UNKNOWN + 1, None)]
    candidates = [(UNKNOWN,), (UNKNOWN, []), (UNKNOWN, [9]), (1_001, [9, 9])]
    candidates.append((UNKNOWN, [4, 5, 6, 7, 8, 9, 10]))  # five count
    scores = expected(
        ranker,
        [title(1_003), [7, 8]],
        [[], [], [9], title(1_001), [4, 5, 6, 7, 8]],
    )
    assert len(set(scores.round(4))) == 4
    tensors = request_to_tensors(request(behaviors, candidates), SCHEMA)
    for score in (score_once, score_twice):
        found = score(loaded.signatures, tensors)[0]
        np.testing.assert_allclose(found, scores, atol=1e-5)
    columns = request(behaviors, candidates)
    rows = columns["behaviors"]
    columns["behaviors"] = {key: [row.get(key) for row in rows] for key in rows[0]}
    for key, value in request_to_tensors(columns, SCHEMA).items():
        np.testing.assert_array_equal(value, tensors[key])
    del columns["behaviors"]["title"]
    found = request_to_tensors(columns, SCHEMA)
    assert found["behavior_title"].shape == (1, 3, 1)
    assert found["behavior_title_length"].tolist() == [[0, 0, 0]]


def padded_as_by_a_server(requests):
    """One batch, each row padded with its first value, as TF Serving does it."""
    batch = {}
    for name in requests[0]:
        rows = [tensors[name] for tensors in requests]
        widest = np.max([row.shape for row in rows], axis=0)
        batch[name] = np.concatenate(
            [
                np.pad(
                    row,
                    [(0, more) for more in [0, *(widest - row.shape)[1:]]],
                    constant_values=row.flat[0],
                )
                for row in rows
            ]
        )
    return batch


def test_a_batch_with_longer_texts_changes_nothing(ranker, loaded):
    asked = [
        ([(UNKNOWN, [7, 8]), (1_003,)], [(UNKNOWN, [9, 4]), (UNKNOWN,), (1_001,)]),
        ([(UNKNOWN, [6])], [(UNKNOWN, [4, 5, 6, 7, 8]), (1_002,)]),
        ([(1_003,), (1_007,), (UNKNOWN, [4, 5, 6, 7, 8])], [(1_002,)]),
    ]
    scores = [
        expected(ranker, [[7, 8], title(1_003)], [[9, 4], [], title(1_001)]),
        expected(ranker, [[6]], [[4, 5, 6, 7, 8], title(1_002)]),
        expected(ranker, [title(1_003), title(1_007), [4, 5, 6, 7, 8]], [title(1_002)]),
    ]
    batch = padded_as_by_a_server(
        [request_to_tensors(request(*each), SCHEMA) for each in asked]
    )
    for score in (score_once, score_twice):
        found = score(loaded.signatures, batch)
        for row, right in zip(found, scores, strict=True):
            np.testing.assert_allclose(row[: len(right)], right, atol=1e-5)


def test_records_tell_rows_and_those_of_later_items_have_no_text(ranker, loaded):
    sample = random_sample(SCHEMA, VOCABULARIES, np.random.default_rng(1), 3, 4)
    sample["candidate_title"] = np.array([2, 1, len(TABLE), len(TABLE) - 1])
    records = tf.constant([serialize(sample)])
    found = loaded.signatures["serialized_examples"](examples=records)["probability"]

    def tokens(rows):
        return [[token for token in TABLE[row] if token] for row in rows]

    scores = expected(
        ranker, tokens(sample["behavior_title"]), tokens([2, 1, 0, len(TABLE) - 1])
    )
    np.testing.assert_allclose(found[0], scores, atol=1e-5)


def test_raw_logs_are_scored_with_the_tokenizer_of_the_export(ranker, export, tmp_path):
    word = int(VOCABULARIES.known_texts.tables["title"].max())
    name = json.loads(VOCABULARIES.known_texts.tokenizer)["model"]["vocab"]
    name = next(text for text, number in name.items() if number == word)
    exposures = [
        {
            "user_id": "ann",
            "time": TIME + time,
            "item_id": item,
            "click": int(time == 0),
        }
        | {"request_id": str(time)}
        for time, item in ((0, 1_003), (9, 1_001), (9, UNKNOWN))
    ]
    titles = [{"item_id": item, "title": name} for item in (1_001, 1_003, UNKNOWN)]
    (tmp_path / "logs").mkdir()
    for table, rows in (("exposures", exposures), ("items", titles)):
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        (tmp_path / "logs" / f"{table}.jsonl").write_text(lines)
    words = ["--export", export, "--source", "jsonl", "--input", tmp_path / "logs"]
    words += ["--output", tmp_path / "scores", "--format", "jsonl"]
    run_scoring([str(word) for word in words])
    files = (tmp_path / "scores" / "scores").glob("*.jsonl")
    rows = [json.loads(line) for file in files for line in file.open()]
    found = {
        row["item_id"]: row["probability"] for row in rows if row["request_id"] == "9"
    }
    # The export has titles of its own for the items that it knows, and no others.
    scores = expected(ranker, [title(1_003)], [title(1_001), []])
    assert [found[1_001], found.get(UNKNOWN, found.get(None))] == pytest.approx(
        scores.tolist(), abs=1e-5
    )


def test_no_history_is_no_text(loaded):
    tensors = request_to_tensors(request([], [(1_001,)]), SCHEMA)
    assert tensors["behavior_title"].shape == (1, 1, 1)
    assert tensors["behavior_title_length"].tolist() == [[0]]
    assert score_once(loaded.signatures, tensors)[0].tolist() == [0.5]


@pytest.mark.parametrize("tokens", ["hat", [1, "hat"], [1.5], [-1], [[1]]])
def test_tokens_that_are_none_are_told(tokens):
    with pytest.raises(
        ValueError, match=r"`candidates\[1\].title` must be (token ids|a list)"
    ):
        request_to_tensors(request([], [(1_001,), (UNKNOWN, tokens)]), SCHEMA)


def test_the_graph_itself_refuses_tokens_of_no_tokenizer(loaded):
    asked = request([(UNKNOWN, [3])], [(UNKNOWN, [102]), (UNKNOWN, [103])])
    message = "`candidate_title` must be ids of the 103 tokens"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        score_once(loaded.signatures, request_to_tensors(asked, SCHEMA))
    tensors = request_to_tensors(asked, SCHEMA)
    tensors["candidate_length"] = np.array([1])  # the second is padding
    assert np.isfinite(score_once(loaded.signatures, tensors)[0, 0])


def test_an_export_carries_its_texts(export, tmp_path):
    schema, vocabularies = load_content(export)
    assert schema == SCHEMA
    assert vocabularies.known_texts.digests == VOCABULARIES.known_texts.digests
    tokenizer = export / EXTRA / "texts" / "tokenizer.json"
    text = tokenizer.read_text()
    tokenizer.write_text(text.replace("word1", "other1"))
    try:
        with pytest.raises(ValueError, match="is not as it was exported"):
            load_content(export)
    finally:
        tokenizer.write_text(text)


def test_a_client_without_the_schema_learns_it_from_the_server(export):
    signature = read_signatures(read_meta_graph(export).signature_def)[
        "serving_default"
    ]
    check_signature([*user_inputs(SCHEMA), *candidate_inputs(SCHEMA)], signature)
    asked = request([(1_003,), (UNKNOWN, [7, 8])], [(1_001,), (UNKNOWN, [9])])
    found = request_to_tensors(asked, SignatureSchema(signature))
    tensors = request_to_tensors(asked, SCHEMA)
    assert found.keys() == tensors.keys()
    for key, value in tensors.items():
        np.testing.assert_array_equal(found[key], value)
