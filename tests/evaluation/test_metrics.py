import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from ctr_tf.evaluation.metrics import Metrics, hash_ids


def make_slates(seed, requests=300, width=8, users=20, ties=5, ctr=0.3):
    """Random slates of 1 … width candidates; scores take few values, so tie a lot."""
    rng = np.random.default_rng(seed)
    size = rng.integers(1, width + 1, requests)
    return {
        "labels": (rng.random((requests, width)) < ctr).astype(np.float32),
        "probabilities": rng.integers(1, ties + 1, (requests, width)) / (ties + 2),
        "mask": np.arange(width) < size[:, None],
        "request_ids": [f"r{i}" for i in range(requests)],
        "user_ids": rng.integers(0, users, requests).astype(str).astype(object),
        "slices": {"hour": rng.integers(0, 24, requests)},
    }


def cut(slates, start, stop):
    return {
        key: {k: v[start:stop] for k, v in value.items()}
        if key == "slices"
        else value[start:stop]
        for key, value in slates.items()
    }


def evaluate(slates, batch=32, **options):
    metrics = Metrics({"hour": 24}, **options)
    for start in range(0, len(slates["labels"]), batch):
        metrics.update(**cut(slates, start, start + batch))
    return metrics.result()


def flat(slates, rows=slice(None)):
    mask = slates["mask"][rows]
    return slates["labels"][rows][mask], slates["probabilities"][rows][mask]


def mean_auc(slates, groups, plain=False):
    """Impression-weighted mean AUC, one group after the other; and groups left out."""
    total, weight, left_out = 0.0, 0, 0
    for rows in groups:
        y, p = flat(slates, rows)
        if len(y) == 0:
            continue
        if 0 < y.sum() < len(y):
            total += sk.roc_auc_score(y, p) * (1 if plain else len(y))
            weight += 1 if plain else len(y)
        else:
            left_out += 1
    return (total / weight if weight else None), left_out


def same(a, b, tolerance=1e-12):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
    return a == b


@pytest.mark.parametrize("ties", [1, 3, 1_000_000])
@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_scikit_learn(seed, ties):
    slates = make_slates(seed, ties=ties)
    result = evaluate(slates)
    y, p = flat(slates)
    assert result["auc"] == pytest.approx(sk.roc_auc_score(y, p), abs=1e-12)
    assert result["log_loss"] == pytest.approx(sk.log_loss(y, p), abs=1e-12)
    assert result["candidates"] == len(y)
    assert result["clicks"] == y.sum()
    users = [np.flatnonzero(slates["user_ids"] == str(u)) for u in range(20)]
    gauc, left_out = mean_auc(slates, users)
    assert result["gauc_user"] == pytest.approx(gauc, abs=1e-12)
    assert result["left_out"]["users"] == left_out
    gauc, _ = mean_auc(slates, users, plain=True)
    assert result["gauc_user_plain"] == pytest.approx(gauc, abs=1e-12)
    gauc, left_out = mean_auc(slates, [[i] for i in range(len(slates["labels"]))])
    assert result["gauc_request"] == pytest.approx(gauc, abs=1e-12)
    assert result["left_out"]["requests"] == left_out
    requests = [[i] for i in range(len(slates["labels"]))]
    gauc, _ = mean_auc(slates, requests, plain=True)
    assert result["gauc_request_plain"] == pytest.approx(gauc, abs=1e-12)


def test_slices_agree_with_scikit_learn():
    slates = make_slates(3, requests=2_000)
    result = evaluate(slates)["slices"]["hour"]
    for hour in range(24):
        rows = np.flatnonzero(slates["slices"]["hour"] == hour)
        y, p = flat(slates, rows)
        part = result[hour]
        assert part["samples"] == len(rows)
        assert part["auc"] == pytest.approx(sk.roc_auc_score(y, p), abs=1e-12)
        assert part["log_loss"] == pytest.approx(sk.log_loss(y, p), abs=1e-12)
        users = [rows[slates["user_ids"][rows] == str(u)] for u in range(20)]
        assert part["gauc_user"] == pytest.approx(mean_auc(slates, users)[0], abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    requests=st.integers(1, 60),
    ties=st.integers(1, 4),
    memory_rows=st.integers(1, 50),
    batch=st.integers(1, 20),
    ctr=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)
def test_spilling_changes_nothing(seed, requests, ties, memory_rows, batch, ctr):
    slates = make_slates(seed, requests, ties=ties, ctr=ctr)
    kept = evaluate(slates, batch=requests)
    spilled = evaluate(slates, batch=batch, memory_rows=memory_rows)
    assert same(kept, spilled)
    for name in ("auc", "candidates", "users", "left_out"):
        assert kept[name] == spilled[name]
    y, p = flat(slates)
    if 0 < y.sum() < len(y):
        assert spilled["auc"] == pytest.approx(sk.roc_auc_score(y, p), abs=1e-12)
    else:
        assert spilled["auc"] is None


def test_a_spill_goes_where_it_is_told_and_leaves_nothing(tmp_path):
    metrics = Metrics({"hour": 24}, memory_rows=10, folder=tmp_path)
    metrics.update(**make_slates(0))
    assert len(list(tmp_path.iterdir())) == 2
    metrics.result()
    del metrics
    assert not list(tmp_path.iterdir())


def test_a_result_in_between_changes_nothing():
    slates = make_slates(0)
    metrics = Metrics({"hour": 24}, memory_rows=100)
    metrics.update(**cut(slates, 0, 150))
    assert same(metrics.result(), evaluate(cut(slates, 0, 150)))
    metrics.update(**cut(slates, 150, 300))
    assert same(metrics.result(), evaluate(slates))


def test_users_far_apart_in_the_stream_are_one_user():
    slates = make_slates(0, users=3)
    shuffled = np.argsort(slates["user_ids"], kind="stable")
    together = {
        key: {k: v[shuffled] for k, v in value.items()}
        if key == "slices"
        else np.asarray(value)[shuffled]
        for key, value in slates.items()
    }
    assert evaluate(slates)["gauc_user"] == pytest.approx(
        evaluate(together)["gauc_user"]
    )
    assert evaluate(slates)["users"] == 3


def test_planted_perfect_inverted_and_constant_scores():
    slates = make_slates(0)
    for scores, auc in (
        (slates["labels"] * 0.8 + 0.1, 1.0),
        (0.9 - slates["labels"] * 0.8, 0.0),
        (np.full_like(slates["labels"], 0.3), 0.5),
    ):
        result = evaluate(slates | {"probabilities": scores})
        for name in ("auc", "gauc_user", "gauc_request"):
            assert result[name] == pytest.approx(auc)
        if auc == 1.0:
            for name in ("map", "mrr", "ndcg@5", "ndcg@10"):
                assert result[name] == pytest.approx(1.0)


def test_shuffled_labels_give_one_half():
    rng = np.random.default_rng(0)
    slates = make_slates(0, requests=20_000, ties=1_000)
    labels = slates["labels"].copy()
    labels[slates["mask"]] = rng.permutation(labels[slates["mask"]])
    result = evaluate(slates | {"labels": labels}, batch=5_000)
    for name in ("auc", "gauc_user", "gauc_request"):
        assert result[name] == pytest.approx(0.5, abs=0.01)


def test_calibration():
    rng = np.random.default_rng(0)
    truth = rng.beta(1, 9, (40_000, 5))
    slates = {
        "labels": rng.random(truth.shape) < truth,
        "probabilities": truth,
        "mask": np.ones(truth.shape, bool),
        "request_ids": range(40_000),
        "user_ids": range(40_000),
        "slices": {"hour": np.zeros(40_000, int)},
    }
    good = evaluate(slates, batch=10_000)["calibration"]
    assert good["ratio"] == pytest.approx(1, abs=0.02)
    assert good["ece"] < 0.004
    assert len(good["bins"]) == 20
    assert {b["candidates"] for b in good["bins"]} == {10_000}
    twice = slates | {"probabilities": np.minimum(truth * 2, 1)}
    bad = evaluate(twice, batch=10_000)["calibration"]
    order = np.sort(twice["probabilities"].ravel()).reshape(20, -1).mean(1)
    by_score = np.argsort(twice["probabilities"].ravel(), kind="stable")
    observed = slates["labels"].ravel()[by_score].reshape(20, -1).mean(1)
    assert bad["ece"] == pytest.approx(np.abs(order - observed).mean(), abs=1e-4)
    assert bad["ratio"] > 1.9


def test_roc_has_the_area_of_the_auc():
    result = evaluate(make_slates(0, requests=3_000, ties=100_000), batch=1_000)
    roc = result["roc"]
    area = np.trapezoid if hasattr(np, "trapezoid") else np.trapz
    found = area(roc["true_positive_rate"], roc["false_positive_rate"])
    assert found == pytest.approx(result["auc"], abs=1e-3)


def test_histogram_counts_every_candidate():
    slates = make_slates(0)
    slates["probabilities"][0, 0], slates["probabilities"][1, 0] = 0.0, 1.0
    histogram = evaluate(slates)["histogram"]
    y, _ = flat(slates)
    assert sum(histogram["click"]) == y.sum()
    assert sum(histogram["no_click"]) == len(y) - y.sum()
    assert len(histogram["edges"]) == len(histogram["click"]) + 1


def test_one_class_requests_are_counted():
    slates = {
        "labels": np.array([[0, 0], [1, 1], [1, 0], [1, 7]]),
        "probabilities": np.array([[0.1, 0.2], [0.3, 0.4], [0.6, 0.5], [0.5, np.nan]]),
        "mask": np.array([[1, 1], [1, 1], [1, 1], [1, 0]], bool),
        "request_ids": [b"a", b"b", b"c", b"d"],
        "user_ids": [1, 2, 3, 3],
        "slices": {"hour": np.array([0, 1, 2, 2])},
    }
    result = evaluate(slates)
    assert result["left_out"] == {
        "users": 2,
        "requests": 3,
        "requests_no_click": 1,
        "requests_all_clicks": 2,
    }
    assert result["samples"] == 4
    assert result["candidates"] == 7
    assert result["gauc_request"] == 1.0
    assert result["slices"]["hour"][0]["auc"] is None
    assert result["slices"]["hour"][5]["log_loss"] is None


def test_no_candidates_at_all():
    result = evaluate(cut(make_slates(0), 0, 0))
    assert result["samples"] == 0
    assert result["auc"] is None
    assert result["map"] is None


def test_a_score_that_is_none_is_named():
    slates = make_slates(0, requests=10)
    slates["mask"][:] = True
    slates["probabilities"][3, 2] = np.nan
    slates["probabilities"][7, 0] = 1.5
    with pytest.raises(ValueError) as error:
        evaluate(slates)
    assert str(error.value) == (
        "2 of 80 probabilities of a batch are not from 0 to 1; the first is of request "
        "'r3', candidate 2. Received: nan"
    )


def test_a_label_that_is_none_is_named():
    slates = make_slates(0, requests=10)
    slates["labels"][0, 0] = 2
    with pytest.raises(ValueError, match="labels .* not 0 or 1; .*'r0'.*Received: 2"):
        evaluate(slates)


def test_slices_must_be_those_announced():
    slates = make_slates(0) | {"slices": {"day": np.zeros(300, int)}}
    with pytest.raises(ValueError, match=r"\['hour'\]. Received: \['day'\]"):
        evaluate(slates)


def test_hashes_are_equal_for_equal_ids():
    assert (hash_ids(["a7", b"a7"])[0] == hash_ids(["a7", b"a7"])[1]).all()
    assert hash_ids([7]) == hash_ids(["7"])
    assert len(set(hash_ids(range(10_000)).tolist())) == 10_000
