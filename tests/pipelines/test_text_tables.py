"""Texts of items in the job: one table of tokens, rows of it in the samples."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pytest
from job_helpers import (
    SCHEMA,
    parse,
    random_log,
    read_manifest,
    read_records,
    run_job,
    write_log,
)
from text_helpers import WORDS, small_tokenizer

from ctr_tf.data.dataset import DataConfig, dataset
from ctr_tf.data.inspect import describe, find_samples, render
from ctr_tf.data.prepared import PreparedData
from ctr_tf.schema import Text
from ctr_tf.text.tokenizer import Tokenizer
from pipelines.texts import read_tokenizer, token_table

TITLE = Text("title", "item", length=4)
TEXT_SCHEMA = dataclasses.replace(
    SCHEMA, features=(*SCHEMA.declared, TITLE, Text("motto", "item", length=2))
)
TITLES = {  # of the items 0 to 12; 13 and 14 have no row
    0: "Red hat",
    1: "Blue hat, for the rain",
    2: None,
    3: "",
    4: "a line\nbroken: RED",
}
UNSEEN = 99  # an item that no user ever saw


def write(folder, schema=TEXT_SCHEMA, tokenizer=None, rows=None):
    log = random_log(3)
    for row in log["items"]:
        row["title"] = TITLES.get(row["item_id"], "the shoe")
    log["items"].append({"item_id": UNSEEN, "title": "snow shoe", "motto": "rain"})
    log["items"] += rows or []
    write_log(folder, log, schema)
    (folder.parent / "tokenizer.json").write_text(tokenizer or small_tokenizer())
    return folder


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    return write(tmp_path_factory.mktemp("texts") / "logs")


@pytest.fixture(scope="module")
def output(logs):
    run_job(logs, logs.parent / "data", "--tokenizer", logs.parent)
    return logs.parent / "data"


def ids(*words):
    return [WORDS.index(word) for word in words]


def test_one_row_an_item_of_the_whole_item_table(output):
    folder = output / "vocabularies" / "texts"
    items = (folder / "text_items.txt").read_text().split()
    assert items == [str(item) for item in (*range(13), UNSEEN)]
    assert str(UNSEEN) not in (output / "vocabularies" / "item_id.txt").read_text()
    table = np.load(folder / "title.npy")
    assert table.dtype == np.int32
    assert table.tolist() == [
        *([0] * 4, [0] * 4),
        [*ids("red", "hat"), 0, 0],
        ids("blue", "hat", ",", "for"),
        *([0] * 4, [0] * 4),
        ids("[UNK]", "[UNK]", "[UNK]", ":"),
        *(8 * [[*ids("the", "shoe"), 0, 0]]),
        [*ids("snow", "shoe"), 0, 0],
    ]
    motto = np.load(folder / "motto.npy")
    assert motto.tolist() == 15 * [[0, 0]] + [[*ids("rain"), 0]]
    assert (folder / "tokenizer.json").read_text() == small_tokenizer()


def test_what_became_of_the_texts_is_counted(output):
    found = json.loads((output / "statistics.json").read_text())["texts"]
    assert found["title"] == {
        "items": 14,
        "missing": 2,
        "cut": 2,
        "tokens": {"mean": (2 + 6 + 5 + 9 * 2) / 12, "max": 6},
    }
    assert found["motto"]["missing"] == 13
    joins = read_manifest(output).joins
    assert (joins["items without title"], joins["items with title cut"]) == (2, 2)


def test_samples_hold_the_row_of_each_item(logs, output):
    plain = logs.parent / "plain"
    schema = logs.parent / "plain.yaml"
    TEXT_SCHEMA.without_texts().save(schema)
    run_job(logs, plain, "--schema", schema)
    rows = {str(item): row for row, item in enumerate((*range(13), UNSEEN), 2)}
    words = (output / "vocabularies" / "item_id.txt").read_text().split()
    seen = 0
    for split, records in read_records(output).items():
        others = [str(sorted(parse(r).items())) for r in read_records(plain)[split]]
        left = []
        for record in records:
            sample = parse(record)
            for group in ("behavior", "candidate"):
                titles = sample.pop(f"{group}_title", [])
                assert sample.pop(f"{group}_motto", []) == titles
                items = sample.get(f"{group}_item_id", [])
                assert len(titles) == len(items)
                for item, row in zip(items, titles, strict=True):
                    if item > 1:
                        seen += 1
                        assert row == rows.get(words[item - 2], 1)
                    assert 1 <= row < 16
            left.append(str(sorted(sample.items())))
        assert sorted(left) == sorted(others)  # nothing else has changed
    assert seen > 1_000


@pytest.mark.parametrize("buckets, shards", [(1, 1), (7, 3)])
def test_buckets_have_no_say(logs, output, tmp_path, buckets, shards):
    options = ("--num_buckets", buckets, "--num_shards", shards)
    tokenizer = logs.parent / "tokenizer.json"
    run_job(logs, tmp_path / "data", "--tokenizer", tokenizer, *options)
    assert read_records(tmp_path / "data") == read_records(output)
    mine, theirs = read_manifest(tmp_path / "data"), read_manifest(output)
    assert mine.content == theirs.content
    assert mine.content_hash == theirs.content_hash


def test_the_data_are_whole(output):
    data = PreparedData.load(output)
    data.verify()
    texts = data.vocabularies.known_texts
    assert texts.tables["title"].shape == (16, 4)
    assert texts.words("title", [2, 1, 3]) == ["red hat", "?", "blue hat , for"]
    config = DataConfig(batch_size=4)
    (inputs, *_) = next(
        iter(dataset(data, "train", config, num_chunks=3, training=False))
    )
    assert inputs["behavior_title"].shape == inputs["behavior_time"].shape == (4, 6)
    padding = inputs["behavior_time"].numpy() == 0
    assert (inputs["behavior_title"].numpy()[padding] == 0).all()
    assert (inputs["behavior_title"].numpy()[~padding] > 0).all()
    assert inputs["candidate_title"].shape == inputs["candidate_item_id"].shape
    assert inputs["candidate_title"].dtype == "int64"
    ((_, sample),) = [*find_samples(data, "train", 5)][:1]
    assert "the shoe" in render(sample, data.schema, data.vocabularies)
    assert "title (16, 4 tokens)" in describe(data)


@pytest.mark.parametrize("name", ["tokenizer.json", "text_items.txt", "title.npy"])
def test_a_file_that_is_gone_or_changed_is_told(output, tmp_path, name):
    folder = tmp_path / "data"
    folder.mkdir()
    for path in output.iterdir():
        if path.name != "vocabularies":
            (folder / path.name).symlink_to(path)
    texts = folder / "vocabularies" / "texts"
    texts.mkdir(parents=True)
    for path in (output / "vocabularies").glob("**/*.*"):
        place = folder / "vocabularies" / path.relative_to(output / "vocabularies")
        place.write_bytes(path.read_bytes())
    PreparedData.load(folder)
    content = (texts / name).read_bytes()
    (texts / name).write_bytes(content.replace(b"7\n", b"8\n").replace(b"hat", b"hut"))
    if name == "title.npy":
        (texts / name).write_bytes(content[:-4] + b"\1\0\0\0")
    with pytest.raises(ValueError, match=f"{name}' is not what manifest.json says"):
        PreparedData.load(folder)
    (texts / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"no file '.*texts/{name}'"):
        PreparedData.load(folder)


def test_another_tokenizer_or_text_is_other_content(logs, output, tmp_path):
    folder = write(tmp_path / "logs", tokenizer=small_tokenizer("line"))
    run_job(folder, tmp_path / "data", "--tokenizer", tmp_path)
    (tmp_path / "more").mkdir()
    more = write(tmp_path / "more" / "logs", rows=[{"item_id": 70, "title": "hat"}])
    run_job(more, tmp_path / "later", "--tokenizer", tmp_path / "more")
    outputs = (output, tmp_path / "data", tmp_path / "later")
    assert len({read_manifest(folder).content_hash for folder in outputs}) == 3


@pytest.mark.parametrize(
    "change, words, message",
    [
        ({}, (), "features of kind text.*--tokenizer FOLDER_OR_FILE.*title, motto"),
        ({"plain": True}, ("--tokenizer", "."), "the schema has none. Received: '.'"),
        ({"items": False}, ("--tokenizer", "."), "from the table of items.*title, mo"),
        ({}, ("--tokenizer", "nowhere"), "or a folder that has it. Received: 'nowhe"),
        ({}, ("--tokenizer", __file__), "must be a Hugging Face tokenizer.json. Rec"),
    ],
)
def test_what_cannot_be_is_told(logs, tmp_path, change, words, message):
    schema = TEXT_SCHEMA.without_texts() if change.get("plain") else TEXT_SCHEMA
    log = {name: rows for name, rows in random_log(3).items()}
    if change.get("items") is False:
        del log["items"]
    write_log(tmp_path / "logs", log, schema)
    with pytest.raises(ValueError, match=message):
        run_job(tmp_path / "logs", tmp_path / "data", *words)


def test_a_text_may_not_end_in_padding():
    zero = Tokenizer(small_tokenizer(first="zero"))
    table, _ = token_table(zero, pa.array(["zero hat"]), 2)
    assert table.tolist()[2] == [0, *ids("hat")]
    with pytest.raises(
        ValueError, match="end in the token 'zero'.*Received: 'hat zero"
    ):
        token_table(zero, pa.array(["red", "hat zero hat"]), 2)


def test_a_tokenizer_is_found_in_its_folder_or_by_itself(logs):
    text = small_tokenizer()
    assert read_tokenizer(str(logs.parent)) == text
    assert read_tokenizer(str(logs.parent / "tokenizer.json")) == text
