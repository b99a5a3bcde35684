"""Encoding in the graph: equal to NumPy and to what the jobs do."""

import math

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr_tf.data.encode import RequestEncoder
from ctr_tf.schema import MISSING, Bucketized, Categorical, Numeric, Schema
from ctr_tf.schema.vocabulary import Vocabularies

ITEM = Categorical("item_id", "item", dtype="int64")
NUMBERS = st.integers(-(2**62), 2**62)
FLOATS = st.floats(width=32, allow_nan=False, allow_subnormal=False)


def bucketized(**kwargs):
    return Bucketized("x", "user", **kwargs)


def encode(feature, values):
    values = np.array(values, feature.stored_dtype)
    return feature.to_input(tf.constant(values)).numpy().tolist()


def test_boundaries_hold_their_lower_end():
    feature = bucketized(boundaries=(0, 18, 25.5))
    assert encode(feature, [-0.1, 0, 17.9, 18, 25.4, 25.5, 99]) == [
        *(2, 3, 3, 4, 4, 5, 5)
    ]
    whole = bucketized(boundaries=(18, 25.5), dtype="int64")
    assert encode(whole, [-1, 0, 17, 18, 25, 26]) == [2, 2, 2, 3, 3, 4]


@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_boundaries_may_be_negative(dtype):
    feature = bucketized(boundaries=(-10, 0, 10), dtype=dtype)
    values = [-11, -10, -1, 0, 9, 10, MISSING[dtype]]
    assert encode(feature, values) == [2, 3, 3, 4, 4, 5, 1]


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=5), st.lists(NUMBERS, max_size=4))
def test_boundaries_are_exact_for_integers(values, others):
    boundaries = tuple(sorted(set(values)))
    values = values + others + [v - 1 for v in values] + [v + 1 for v in values]
    expected = [2 + sum(boundary <= v for boundary in boundaries) for v in values]
    feature = bucketized(boundaries=boundaries, dtype="int64")
    assert encode(feature, values) == expected


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=1))
def test_log2_is_exact(values):
    values += [2**k + d for k in range(62) for d in (-1, 0, 1)]
    expected = [1 if v < 0 else 1 + max(v, 1).bit_length() for v in values]
    assert encode(bucketized(log2=True, dtype="int64"), values) == expected


def test_whole_numbers_as_they_are():
    feature = bucketized(num_values=24, dtype="int64")
    assert encode(feature, [-1, 0, 23, 24]) == [1, 2, 25, 1]


@pytest.mark.parametrize(
    "kind", [{"boundaries": (1.0,)}, {"log2": True}, {"num_values": 3}]
)
def test_a_number_that_is_none_is_missing(kind):
    lowest = 2 if "boundaries" in kind else 1  # a negative number is no other's
    values = [math.nan, -math.inf, -1e-9]
    assert encode(bucketized(**kind), values) == [1, lowest, lowest]
    assert encode(bucketized(log2=True), [math.inf, 3e38, 1.9]) == [64, 64, 2]


@settings(deadline=None)
@given(st.lists(FLOATS, min_size=1))
def test_numeric_features(values):
    plain = Numeric("x", "user")
    log = Numeric("x", "user", transform="log1p")
    values = np.array([*values, math.nan, math.inf, -math.inf], np.float32)
    known = np.where(np.isfinite(values), values, np.nan)
    np.testing.assert_array_equal(encode(plain, values), known)
    expected = np.log1p(np.where(known < 0, np.nan, known), dtype=np.float64)
    np.testing.assert_allclose(encode(log, values), expected, rtol=1e-6)


def words():
    letters = st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"])
    return st.text(letters, max_size=6)


def request_encoder(folder, feature, vocabulary):
    schema = Schema("x", (ITEM, feature) if feature.name != "item_id" else (feature,))
    vocabularies = {name: [] for name in schema.vocabularies()}
    if feature.vocabulary_name:
        vocabularies[feature.vocabulary_name] = vocabulary
    vocabularies = Vocabularies(vocabularies)
    vocabularies.save(folder)
    return RequestEncoder(schema, folder), vocabularies


@settings(max_examples=30, deadline=None)
@given(st.lists(words(), unique=True, max_size=8), st.lists(words(), min_size=1))
def test_words_get_the_jobs_ids(tmp_path_factory, vocabulary, values):
    feature = Categorical("word", "item")
    encoder, vocabularies = request_encoder(
        tmp_path_factory.mktemp("vocabularies"), feature, vocabulary
    )
    values += vocabulary
    expected = vocabularies.encode(feature, pa.array(values, pa.string()))
    ids = feature.to_stored(tf.constant(values), encoder)
    np.testing.assert_array_equal(ids, expected)


@settings(max_examples=30, deadline=None)
@given(st.lists(NUMBERS, unique=True, max_size=8), st.lists(NUMBERS, min_size=1))
def test_numbers_get_the_jobs_ids(tmp_path_factory, vocabulary, values):
    encoder, vocabularies = request_encoder(
        tmp_path_factory.mktemp("vocabularies"), ITEM, [str(v) for v in vocabulary]
    )
    values += vocabulary
    expected = vocabularies.encode(ITEM, pa.array(values, pa.int64()))
    ids = ITEM.to_stored(tf.constant(values, tf.int64), encoder)
    np.testing.assert_array_equal(ids, expected)


@pytest.mark.parametrize(
    "dtype, values", [("string", ["", "ä b", "x"]), ("int64", [5])]
)
def test_hashes_are_the_jobs(tmp_path, dtype, values):
    feature = Categorical("h", "user", dtype=dtype, hash_buckets=100)
    encoder, vocabularies = request_encoder(tmp_path, feature, [])
    expected = vocabularies.encode(feature, pa.array([*values, None]))
    raw = tf.constant([*values, MISSING[dtype]], dtype)
    np.testing.assert_array_equal(feature.to_stored(raw, encoder), expected)
    graph = tf.function(lambda raw: feature.to_stored(raw, encoder))
    np.testing.assert_array_equal(graph(raw), expected)


def test_missing_is_null(tmp_path):
    encoder, _ = request_encoder(tmp_path, ITEM, ["0", "7"])

    def ids(feature):
        raw = tf.constant([MISSING[feature.dtype]], feature.dtype)
        return feature.to_input(feature.to_stored(raw, encoder)).numpy().tolist()

    assert ids(ITEM) == [1]
    assert np.isnan(ids(Numeric("n", "user"))).all()
    assert np.isnan(ids(Numeric("n", "user", dtype="int64"))).all()
    assert ids(bucketized(log2=True, dtype="int64")) == [1]
    assert ids(bucketized(boundaries=(1,))) == [1]


def test_a_missing_vocabulary_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="'item_id' of feature 'item_id'.*txt"):
        RequestEncoder(Schema("x", (ITEM,)), tmp_path)
