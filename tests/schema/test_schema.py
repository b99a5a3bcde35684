"""The schema: what it holds, how it round-trips, what it derives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctr_tf.schema import Bucketized, Categorical, Feature, Schema, parse_duration

ITEM = Categorical("item_id", "item", dtype="int64")


def test_computed_features_follow_the_windows():
    schema = Schema("shop", (ITEM,), counter_windows=("1h", "7d"))
    names = [f.name for f in schema.candidate if f.computed]
    assert names[:4] == ["impressions_1h", "clicks_1h", "impressions_7d", "clicks_7d"]
    assert {"user_impressions", "since_clicked", "item_age"} <= set(names)
    assert [f.name for f in schema.behavior] == ["item_id", "hour", "weekend"]
    assert [f.name for f in schema.context] == ["hour", "weekend", "slate_size"]


def test_item_features_lead_behaviors_and_candidates_alike():
    dwell = Bucketized("dwell", "behavior", log2=True)
    brand = Categorical("brand", "item")
    schema = Schema("shop", (dwell, ITEM, brand))
    assert [f.name for f in schema.behavior][:3] == ["item_id", "brand", "dwell"]
    assert [f.name for f in schema.candidate][:2] == ["item_id", "brand"]


def test_shared_vocabulary_is_one_table():
    favorite = Feature(
        "favorites",
        "user",
        "categorical",
        dtype="int64",
        length=3,
        vocabulary="item_id",
    )
    schema = Schema("shop", (ITEM, favorite))
    assert favorite.table == ITEM.table == "item_id"
    assert schema.vocabularies() == {"item_id": (ITEM, favorite)}


@pytest.mark.parametrize(
    ("settings", "ids"),
    [
        ({"boundaries": (18, 25)}, 2 + 3),
        ({"num_values": 24}, 2 + 24),
        ({"log2": True}, 2 + 64),
    ],
)
def test_ids_of_bucketized_features(settings, ids):
    assert Bucketized("age", "user", **settings).num_buckets == ids


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7_200), ("3d", 259_200), ("30m", 1_800), (45, 45)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).map(lambda n: "x" + n)
features = st.one_of(
    st.builds(
        Feature,
        name=names,
        role=st.sampled_from(["user", "context"]),
        kind=st.just("categorical"),
        dtype=st.sampled_from(["int64", "string"]),
        length=st.integers(1, 5),
        min_count=st.integers(1, 9),
        max_size=st.none() | st.integers(1, 99),
    ),
    st.builds(
        Feature,
        name=names,
        role=st.sampled_from(["item", "behavior", "candidate"]),
        kind=st.just("numeric"),
        transform=st.sampled_from(["none", "log1p"]),
    ),
    st.builds(
        Feature,
        name=names,
        role=st.just("behavior"),
        kind=st.just("bucketized"),
        boundaries=st.sets(st.integers(-50, 50), min_size=1).map(sorted),
        embedding_dim=st.none() | st.integers(1, 64),
    ),
)


@given(
    st.lists(features, max_size=6, unique_by=lambda f: f.name),
    st.sampled_from([-8, 0, 5.5]),
)
def test_yaml_round_trip(declared, offset):
    schema = Schema("shop", (ITEM, *declared), utc_offset_hours=offset)
    assert Schema.from_yaml(schema.to_yaml()) == schema
