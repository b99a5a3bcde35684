"""Importance by permutation, of scores whose answer is known: no model is needed."""

import numpy as np
import pytest
from helpers import make_inputs, make_schema

from ctr_tf.evaluation.importance import (
    feature_groups,
    permutation_importance,
    table,
)
from ctr_tf.evaluation.predictions import sigmoid

SCHEMA = make_schema(history_length=8)
USERS = np.array([f"u{i % 23}" for i in range(90)])


def batches(label, sizes=((30, 8, 5), (60, 6, 4))):
    """Batches of several sizes, whose clicks `label` decides from the inputs."""
    start = 0
    for seed, (size, history, candidates) in enumerate(sizes):
        inputs = make_inputs(SCHEMA, size, history, candidates, seed=seed)
        later = 86_400 * np.arange(start, start + size)  # no two requests at one time
        inputs["request_time"] = inputs["request_time"] + later
        times = inputs["behavior_time"]
        inputs["behavior_time"] = np.where(times > 0, times + later[:, None], 0)
        clicked = label(inputs) & inputs["candidate_mask"]
        labels = clicked.astype(np.float32)[..., None]
        user = USERS[start : start + size]
        start += size
        yield inputs, labels, inputs["candidate_mask"], {"user_id": user}


def measured(score, label=None, **options):
    found = permutation_importance(
        batches(label or (lambda inputs: score(inputs) > 0.5)),
        lambda inputs: score({key: np.asarray(v) for key, v in inputs.items()}),
        SCHEMA,
        batch_size=16,
        **options,
    )
    return found, {group["group"]: group for group in found["groups"]}


def by_price(inputs):
    return sigmoid(3 * inputs["candidate_price"] - 1)


def by_price_clicked(inputs):
    return by_price(inputs) > 0.5


def by_position(inputs):
    return np.where(inputs["candidate_position"] > 4, 0.8, 0.2)


def by_newest_category(inputs):
    last = inputs["behavior_category"][:, -1:]
    return np.where(inputs["candidate_category"] % 2 == last % 2, 0.9, 0.1)


def by_age(inputs):
    age = inputs["user_age"] >= 3
    return np.broadcast_to(np.where(age, 0.7, 0.3), inputs["candidate_mask"].shape)


@pytest.mark.parametrize(
    ("score", "group", "users_too"),
    [
        (by_price, "item features of candidates", True),
        (by_position, "candidate features", True),
        (by_age, "user features", False),
    ],
)
def test_what_decides_alone_has_all_the_importance(score, group, users_too):
    found, groups = measured(score)
    assert found["requests"] == 90 and found["permutations"] == 3
    assert found["groups"][0]["group"] == group
    auc = groups[group]["auc"]
    assert auc["lost"] == pytest.approx(0.5, abs=0.1)  # to a guess
    assert 0.3 < auc["low"] < auc["lost"] < auc["high"] < 0.7
    if users_too:
        assert groups[group]["gauc_user"]["lost"] > 0.3
    assert groups[group]["log_loss"]["lost"] > 0.1
    for name, other in groups.items():
        if name != group:
            for metric in ("auc", "gauc_user", "log_loss"):
                if metric in other:
                    assert other[metric] == {"lost": 0, "low": 0, "high": 0}, name


def test_history_and_candidate_together():
    _, groups = measured(by_newest_category)
    lost = {name: group["auc"]["lost"] for name, group in groups.items()}
    both = {"history", "item features of candidates"}
    assert {name for name, value in lost.items() if value} == both
    assert all(lost[name] > 0.3 for name in both)


def test_every_feature_by_itself():
    _, groups = measured(by_newest_category, single=True)
    lost = {name: group["auc"]["lost"] for name, group in groups.items()}
    assert {name for name, value in lost.items() if value} == {
        "history",
        "behavior: category",
        "candidate: category",
    }
    assert "candidate: clicks_1d" in lost and "user: age" in lost


def test_a_history_is_that_of_another_user_at_its_distance_to_the_request():
    seen = []  # of each row that is scored, the ages of its history, and a profile

    def score(inputs):
        request, times = inputs["request_time"], inputs["behavior_time"]
        ages = np.where(times > 0, request[:, None] - times, 0)
        profile = inputs["user_tags"][:, 0] * 1_000 + inputs["user_age"][:, 0]
        seen.extend(zip(map(tuple, ages), profile.tolist(), strict=True))
        return by_price(inputs)

    measured(score, by_price_clicked)
    histories, own = {ages for ages, _ in seen[:90]}, set(seen[:90])
    assert {ages for ages, _ in seen} == histories
    # The first that is dealt out are the histories, three times.
    assert np.mean([row in own for row in seen[90:360]]) < 0.2


def test_counters_are_one_group_and_shared_tables_are_dealt_out_among_candidates():
    inputs = make_inputs(SCHEMA)
    groups = {group.name: group for group in feature_groups(SCHEMA, inputs)}
    counters = set(groups["counters"].features)
    assert {"clicks_1d", "impressions_1d", "newness", "item_age"} <= counters
    assert groups["candidate's item id"].keys == ("candidate_item_id",)
    shown = groups["item features of candidates"]
    assert set(shown.features) == {"category", "genres", "price"}
    assert shown.among == "candidates"
    assert all(key.startswith("candidate_") for key in shown.keys)
    assert {"behavior_time", "behavior_chunk"} < set(groups["history"].keys)
    every = [key for group in groups.values() for key in group.keys]
    left = set(inputs) - set(every)
    assert left == {"request_time", "candidate_mask"} and len(every) == len(set(every))


def test_so_many_requests_at_most():
    found, _ = measured(by_price, requests=40)
    assert found["requests"] == 40
    with pytest.raises(ValueError, match="`--importance_requests` must be .* Received"):
        measured(by_price, requests=0)
    with pytest.raises(ValueError, match="`permutations` must be at least 3. .*: 2"):
        measured(by_price, permutations=2)


def test_one_user_has_nobody_to_be_given_to(monkeypatch):
    monkeypatch.setitem(globals(), "USERS", np.array(["one"] * 90))
    with pytest.raises(ValueError, match="Received: 1 in 90 requests"):
        measured(by_price)


def test_one_class_has_no_auc():
    _, groups = measured(by_price, lambda inputs: by_price(inputs) > 2)
    assert all("auc" not in group for group in groups.values())
    lost = groups["item features of candidates"]["log_loss"]
    assert lost["low"] is not None
    head, *rows = table({"groups": list(groups.values())})
    assert head[0] == "permuted" and all(row[1] == "–" for row in rows)
