"""The exported graph by itself: wrong times are refused, disorder is mended."""

import numpy as np
import pytest
import tensorflow as tf
from small_export import SCHEMA, VOCABULARIES

from ctr_tf.schema import MISSING
from ctr_tf.synthetic.random_samples import random_sample
from serving.request import request_from_sample, request_to_tensors
from serving.saved_model import call


@pytest.fixture(scope="module")
def signatures(small_export):
    loaded = tf.saved_model.load(str(small_export))
    yield loaded.signatures
    del loaded


@pytest.fixture
def tensors():
    sample = random_sample(SCHEMA, VOCABULARIES, np.random.default_rng(4), 14, 3)
    sample["behavior_time"][5:8] = sample["behavior_time"][5]  # one time, three things
    request = request_from_sample(sample, SCHEMA, VOCABULARIES)
    for number, behavior in enumerate(request["behaviors"]):
        behavior["item_id"] = 1_000 + number % 3
    return request_to_tensors(request, SCHEMA)


def score(signatures, tensors):
    return call(signatures["serving_default"], tensors)["probability"]


def assert_same(found, expected):
    np.testing.assert_allclose(found, expected, atol=2e-6)


def with_behaviors(tensors, places):
    """The request with these behaviors, in this order."""
    changed = dict(tensors)
    for name, value in tensors.items():
        if name.startswith("behavior_") and value.ndim > 1:
            changed[name] = value[:, places]
    changed["behavior_length"] = np.array([len(places)])
    return changed


def test_behaviors_may_come_in_any_order(signatures, tensors):
    expected = score(signatures, tensors)
    rest = [0, 3, 1, 13, 2, 4, 5, 9, 6, 8, 7, 12, 11, 10]  # 5, 6, 7 stay in their order
    changed = with_behaviors(tensors, rest)
    assert_same(score(signatures, changed), expected)
    newest_first = [13, 12, 11, 10, 9, 8, 5, 6, 7, 4, 3, 2, 1, 0]
    changed = with_behaviors(tensors, newest_first)
    assert_same(score(signatures, changed), expected)
    fewer = score(signatures, with_behaviors(tensors, list(range(1, 14))))
    assert np.abs(fewer - expected).max() > 1e-4  # the history counts


def test_behaviors_that_are_told_twice_count_once(signatures, tensors):
    expected = score(signatures, tensors)
    twice = [0, 0, 1, 2, 3, 4, 5, 6, 7, 6, 5, 8, 9, 10, 11, 12, 13, 13]
    changed = with_behaviors(tensors, twice)
    assert_same(score(signatures, changed), expected)


@pytest.mark.parametrize("name", ["behavior_item_id", "behavior_action"])
def test_behaviors_of_one_time_that_differ_stay_two(signatures, tensors, name):
    """They are in the job, by item or by a behavior feature."""
    changed = with_behaviors(tensors, [0, 1, 2, 2])
    alone = score(signatures, with_behaviors(tensors, [0, 1, 2]))
    assert_same(score(signatures, changed), alone)
    other = {"behavior_item_id": 1_007, "behavior_action": "action 3"}[name]
    changed[name] = changed[name].copy()
    changed[name][0, 3] = other
    assert np.abs(score(signatures, changed) - alone).max() > 1e-5


def test_an_item_feature_makes_no_other_behavior(signatures, tensors):
    changed = with_behaviors(tensors, [0, 1, 2, 2])
    changed["behavior_price"] = changed["behavior_price"].copy()
    changed["behavior_price"][0, 3] = 77.0
    alone = score(signatures, with_behaviors(tensors, [0, 1, 2]))
    assert_same(score(signatures, changed), alone)


def test_unknown_items_of_one_time_may_be_two(signatures, tensors):
    changed = with_behaviors(tensors, [0, 1, 2, 2])
    alone = with_behaviors(tensors, [0, 1, 2])
    for request in (changed, alone):
        request["behavior_item_id"] = np.full_like(
            request["behavior_item_id"], MISSING["int64"]
        )
    difference = score(signatures, changed) - score(signatures, alone)
    assert np.abs(difference).max() > 1e-5


WRONG = {
    "no request time": ("request_time", 0, "`request_time` must be seconds since"),
    "request in milliseconds": (
        "request_time",
        1_700_000_000_000,
        "`request_time` must be seconds since 1970-01-01 UTC",
    ),
    "behavior in milliseconds": (
        "behavior_time",
        1_699_000_000_000,
        "`behavior_time` must be seconds since 1970-01-01 UTC, before the year 2242",
    ),
    "behavior without time": ("behavior_time", 0, "`behavior_time` must be seconds"),
    "no slate size": ("slate_size", 0, "`slate_size` must state how many candidates"),
}


@pytest.mark.parametrize("signature", ["serving_default", "encode_user"])
@pytest.mark.parametrize(("name", "value", "message"), WRONG.values(), ids=WRONG)
def test_wrong_times_are_refused(signatures, tensors, signature, name, value, message):
    tensors[name] = tensors[name].copy()
    tensors[name].flat[-1] = value
    if signature == "encode_user":
        tensors = {k: v for k, v in tensors.items() if k[:10] != "candidate_"}
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        call(signatures[signature], tensors)
    assert message in str(error.value)
    assert str(value) in str(error.value)


def test_padding_may_hold_anything(signatures, tensors):
    expected = score(signatures, tensors)
    changed = with_behaviors(tensors, [*range(14), 3, 4])
    changed["behavior_length"] = np.array([14])
    for value in (0, 1_699_000_000_000, -5):
        changed["behavior_time"] = changed["behavior_time"].copy()
        changed["behavior_time"][0, 14:] = value
        assert_same(score(signatures, changed), expected)
