"""JSON requests: the tensors they become, and every mistake told by its place."""

import copy
import math

import numpy as np
import pyarrow as pa
import pytest
from helpers import make_schema

from ctr_tf.schema import MISSING, Categorical, Schema
from ctr_tf.synthetic.random_samples import random_sample, random_vocabularies
from serving.request import request_from_sample, request_to_tensors

SCHEMA = make_schema()
NOTHING = {
    name: None if name.startswith(("since", "item_age")) else 0
    for name in SCHEMA.computed.counts
}
ITEM = {"genres": ["new", None], "price": 2.5}
REQUEST = {
    "request_time": 1_700_000_000,
    "slate_size": 2,
    "user": {"age": 34, "tags": ["a", None]},
    "context": {"device": "phone"},
    "behaviors": [
        {
            "time": 1_699_990_000,
            "item_id": 7,
            "category": "x",
            "action": "click",
            **ITEM,
        },
        {
            "time": 1_699_990_005,
            "item_id": 8,
            "category": None,
            "action": "buy",
            **ITEM,
        },
    ],
    "candidates": [
        {
            **NOTHING,
            **{"item_id": 9, "category": "y", "position": 0, "clicks_1d": 3},
            **ITEM,
        },
        {
            **NOTHING,
            "item_id": None,
            "category": "y",
            "position": None,
            "genres": None,
            "price": None,
        },
    ],
}


def changed(*path, value):
    request = copy.deepcopy(REQUEST)
    place = request
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return request


def test_a_request_becomes_tensors():
    tensors = request_to_tensors(REQUEST, SCHEMA)
    lists = {key: value.tolist() for key, value in tensors.items()}
    assert lists["request_time"] == [1_700_000_000]
    assert lists["slate_size"] == [2] and lists["candidate_length"] == [2]
    assert lists["user_age"] == [[34.0]] and tensors["user_age"].dtype == np.float32
    assert lists["user_tags"] == [["a", MISSING["string"], MISSING["string"]]]
    assert lists["user_tags_length"] == [2]
    assert lists["behavior_time"] == [[1_699_990_000, 1_699_990_005]]
    assert lists["behavior_category"] == [["x", MISSING["string"]]]
    missing = MISSING["string"]
    assert lists["candidate_genres"] == [[["new", missing, missing], [missing] * 3]]
    assert lists["candidate_genres_length"] == [[2, 0]]
    assert lists["behavior_genres_length"] == [[2, 2]]
    assert np.isnan(tensors["candidate_price"]).tolist() == [[False, True]]
    assert lists["candidate_item_id"] == [[9, MISSING["int64"]]]
    assert lists["candidate_clicks_1d"] == [[3, 0]]
    assert lists["candidate_clicks_1d_rank"] == [[1, 0]]
    assert lists["candidate_clicks_1d_share"] == [[1, 0]]
    np.testing.assert_allclose(
        tensors["candidate_clicks_1d_ratio"], np.log([[4 / 2.5, 1 / 2.5]]), rtol=1e-6
    )
    never = MISSING["int64"]
    assert lists["candidate_since_shown"] == [[never, never]]
    assert tensors["candidate_item_id"].dtype == np.int64
    assert "behavior_hour" not in tensors and "context_slate_size" not in tensors


def test_an_empty_history_needs_no_key():
    """It is one place of padding: no tensor is without values."""
    tensors = request_to_tensors(changed("behaviors", value=...), SCHEMA)
    assert tensors["behavior_length"].tolist() == [0]
    assert tensors["behavior_time"].tolist() == [[0]]
    assert tensors["behavior_category"].tolist() == [[MISSING["string"]]]
    assert tensors["behavior_time"].dtype == np.int64
    assert tensors["behavior_category"].dtype == object


MISTAKES = [
    ([], "the request must be an object {…}. Received: []"),
    (changed("user_id", value=3), "Unknown key 'user_id'"),
    (changed("request_time", value=...), "The request lacks 'request_time'."),
    (changed("candidates", value=...), "The request lacks 'candidates'."),
    (changed("candidates", value=[]), "`candidates` must hold at least one. Rec"),
    (changed("candidates", value={}), "`candidates` must be a list […]. Received: {}"),
    (changed("request_time", value="now"), "whole seconds since 1970-01-01 UTC"),
    (changed("request_time", value=1.5e9), "`request_time` must be whole seconds"),
    (changed("request_time", value=-1), "whole seconds since 1970-01-01 UTC. Received"),
    (
        changed("request_time", value=1_700_000_000_000),
        "`request_time` must be seconds since 1970-01-01 UTC, not milliseconds. "
        "Received: 1700000000000",
    ),
    (
        changed("behaviors", 1, "time", value=1_699_990_005_000),
        "`behaviors[1].time` must be seconds since 1970-01-01 UTC, not milliseconds.",
    ),
    (
        changed("behaviors", 1, "time", value=1_700_000_000),
        "`behaviors[1].time` must be before the request, at 1699999999 at the latest. "
        "Received: 1700000000",
    ),
    (
        changed("behaviors", 1, "time", value=1_699_980_000),
        "`behaviors` must be sorted by time, oldest first: `behaviors[1].time` is "
        "before the 1699990000 of the one before it. Received: 1699980000",
    ),
    (changed("behaviors", 0, "time", value=...), "`behaviors[0]` lacks 'time'."),
    (changed("behaviors", 0, value=7), "`behaviors[0]` must be an object {…}. Rec"),
    (
        changed("behaviors", 0, "action", value=...),
        "`behaviors[0]` lacks the feature 'action'; give null where it is unknown.",
    ),
    (
        changed("behaviors", 0, "hour", value=3),
        "`behaviors[0]`: Unknown feature 'hour'",
    ),
    (changed("user", value={}), "`user` lacks the feature 'age'; give null"),
    (changed("user", "agee", value=3), "Unknown feature 'agee'. Did you mean 'age'?"),
    (
        changed("user", "age", value="34"),
        "`user.age` must be a number, or null where it is unknown. Received: '34'",
    ),
    (changed("user", "age", value=math.nan), "`user.age` must be a number"),
    (changed("user", "age", value=True), "`user.age` must be a number"),
    (
        changed("behaviors", 1, "price", value=1e39),  # to a float32 it is infinite
        "`behaviors[1].price` must be a number, not negative (log1p), or null where it "
        "is unknown. Received: 1e+39",
    ),
    (
        changed("context", "device", value="caf\ud83d"),
        "`context.device` must be a string",
    ),
    (
        changed("user", "tags", value="a"),
        "`user.tags` must be a list […]. Received: 'a'",
    ),
    (
        changed("candidates", 1, "item_id", value="9"),
        "`candidates[1].item_id` must be a whole number, or null where it is unknown. "
        "Received: '9'",
    ),
    (changed("candidates", 0, "item_id", value=2**63), "must be a whole number"),
    (
        changed("candidates", 0, "category", value=5),
        "`candidates[0].category` must be a string",
    ),
    (
        changed("candidates", 0, "clicks_2d", value=5),
        "Unknown feature 'clicks_2d'. Did you mean 'clicks_1d'?",
    ),
    (
        changed("slate_size", value=0),
        "`slate_size` must be how many candidates are shown, a positive whole number. "
        "Received: 0",
    ),
    (changed("slate_size", value=...), "The request lacks 'slate_size'."),
    (
        changed("candidates", 1, "clicks_1d", value=...),
        "`candidates[1]` lacks the counter 'clicks_1d', clicks of the candidate's "
        "item by any user in [t - 1d, t); t is the request's time, rounded down to "
        "60 s. Give it, or ask by `Client.rank`, which knows it from a store of events",
    ),
    (
        changed("candidates", 0, "clicks_1d_rank", value=0.5),
        "Unknown feature 'clicks_1d_rank'",
    ),
]


@pytest.mark.parametrize("request_, message", MISTAKES)
def test_mistakes_are_told(request_, message):
    with pytest.raises(ValueError) as error:
        request_to_tensors(request_, SCHEMA)
    assert message in str(error.value)


def test_a_sample_becomes_the_request_it_came_from():
    vocabularies = random_vocabularies(SCHEMA, 10)
    sample = random_sample(SCHEMA, vocabularies, np.random.default_rng(0), 5, 3)
    sample["candidate_item_id"][:2] = [1, 2]
    request = request_from_sample(sample, SCHEMA, vocabularies)
    assert request["candidates"][0]["item_id"] is None
    assert request["candidates"][1]["item_id"] == 1_000
    assert len(request["behaviors"]) == 5
    assert set(request["behaviors"][0]) == {
        *("time", "item_id", "category", "genres", "price", "action")
    }
    assert set(request["context"]) == {"device"}
    tensors = request_to_tensors(request, SCHEMA)
    np.testing.assert_array_equal(tensors["behavior_time"][0], sample["behavior_time"])
    np.testing.assert_array_equal(
        tensors["candidate_since_shown"][0], sample["candidate_since_shown"]
    )


def test_hashed_ids_become_made_up_values_of_the_same_hash():
    schema = Schema(
        "x",
        (
            Categorical("item_id", "item", dtype="int64"),
            Categorical("city", "user", hash_buckets=9),
        ),
    )
    vocabularies = random_vocabularies(schema, 10)
    sample = random_sample(schema, vocabularies, np.random.default_rng(0), 1, 1)
    for hashed in range(2, 11):
        sample["user_city"] = np.array([hashed])
        city = request_from_sample(sample, schema, vocabularies)["user"]["city"]
        raw = pa.array([city], pa.string())
        assert vocabularies.encode(schema.user[0], raw) == [hashed]
    sample["user_city"] = np.array([1])
    assert request_from_sample(sample, schema, vocabularies)["user"] == {"city": None}
