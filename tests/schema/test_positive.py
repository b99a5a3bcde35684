"""Which behaviors are positive: what a schema may say, and what the mask tells."""

import dataclasses
import pickle

import numpy as np
import pytest
import tensorflow as tf
from helpers import make_schema

from ctr_tf.schema import Bucketized, Categorical, Numeric, Positive, Schema
from ctr_tf.schema.vocabulary import without_limits

SCHEMA = """
name: films
positive: {feature: rating, at_least: 4}
features:
  - {name: item_id, role: item, kind: categorical, dtype: int64, min_count: 3}
  - {name: title, role: item, kind: text}
  - {name: year, role: item, kind: numeric}
  - {name: rating, role: behavior, kind: bucketized, boundaries: [1, 2.5, 4, 5]}
"""


@pytest.mark.parametrize("kind", ["bucketized, boundaries: [1, 2.5, 4, 5]", "numeric"])
def test_it_is_read_and_written(kind):
    text = SCHEMA.replace("bucketized, boundaries: [1, 2.5, 4, 5]", kind)
    schema = Schema.from_yaml(text)
    assert schema.positive == Positive("rating", 4.0)
    again = Schema.from_yaml(schema.to_yaml())
    assert again == schema and again.to_yaml() == schema.to_yaml()
    values = np.arange(8)
    expected = schema.positive.mask(values)
    for other in (
        *(again, schema.without_texts(), without_limits(schema)),
        *(dataclasses.replace(schema, name="x"), pickle.loads(pickle.dumps(schema))),
    ):
        assert other.positive == schema.positive
        np.testing.assert_array_equal(other.positive.mask(values), expected)


def test_a_schema_without_it_has_its_old_text():
    schema = make_schema()
    assert schema.positive is None
    assert "positive" not in schema.to_yaml()
    line = "positive:\n  feature: rating\n  at_least: 4.0\n"
    schema = Schema.from_yaml(SCHEMA)
    assert schema.to_yaml().endswith(line)
    without = dataclasses.replace(schema, positive=None)
    assert without.to_yaml() + line == schema.to_yaml()
    assert Schema.from_yaml(SCHEMA + "positive: null\n").positive is None


@pytest.mark.parametrize(
    "line, message",
    [
        (
            "{feature: ratings, at_least: 4}",
            "Unknown behavior feature 'ratings'. Did you mean 'rating'.*"
            "Received: positive.feature='ratings'",
        ),
        ("{feature: year, at_least: 4}", "role behavior. Received: 'year' of role 'it"),
        ("{feature: hour, at_least: 4}", "Unknown behavior feature 'hour'.*Received"),
        (
            "{feature: rating, at_least: 3}",
            r"'rating': .*boundaries, 1, 2\.5, 4, 5, .* Received: 3$",
        ),
        ("{feature: rating, at_least: .nan}", "must be finite. Received: nan"),
        ("{feature: rating, at_least: high}", "must be a number. Received: 'high'"),
        ("{feature: rating, at_most: 4}", "Unknown schema key 'positive.at_most'"),
        ("{feature: rating}", "`positive` lacks at_least"),
        ("4", "`positive` must hold keys and values. Received: 4"),
    ],
)
def test_what_the_line_cannot_say(line, message):
    text = SCHEMA.replace("{feature: rating, at_least: 4}", line)
    with pytest.raises(ValueError, match=f"films.yaml: .*{message}"):
        Schema.from_yaml(text, source="films.yaml")


@pytest.mark.parametrize(
    "feature, message",
    [
        ("kind: numeric, length: 2", "one value .* Received: 'rating' of length=2"),
        ("kind: numeric, transform: log1p", "logarithm.*Received: transform='log1p'"),
        ("kind: categorical", "numeric or bucketized. Received: kind='categorical'"),
        ("kind: bucketized, num_values: 6", "`boundaries`. Received: num_values=6"),
        ("kind: bucketized, log2: true", "`boundaries`. Received: log2=True"),
    ],
)
def test_what_the_feature_cannot_be(feature, message):
    text = SCHEMA.replace("kind: bucketized, boundaries: [1, 2.5, 4, 5]", feature)
    with pytest.raises(ValueError, match=f"^films.yaml: .*{message}"):
        Schema.from_yaml(text, source="films.yaml")


def test_a_whole_number_that_is_rounded_is_no_bound():
    item = Categorical("item_id", "item")
    number = Numeric("seen", "behavior", dtype="int64")
    Schema("films", (item, number), positive=Positive("seen", 2**24))
    with pytest.raises(ValueError, match="beyond 16,777,216 are rounded.*Received: 1"):
        Schema("films", (item, number), positive=Positive("seen", 2**24 + 1))


def test_a_rule_of_no_schema_tells_nothing():
    with pytest.raises(ValueError, match="of no schema"):
        Positive("rating", 4.0).mask(np.zeros(3))


@pytest.mark.parametrize(
    "feature, bounds",
    [
        (Numeric("rating", "behavior"), (0.1, 4, -1.5)),
        (Numeric("rating", "behavior", dtype="int64"), (4, 2.5, -3)),
        (
            Bucketized("rating", "behavior", boundaries=(-1.5, 0.1, 4, 5)),
            (-1.5, 0.1, 4, 5),
        ),
        (
            Bucketized(
                "rating", "behavior", dtype="int64", boundaries=(-3, 1.2, 1.5, 4)
            ),
            (-3, 1.2, 1.5, 4),
        ),
    ],
)
@pytest.mark.parametrize("xla", [False, True])
def test_the_mask_equals_plain_python(feature, bounds, xla):
    rng = np.random.default_rng(0)
    stored = np.array([*rng.normal(2, 3, 400), *np.tile(bounds, 25)])
    if feature.dtype == "int64":
        stored = stored.round()
    stored = rng.permutation(stored.astype(feature.stored_dtype))[:400].reshape(8, 50)
    missing = rng.random(stored.shape) < 0.1
    stored[missing] = feature.stored_missing
    inputs = feature.to_input(tf.constant(stored))
    for bound in bounds:
        schema = Schema(
            "films",
            (Categorical("item_id", "item"), feature),
            positive=Positive("rating", bound),
        )
        mask = tf.function(schema.positive.mask, jit_compile=xla)(inputs)
        # As exact as the log: of a float32 feature 0.1 is what float32 makes of it.
        least = np.float32(bound) if feature.dtype == "float32" else bound
        expected = [
            [not gone and value >= least for value, gone in zip(*row, strict=True)]
            for row in zip(stored.tolist(), missing, strict=True)
        ]
        assert mask.dtype == tf.bool
        np.testing.assert_array_equal(mask, expected)
        assert 0 < np.sum(expected) < 400 - missing.sum()
