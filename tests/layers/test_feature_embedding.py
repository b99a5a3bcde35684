"""Features become vectors: which channels, what means of lists, what statistics."""

import dataclasses

import numpy as np
import pytest

from ctr_tf.layers.feature_embedding import FeatureEmbedding
from ctr_tf.schema import Bucketized, Categorical, Numeric, Positive, Schema

SCHEMA = Schema(
    "shop",
    (
        Categorical("item_id", "item", dtype="int64"),
        Numeric("price", "item"),
        Categorical("tags", "user", length=3),
    ),
    counter_windows=(),
    slate_size=True,
)


def inputs_of(rng):
    valid = np.arange(6) >= np.array([[2], [0]])
    zeros = np.zeros((2, 1), np.int64)
    candidate_mask = np.array([[True, True, False], [True, True, True]])
    inputs = {
        "request_time": np.array([10_000, 20_000]),
        "user_tags": np.array([[2, 3, 0], [0, 0, 0]]),
        "behavior_time": np.where(valid, 5, 0),
        "behavior_item_id": np.where(valid, 3, 0),
        "behavior_price": np.where(valid, rng.normal(7, 2, valid.shape), 0),
        "behavior_chunk": valid * 1,
        "candidate_item_id": np.where(candidate_mask, 4, 0),
        "candidate_price": rng.normal(5, 3, (2, 3)) * candidate_mask,
        "candidate_mask": candidate_mask,
        "context_slate_size": np.log1p([[2.0], [3.0]]),
    }
    for group, shape in (("behavior", valid.shape), ("context", (2, 1))):
        inputs[f"{group}_hour"] = inputs[f"{group}_weekend"] = np.full(shape, 2)
    for feature in SCHEMA.candidate:
        if feature.computed:
            inputs[f"candidate_{feature.name}"] = np.repeat(zeros, 3, axis=1)
    return {
        key: value.astype(np.float32) if value.dtype == np.float64 else value
        for key, value in inputs.items()
    }


def embedding():
    sizes = {f.table: f.num_ids or 9 for f in SCHEMA.features if f.is_embedded}
    return FeatureEmbedding(SCHEMA, sizes, embedding_dim=4)


def test_adapt_standardizes_by_real_values_only():
    layer, rng = embedding(), np.random.default_rng(0)
    layer.build()
    batches = [inputs_of(rng) for _ in range(3)]
    layer.adapt(batches)
    index = list(layer.numeric_keys()).index("behavior_price")
    real = np.concatenate(
        [b["behavior_price"][b["behavior_time"] > 0] for b in batches]
    )
    np.testing.assert_allclose(layer.mean[index], real.mean(), rtol=1e-5)
    np.testing.assert_allclose(layer.deviation[index], real.std(), rtol=1e-5)
    unseen = list(layer.numeric_keys()).index("candidate_user_clicks")
    assert layer.deviation[unseen] == 1  # a constant is centered, not blown up

    groups = layer.assemble(batches[0], layer.lookup(batches[0]))
    price = np.array(groups["behaviors"]["embedding"])[..., 4]
    expected = (batches[0]["behavior_price"] - real.mean()) / real.std()
    valid = batches[0]["behavior_time"] > 0
    np.testing.assert_allclose(price[valid], expected[valid], atol=1e-5)


def test_a_number_of_one_value_is_left_out_and_told(caplog):
    """No weight for it was ever trained: whatever a request gives, it is as before."""
    layer, rng = embedding(), np.random.default_rng(0)
    layer.build()
    batches = [inputs_of(rng) for _ in range(3)]
    for batch in batches:
        batch["context_slate_size"] = np.full((2, 1), np.log1p(10), np.float32)
    layer.adapt(batches)
    assert "are features of one value: 'context_slate_size' (2.3979)" in caplog.text
    inputs = inputs_of(rng)
    other = inputs | {"context_slate_size": np.full((2, 1), 9.0, np.float32)}
    one, two = (layer.assemble(each, layer.lookup(each)) for each in (inputs, other))
    one, two = (groups["context"]["embedding"] for groups in (one, two))
    np.testing.assert_array_equal(one, two)


def test_an_outlier_does_not_blind_a_feature(caplog):
    layer, rng = embedding(), np.random.default_rng(3)
    layer.build()
    batches = [inputs_of(rng) for _ in range(200)]
    prices = np.concatenate(
        [b["candidate_price"][b["candidate_mask"]] for b in batches]
    )
    batches[0]["candidate_price"][0, 0] = 1e9
    layer.adapt(batches)
    index = list(layer.numeric_keys()).index("candidate_price")
    np.testing.assert_allclose(layer.mean[index], prices.mean(), atol=0.1)
    np.testing.assert_allclose(layer.deviation[index], prices.std(), rtol=0.1)
    assert "'candidate_price': 1 of 1,000 values are outliers" in caplog.text
    assert "1e+09" in caplog.text
    groups = layer.assemble(batches[0], layer.lookup(batches[0]))
    price = np.array(groups["candidates"]["embedding"])[..., 4]
    assert price[0, 0] == pytest.approx(
        (layer.high[index] - layer.mean[index]) / layer.deviation[index]
    )
    assert 5 < price[0, 0] < 20 and abs(price[1]).max() < 4


def test_a_missing_number_is_the_mean_and_a_list_of_numbers_its_places():
    numbers = Numeric("sizes", "item", length=2)
    schema = Schema("shop", (*SCHEMA.features[:3], numbers), counter_windows=())
    sizes = {f.table: f.num_ids or 9 for f in schema.features if f.is_embedded}
    layer = FeatureEmbedding(schema, sizes, embedding_dim=4)
    inputs = inputs_of(np.random.default_rng(0))
    inputs["candidate_price"][0, 1] = np.nan
    inputs["candidate_sizes"] = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    inputs["candidate_sizes"][0, 0, 1] = np.nan
    inputs["behavior_sizes"] = np.zeros((2, 6, 2), np.float32)
    layer.build()
    layer.adapt([inputs])
    groups = layer.assemble(inputs, layer.lookup(inputs))
    vectors = np.array(groups["candidates"]["embedding"])
    assert vectors[0, 1, 4] == 0 and vectors[0, 0, 6] == 0
    real = inputs["candidate_sizes"][inputs["candidate_mask"]]
    mean, deviation = np.nanmean(real), np.nanstd(real)
    np.testing.assert_allclose(vectors[1, 2, 5:7], (real[-1] - mean) / deviation, 1e-5)
    assert layer.item_dim == 7 and layer.width("behavior") == 7 + 2 * 4


def test_item_channels_lead_and_lists_are_averaged():
    layer, inputs = embedding(), inputs_of(np.random.default_rng(1))
    groups = layer.assemble(inputs, layer.lookup(inputs))
    items = np.array(layer.tables["item_id"].table)
    assert layer.item_dim == 5
    np.testing.assert_array_equal(
        np.array(groups["behaviors"]["embedding"])[1, 0, :4], items[3]
    )
    np.testing.assert_array_equal(
        np.array(groups["candidates"]["embedding"])[1, 0, :4], items[4]
    )
    tags = np.array(layer.tables["tags"].table)
    user = np.array(groups["user"]["embedding"])
    np.testing.assert_allclose(user[0], (tags[2] + tags[3]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(user[1], 0)  # an empty list


def test_what_behaviors_and_candidates_share_has_no_numbers():
    price_first = Schema("shop", (SCHEMA.features[1], SCHEMA.features[0]))
    vectors = np.random.default_rng(0).normal(size=(2, 3, 9)).astype(np.float32)
    for schema, start in ((SCHEMA, 0), (price_first, 1)):
        sizes = {f.table: f.num_ids or 9 for f in schema.features if f.is_embedded}
        layer = FeatureEmbedding(schema, sizes, embedding_dim=4)
        shared = layer.shared(vectors)
        assert layer.shared_dim == 4
        np.testing.assert_array_equal(shared, vectors[..., start : start + 4])


def test_a_bucket_beyond_the_largest_seen_takes_its_row():
    layer, rng = embedding(), np.random.default_rng(2)
    layer.build()
    seen, later = inputs_of(rng), inputs_of(rng)
    seen["candidate_item_age"] = np.array([[5, 9, 0], [1, 7, 7]])
    later["candidate_item_age"] = np.array([[5, 9, 0], [10, 40, 2]])
    layer.adapt([seen])
    rows = np.array(layer.tables["item_age"].table)
    looked_up = np.array(layer.lookup(later)["candidate_item_age"])
    np.testing.assert_array_equal(looked_up, rows[[[5, 9, 0], [9, 9, 2]]])
    # A feature that was never there, and one without an order, stay as they are.
    later["candidate_since_shown"] = np.full((2, 3), 20)
    later["context_hour"] = np.full((2, 1), 25)
    rows = np.array(layer.tables["since_shown"].table)
    looked_up = np.array(layer.lookup(later)["candidate_since_shown"])
    np.testing.assert_array_equal(looked_up, np.broadcast_to(rows[20], (2, 3, 4)))
    assert np.all(layer.row_ids(later, "context_hour") == 25)


def test_a_group_without_features_is_one_channel_of_zeros():
    schema = Schema(
        name="bare",
        features=(Categorical("item_id", "item", hash_buckets=8),),
    )
    sizes = {f.table: f.num_ids for f in schema.features if f.is_embedded}
    layer = FeatureEmbedding(schema, sizes)
    inputs = {"request_time": np.array([5, 6])}
    layer.build()
    assert layer.width("user") == 1
    user = layer._vectors("user", inputs, {})
    np.testing.assert_array_equal(user, np.zeros((2, 1)))


@pytest.mark.parametrize(
    "rating, at_least, padding, values",
    [
        (Bucketized("rating", "behavior", boundaries=(2, 4, 5)), 4, 0, [1, 2, 3, 4, 5]),
        (Numeric("rating", "behavior"), 4, 0, [np.nan, 3.5, 3.9, 4, 5]),
        (Numeric("rating", "behavior"), -2, 0, [np.nan, -3, -2.5, -2, 1]),
    ],
)
def test_behaviors_say_which_are_positive(rating, at_least, padding, values):
    """Padding never is, though it may be more than the least positive value."""
    features = (*SCHEMA.declared, rating)
    schema = dataclasses.replace(
        SCHEMA, features=features, positive=Positive("rating", at_least)
    )
    sizes = {f.table: f.num_ids or 9 for f in schema.features if f.is_embedded}
    inputs = inputs_of(np.random.default_rng(0))
    dtype = rating.input_dtype
    inputs["behavior_rating"] = np.array(
        [[padding, padding, *values[1:]], [*values, values[-1]]], dtype
    )
    layer = FeatureEmbedding(schema, sizes, embedding_dim=4)
    layer.build()
    # What enters the vector is cut to what the training saw; the mask is not.
    layer.adapt([inputs | {"behavior_rating": np.full((2, 6), 3, dtype)}])
    behaviors = layer.assemble(inputs, layer.lookup(inputs))["behaviors"]
    expected = [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1]]
    np.testing.assert_array_equal(behaviors["positive"], np.array(expected, bool))

    layer, inputs = embedding(), inputs_of(np.random.default_rng(0))
    behaviors = layer.assemble(inputs, layer.lookup(inputs))["behaviors"]
    assert "positive" not in behaviors
