"""Texts: what a schema may say, what is kept of them, and who reads whose."""

import numpy as np
import pytest
from helpers import make_schema
from text_helpers import small_tokenizer

from ctr_tf.schema import Schema, Text
from ctr_tf.schema.texts import Texts
from ctr_tf.schema.vocabulary import Vocabularies, content_hash, id_maps

SCHEMA = """
name: shop
features:
  - {name: item_id, role: item, kind: categorical, dtype: int64}
  - {name: title, role: item, kind: text}
  - {name: price, role: item, kind: numeric}
"""


def texts(items, first_tokens, tokenizer=None):
    table = np.zeros((len(items) + 2, 16), np.int32)
    table[2:, 0] = first_tokens
    return Texts(tokenizer or small_tokenizer(), items, {"title": table})


OLD = texts(["a", "b", "c"], [7, 8, 9])
NEW = texts(["b", "c", "d", "e"], [8, 5, 6, 7])


def test_it_is_a_feature_of_the_items():
    schema = Schema.from_yaml(SCHEMA)
    assert Schema.from_yaml(schema.to_yaml()) == schema
    title = schema.of("item")[1]
    assert title == Text("title", "item", length=16)
    assert [f.name for f in schema.groups()["candidate"]][:3] == [
        *("item_id", "title", "price")
    ]
    assert title not in schema.vector_groups()["candidate"]
    assert schema.texts == (title,)
    assert schema.without_texts() == Schema.from_yaml(
        SCHEMA.replace("  - {name: title, role: item, kind: text}\n", "")
    )


@pytest.mark.parametrize(
    "keys, message",
    [
        ("role: user", "'title'.*`role` is item.*Received: role='user'"),
        ("role: candidate", "Received: role='candidate'"),
        ("role: item, dtype: int64", "`dtype` is string. Received: dtype='int64'"),
        ("role: item, length: 0", "`length` must be a positive integer. Received: 0"),
        ("role: item, embedding_dim: 4", "learned.*Received: embedding_dim=4"),
        ("role: item, max_size: 4", "Unknown key of a text feature '.*max_size'"),
    ],
)
def test_what_it_cannot_be(keys, message):
    with pytest.raises(ValueError, match=message):
        Schema.from_yaml(
            SCHEMA.replace("role: item, kind: text", f"{keys}, kind: text")
        )


def test_nothing_counts_by_it():
    with pytest.raises(ValueError, match="title"):
        Schema.from_yaml(SCHEMA + "counters: [{by: title}]")


def test_texts_are_kept_with_the_vocabularies(tmp_path):
    schema = Schema.from_yaml(SCHEMA)
    Vocabularies({"item_id": ["1"]}, OLD).save(tmp_path)
    loaded = Vocabularies.load(tmp_path, schema)
    assert loaded.texts.items.to_pylist() == ["a", "b", "c"]
    assert loaded.texts.tokenizer == small_tokenizer()
    np.testing.assert_array_equal(loaded.texts.tables["title"], OLD.tables["title"])
    saved = Vocabularies({"item_id": ["1"]}, OLD)
    assert content_hash(schema, loaded) == content_hash(schema, saved)
    hashes = {
        content_hash(schema, Vocabularies({"item_id": ["1"]}, t)) for t in (OLD, NEW)
    }
    assert len(hashes) == 2
    longer = Schema.from_yaml(SCHEMA.replace("kind: text", "kind: text, length: 20"))
    with pytest.raises(ValueError, match="must hold 20 tokens.*Received: .5, 16."):
        Vocabularies.load(tmp_path, longer)
    (tmp_path / "texts" / "title.npy").write_bytes(b"tokens")
    with pytest.raises(ValueError, match="title.npy' is no NumPy file"):
        Vocabularies.load(tmp_path, schema)
    with pytest.raises(
        ValueError, match=r"3 items and 2 before.*Received: int64 \[2, 2"
    ):
        Texts("", ["a", "b", "c"], {"title": np.zeros((2, 2), np.int64)})


def test_later_data_keep_the_rows_and_add_their_items():
    together, rows = OLD.followed_by(NEW)
    assert together.items.to_pylist() == ["a", "b", "c", "d", "e"]
    assert together.tables["title"][:, 0].tolist() == [0, 0, 7, 8, 5, 6, 7]
    assert together.tables["title"].dtype == np.int32
    assert rows.tolist() == [0, 1, 3, 4, 5, 6]
    for row, place in enumerate(rows):
        known, later = together.tables["title"], NEW.tables["title"]
        assert known[place].tolist() == later[row].tolist()


def test_a_model_reads_later_data_by_its_own_rows(caplog):
    schema = Schema.from_yaml(SCHEMA)
    model, data = (Vocabularies({"item_id": ["1"]}, t) for t in (OLD, NEW))
    with caplog.at_level("INFO"):
        maps = id_maps(schema, data, model)
    assert "model's data did not have: 2 of 4." in caplog.text
    assert {key: rows.tolist() for key, rows in maps.items()} == {
        "behavior_title": [0, 1, 3, 4, 5, 6],
        "candidate_title": [0, 1, 3, 4, 5, 6],
    }
    read = model.read_by(data, "data")
    assert read.texts.items.to_pylist() == ["a", "b", "c", "d", "e"]
    assert read.values("item_id") == ["1"]
    assert id_maps(schema, model, model) == {}
    other = Vocabularies({}, texts(["a"], [7], small_tokenizer("word")))
    with pytest.raises(
        ValueError, match="another. Prepare 'later'.*Received: [0-9a-f]"
    ):
        model.read_by(other, "later")


def test_schemas_without_texts_are_as_before():
    schema = make_schema()
    assert schema.texts == ()
    assert schema.vector_groups() == schema.groups()
    assert schema.without_texts() == schema
