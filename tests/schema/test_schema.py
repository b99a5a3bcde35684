"""The schema: what it holds, how it round-trips, what it derives."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctr_tf.schema import (
    FIRST_ID,
    Bucketized,
    Categorical,
    Numeric,
    Schema,
    parse_duration,
)
from ctr_tf.schema.vocabulary import Vocabularies

ITEM = Categorical("item_id", "item", dtype="int64")


def test_computed_features_follow_the_windows():
    schema = Schema("shop", (ITEM,), counter_windows=("1h", "7d"))
    names = [f.name for f in schema.candidate if f.computed]
    assert names[:4] == ["impressions_1h", "clicks_1h", "impressions_7d", "clicks_7d"]
    assert {"user_impressions", "since_clicked", "item_age"} <= set(names)
    assert [f.name for f in schema.behavior] == ["item_id", "hour", "weekend"]
    assert [f.name for f in schema.context] == ["hour", "weekend"]


def test_item_features_lead_behaviors_and_candidates_alike():
    dwell = Bucketized("dwell", "behavior", log2=True)
    brand = Categorical("brand", "item")
    schema = Schema("shop", (dwell, ITEM, brand))
    assert [f.name for f in schema.behavior][:3] == ["item_id", "brand", "dwell"]
    assert [f.name for f in schema.candidate][:2] == ["item_id", "brand"]


def test_shared_vocabulary_is_one_table():
    favorite = Categorical(
        "favorites",
        "user",
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
    assert Bucketized("age", "user", **settings).num_ids == ids


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7_200), ("3d", 259_200), ("30m", 1_800), (45, 45)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).map(lambda n: "x" + n)
features = st.one_of(
    st.builds(
        Categorical,
        name=names,
        role=st.sampled_from(["user", "context", "item"]),
        dtype=st.sampled_from(["int64", "string"]),
        length=st.integers(1, 5),
        min_count=st.integers(1, 9),
        max_size=st.none() | st.integers(1, 99),
    ),
    st.builds(
        Numeric,
        name=names,
        role=st.sampled_from(["item", "behavior", "candidate"]),
        length=st.integers(1, 5),
        null_values=st.none() | st.lists(st.sampled_from(["-1", "NULL"]), max_size=2),
        transform=st.sampled_from(["none", "log1p"]),
    ),
    st.builds(
        Bucketized,
        name=names,
        role=st.just("behavior"),
        boundaries=st.sets(st.integers(-50, 50), min_size=1).map(sorted),
        embedding_dim=st.none() | st.integers(1, 64),
    ),
)


@given(
    st.lists(features, max_size=6, unique_by=lambda f: f.name),
    st.sampled_from([-8, 0, 5.5]),
    st.sampled_from([None, "90d", 259_200]),
)
def test_yaml_round_trip(declared, offset, horizon):
    features = (ITEM, *declared)
    schema = Schema("shop", features, utc_offset_hours=offset, horizon=horizon)
    text = schema.to_yaml()
    assert Schema.from_yaml(text) == schema
    assert ("horizon" in text) == (horizon is not None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("labels: click", "`labels` must be a list. Received: 'click'"),
        ("labels: [time]", "none of the raw columns .* Received: labels='time'"),
        ("labels: [click, click]", "`labels` must differ. Received: click, click"),
        ("utc_offset_hours: '5.5'", "`utc_offset_hours` must be a number. .*'5.5'"),
        ("history_length: 12.5", "`history_length` must be an integer. .* 12.5"),
        ("history_length: true", "`history_length` must be an integer. .* True"),
        ("counter_windows: 2h", "`counter_windows` must be a list. Received: '2h'"),
        ("name: 7", "`name` must be a string. Received: 7"),
        ("horizons: 7", "Unknown .* 'horizons'"),
        ("horizon: soon", "`horizon`: A duration is a positive .* 'soon'"),
        ("time_zone: Mars/Olympus", "Unknown time zone 'Mars/Olympus'"),
        ("{time_zone: Asia/Kolkata, utc_offset_hours: 5}", "not both. Received: 5.0"),
        ("feedback_delay: soon", "`feedback_delay`: A duration is .* 'soon'"),
        ("counters: [{by: item_id, source: views}]", "Unknown `source` 'views'"),
        ("all_clicked: 1", "`all_clicked` must be true or false. Received: 1"),
    ],
)
def test_a_schema_is_checked_key_by_key(line, message):
    item = "features: [{name: item_id, role: item, kind: categorical}]"
    line = line.strip("{}").replace(", utc", "\nutc")
    text = f"name: shop\n{item}\n{line}\n"
    if line.startswith("name"):
        text = f"{item}\n{line}\n"
    with pytest.raises(ValueError, match=f"^shop.yaml: .*{message}"):
        Schema.from_yaml(text, source="shop.yaml")


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ("name: click, role: context, kind: categorical", "'click' .* a label already"),
        ("name: time, role: context, kind: numeric", "'time' .* a raw column already"),
        ("name: request_id, role: user, kind: numeric", "raw tables have a column"),
        ("name: item_id, role: behavior, kind: numeric", "'behavior_item_id' is taken"),
        ("name: a, role: user, kind: numeric, length: '2'", "length` must be an int"),
        ("name: a, role: user, kind: numeric, dtype: string", "dtype='string'"),
        ("name: a, role: user, kind: numeric, computed: true", "are not declared"),
        ("name: a, role: user, kind: numbers", "Unknown kind 'numbers'.*'numeric'"),
        ("name: a, role: users, kind: numeric", "Unknown role 'users'.*'user'"),
        ("name: a, role: user, kind: numeric, min_count: 2", "min_count"),
        (
            "name: a, role: user, kind: bucketized, boundaries: [1, x]",
            r"features\[1\].boundaries\[1\]` must be a.* number. Received: 'x'",
        ),
        (
            "name: a, role: user, kind: bucketized, boundaries: [1, '2']",
            r"features\[1\].boundaries\[1\]` must be a.* number. Received: '2'",
        ),
        ("name: a, role: user, kind: bucketized, boundaries: [1, .nan]", "finite"),
        ("name: a, role: user, kind: bucketized, boundaries: [2, 1]", "ascending"),
        ("name: a, role: user, kind: bucketized", "exactly one of"),
        ("name: a, role: item, kind: categorical, max_size: 0", "`max_size` must be"),
    ],
)
def test_a_feature_is_checked_field_by_field(feature, message):
    text = (
        "name: shop\nfeatures:\n- {name: item_id, role: item, kind: categorical}\n"
        f"- {{{feature}}}\n"
    )
    with pytest.raises(ValueError, match=message):
        Schema.from_yaml(text)


def test_a_column_has_one_meaning():
    both = (Categorical("page", "context"), Numeric("page", "candidate"))
    with pytest.raises(ValueError, match="'page' of the exposures is that of another"):
        Schema("shop", (ITEM, *both))
    of_lists = (Categorical("tags", "item", length=2), Numeric("tags_length", "item"))
    with pytest.raises(ValueError, match="'behavior_tags_length' is taken"):
        Schema("shop", (ITEM, *of_lists))


def test_buckets_in_words():
    ids = [FIRST_ID + bucket for bucket in (0, 1, 16)]
    count = Bucketized("stock", "item", dtype="int64", log2=True)
    words = ["0 to 1", "2 to 3", "65,536 to 131,071"]
    assert count.id_words(ids, Vocabularies({})) == words
    age = dataclasses.replace(count, computed=True)
    words = ["0 s to < 2 s", "2 s to < 4 s", "18 h 12 m to < 1 d 12 h"]
    assert age.id_words(ids, Vocabularies({})) == words
