"""Slices by features: against masks written out, and numbers by NumPy and scikit-learn.

Shapes: `B` requests, `C` candidates.
"""

import numpy as np
import pytest
from helpers import make_schema
from sklearn.metrics import log_loss, roc_auc_score

from ctr_tf.errors import UserError
from ctr_tf.evaluation import bootstrap
from ctr_tf.evaluation.predictions import Predictions
from ctr_tf.evaluation.scores import KeptScores
from ctr_tf.evaluation.slices import Slices, find_slicings, tables, undefined
from ctr_tf.schema import Bucketized, Categorical, Numeric, Schema
from ctr_tf.synthetic.random_samples import random_vocabularies

SCHEMA = make_schema()
VOCABULARIES = random_vocabularies(SCHEMA, 20)
REQUESTS, WIDTH = 120, 6


def make_batch(seed=0, **features):
    random = np.random.default_rng(seed)
    shape = (REQUESTS, WIDTH)
    scores = random.random(shape)
    return Predictions(
        request_id=np.array([b"r%d" % i for i in range(REQUESTS)]),
        user_id=random.integers(0, 15, REQUESTS),
        request_time=np.full(REQUESTS, 1_700_000_000),
        history_length=random.integers(0, 40, REQUESTS),
        labels=(random.random(shape) < scores).astype(np.float32),
        probabilities=scores,
        mask=np.arange(WIDTH) < random.integers(1, WIDTH + 1, REQUESTS)[:, None],
        features=features,
    )


def sliced(batch, *names, schema=SCHEMA, vocabularies=VOCABULARIES):
    kept = KeptScores()
    slices = Slices(find_slicings(schema, names), vocabularies, kept)
    assert set(slices.keys) <= set(batch.features)
    half = len(batch.labels) // 2  # two batches are as good as one
    for part in (slice(0, half), slice(half, None)):
        values = {
            name: value if name == "features" else value[part]
            for name, value in vars(batch).items()
            if value is not None
        }
        features = {key: value[part] for key, value in batch.features.items()}
        piece = Predictions(**{**values, "features": features})
        kept.update(piece)
        slices.update(piece)
    return slices.result()


def test_groups_and_metrics_are_those_of_masks():
    random = np.random.default_rng(1)
    category = random.choice([2, 3, 1], (REQUESTS, WIDTH), p=[0.6, 0.3, 0.1])
    batch = make_batch(candidate_category=category)
    (found,) = sliced(batch, "category").values()
    values = VOCABULARIES.values("category")
    names = [values[0], values[1], "unknown or missing"]
    assert [group["group"] for group in found] == names
    for group, value in zip(found, (2, 3, 1), strict=True):
        rows = batch.mask & (category == value)
        label, score = batch.labels[rows], batch.probabilities[rows]
        assert group["candidates"] == rows.sum()
        assert group["samples"] == rows.any(1).sum()
        assert group["users"] == len(np.unique(batch.user_id[rows.any(1)]))
        assert group["clicks"] == label.sum()
        auc = roc_auc_score(label, score)
        assert group["auc"]["value"] == pytest.approx(auc, abs=1e-12)
        assert group["auc"]["low"] < auc < group["auc"]["high"]
        assert group["log_loss"]["value"] == pytest.approx(log_loss(label, score))
        ratio = score.sum() / label.sum()
        assert group["calibration"]["value"] == pytest.approx(ratio)
        users = np.broadcast_to(batch.user_id[:, None], rows.shape)[rows]
        total = weight = 0.0
        for user in np.unique(users):
            of_user = users == user
            if 0 < label[of_user].mean() < 1:
                auc = roc_auc_score(label[of_user], score[of_user])
                total += auc * of_user.sum()
                weight += of_user.sum()
        assert group["gauc_user"]["value"] == pytest.approx(total / weight)


def test_the_interval_is_that_of_resampled_users():
    batch = make_batch(user_age=np.full((REQUESTS, 1), 3))
    (group,) = sliced(batch, "age")["age"]
    random, users = np.random.default_rng(5), np.unique(batch.user_id)
    ratios = []
    for _ in range(1_000):
        drawn = [np.flatnonzero(batch.user_id == u) for u in random.choice(users, 15)]
        rows = np.concatenate(drawn)
        mask = batch.mask[rows]
        score, label = batch.probabilities[rows][mask], batch.labels[rows][mask]
        ratios.append(score.sum() / label.sum())
    for end, quantile in (("low", 0.025), ("high", 0.975)):
        expected = np.quantile(ratios, quantile)
        found = group["calibration"][end]
        assert found == pytest.approx(expected, abs=0.4 * np.std(ratios))


def test_frequent_values_stand_alone_and_the_rest_together():
    ids = np.repeat(np.arange(2, 22), 6).reshape(REQUESTS, 1)  # all are as frequent
    ids[:12] = 21
    batch = make_batch(context_device=ids)
    found = sliced(batch, "device")["device"]
    assert len(found) == 11 and found[0]["group"] == VOCABULARIES.values("device")[19]
    assert found[-1]["group"] == "8 others"  # of 18 that are left
    assert sum(group["samples"] for group in found) == REQUESTS


def test_several_values_are_in_the_group_of_each():
    tags = np.zeros((REQUESTS, 3), np.int64)
    tags[: REQUESTS // 2] = [2, 3, 0]
    tags[REQUESTS // 2 : -10] = [2, 1, 0]
    found = sliced(make_batch(user_tags=tags), "tags")["tags"]
    words = VOCABULARIES.values("tags")
    assert {group["group"]: group["samples"] for group in found} == {
        words[0]: REQUESTS - 10,
        words[1]: REQUESTS // 2,
        "unknown or missing": REQUESTS // 2 - 10,
        "no value": 10,
    }


def test_numbers_go_by_quantiles_as_the_log_has_them():
    raw = np.arange(REQUESTS * WIDTH).reshape(REQUESTS, WIDTH).astype(np.float32)
    price = np.log1p(raw)  # as the model takes it
    price[::10] = np.nan
    batch = make_batch(candidate_price=price)
    batch.mask[:] = True
    found = sliced(batch, "price")["price"]
    assert found[-1]["group"] == "missing"
    assert found[-1]["candidates"] == REQUESTS * WIDTH // 10
    sizes = [group["candidates"] for group in found[:-1]]
    assert len(sizes) == 5 and max(sizes) - min(sizes) <= 2
    ends = [name["group"].replace("< ", "<").split(" to ") for name in found[:-1]]
    assert float(ends[0][0]) == raw[~np.isnan(price)].min()
    assert float(ends[-1][1]) == raw.max()
    for (_, high), (low, _) in zip(ends, ends[1:], strict=False):
        assert high.lstrip("<") == low


def test_a_number_that_is_nearly_always_the_same():
    price = np.zeros((REQUESTS, WIDTH), np.float32)
    price[:3] = np.log1p([1, 2, 3, 4, 5, 6]).astype(np.float32)
    batch = make_batch(candidate_price=price)
    batch.mask[:] = True
    found = sliced(batch, "price")["price"]
    assert {group["group"]: group["candidates"] for group in found} == {
        "0": (REQUESTS - 3) * WIDTH,
        "> 0": 3 * WIDTH,
    }


def test_buckets_are_told_by_their_ends():
    age = np.resize([1, 2, 3, 5], REQUESTS)[:, None]
    found = sliced(make_batch(user_age=age), "age")["age"]
    assert [g["group"] for g in found] == ["< 18", "18 to < 25", ">= 35", "missing"]
    position = np.resize(np.arange(2, 10), (REQUESTS, WIDTH))
    batch = make_batch(candidate_position=position)
    found = sliced(batch, "position")["position"]
    assert [group["group"] for group in found] == list("01234567")


def test_many_buckets_are_taken_together():
    schema = Schema(
        name="wide",
        features=(
            Categorical("item_id", "item", dtype="int64"),
            Bucketized("seconds", "context", log2=True, dtype="int64"),
            Numeric("age", "user"),
            Categorical("age", "candidate", vocabulary="ages"),
        ),
    )
    ids = np.resize(np.arange(2, 42), REQUESTS)[:, None]
    found = sliced(
        make_batch(context_seconds=ids),
        "seconds",
        schema=schema,
        vocabularies=random_vocabularies(schema, 5),
    )["seconds"]
    assert len(found) == 5
    assert found[0]["group"] == "0 to 1 … 128 to 255"
    assert sum(group["samples"] for group in found) == REQUESTS
    with pytest.raises(UserError, match="write `user_age` or `candidate_age`"):
        find_slicings(schema, ["age"])
    assert find_slicings(schema, ["user_age"])[0].key == "user_age"


def test_history_length_and_computed_features():
    hour = np.resize(np.arange(2, 26), REQUESTS)[:, None]
    batch = make_batch(context_hour=hour)
    found = sliced(batch, "history_length", "hour")
    steps = [group["group"] for group in found["history_length"]]
    assert steps == ["0", "1-4", "5-19", "20-49"]
    few = (batch.history_length >= 1) & (batch.history_length <= 4)
    assert found["history_length"][1]["samples"] == few.sum()
    assert [group["group"] for group in found["hour"]] == list(map(str, range(24)))


def test_what_is_not_defined_is_absent_and_said():
    category = np.full((REQUESTS, WIDTH), 2)
    batch = make_batch(candidate_category=category)
    batch.labels[7], category[7] = 0, 3
    found = sliced(batch, "category")
    value = VOCABULARIES.values("category")[1]
    whole, clickless = found["category"]
    assert clickless["group"] == value and clickless["clicks"] == 0
    assert not {"auc", "gauc_user", "calibration"} & clickless.keys()
    assert clickless["log_loss"]["low"] is None  # one user has no interval
    assert {"auc", "gauc_user", "calibration", "log_loss"} <= whole.keys()
    assert f"1 groups lack a metric: category {value}" in undefined(found)
    ((name, (head, *rows)),) = tables(found)
    assert name == head[0] == "category"
    assert rows[1][0] == value and rows[1].count("–") == 3


def test_a_large_split_has_no_intervals(monkeypatch, caplog):
    batch = make_batch(user_age=np.full((REQUESTS, 1), 3))
    monkeypatch.setattr(bootstrap, "MAX_CANDIDATES", 100)
    with caplog.at_level("INFO"):
        (group,) = sliced(batch, "age")["age"]
    assert "without intervals: the split has" in caplog.text
    assert group["auc"]["low"] is None and group["auc"]["value"] > 0.5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("categry", "feature to slice by 'categry'. Did you mean 'category'?"),
        ("action", "one of behaviors alone. Received: action"),
        ("title", "A text has no values to slice by. Received: title"),
    ],
)
def test_what_nothing_can_be_sliced_by(name, message):
    with pytest.raises(UserError, match=message):
        find_slicings(make_schema(texts=True), ["age", name])
