"""Vocabularies: ids by convention, hashing by TensorFlow's own op, files."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from ctr_tf.schema import Categorical, Schema
from ctr_tf.schema.vocabulary import Vocabularies

ITEM = Categorical("item_id", "item", dtype="int64")
BRAND = Categorical("brand", "item")


@pytest.mark.parametrize(
    "raw", [pa.array([7, 3, None, 9]), pa.chunked_array([[7, 3], [None, 9]])]
)
def test_integers_nulls_and_unknown_values(raw):
    vocabularies = Vocabularies({"item_id": ["3", "7"]})
    assert vocabularies.encode(ITEM, raw).tolist() == [3, 2, 1, 1]


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])),
        unique=True,
    ),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
)
def test_encode_equals_a_dictionary(values, raw):
    vocabularies = Vocabularies({"brand": values})
    ids = {value: k + 2 for k, value in enumerate(values)}
    raw = raw + values
    expected = [ids.get(value, 1) for value in raw]
    assert vocabularies.encode(BRAND, pa.array(raw, pa.string())).tolist() == expected
    known = [i for i in expected if i > 1]
    assert vocabularies.decode(BRAND, known) == [v for v in raw if v in ids]


def test_files_round_trip(tmp_path):
    schema = Schema("shop", (ITEM, BRAND))
    saved = Vocabularies({"item_id": ["5", "4"], "brand": ["zoë", "a b", ""]})
    saved.save(tmp_path)
    loaded = Vocabularies.load(tmp_path, schema)
    assert {n: loaded.values(n) for n in loaded.names} == {
        n: saved.values(n) for n in saved.names
    }
    sizes = loaded.table_sizes(schema)
    assert sizes["item_id"] == 4
    assert sizes["brand"] == 5
    assert sizes["hour"] == 26


def test_hashing_is_tensorflows():
    city = Categorical("city", "user", hash_buckets=100)
    ids = Vocabularies({}).encode(city, pa.array(["Rome", None, "Oslo"]))
    buckets = tf.strings.to_hash_bucket_fast(["Rome", "Oslo"], 100).numpy() + 2
    assert ids.tolist() == [buckets[0], 1, buckets[1]]
    assert ids.dtype == np.int64
