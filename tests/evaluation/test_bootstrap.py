"""The paired bootstrap: against resampled rows, and against what must come out."""

import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ctr_tf.evaluation import bootstrap
from ctr_tf.evaluation.bootstrap import (
    compare_with,
    draw_users,
    holm,
    replicate_all,
    replicate_metrics,
)
from ctr_tf.evaluation.scores import Scores


def make_scores(signal, users=40, seed=0, noise_seed=1):
    random = np.random.default_rng(seed)
    user = np.sort(random.integers(1000, 1000 + users, 600)).astype(np.uint64)
    label = random.integers(0, 2, 600).astype(np.uint8)
    noise = np.random.default_rng(noise_seed).normal(size=600)
    score = np.round(1 / (1 + np.exp(-signal * label - noise)), 2)
    return Scores(user, np.arange(600, dtype=np.uint64), label, score)


def test_replicates_are_metrics_of_resampled_rows():
    scores = make_scores(1.0)
    users = np.unique(scores.user)
    draws = draw_users(len(users), 5)
    assert (draws.sum(1) == len(users)).all()
    found = replicate_metrics(scores, draws)
    for place, weights in enumerate([np.ones(len(users), int), *draws]):
        rows = [np.flatnonzero(scores.user == user) for user in users]
        rows = [part for part, k in zip(rows, weights, strict=True) for _ in range(k)]
        every = np.concatenate(rows)
        expected = roc_auc_score(scores.label[every], scores.score[every])
        assert found["auc"][place] == pytest.approx(expected, abs=1e-12)
        both = [part for part in rows if 0 < scores.label[part].mean() < 1]
        aucs = [roc_auc_score(scores.label[p], scores.score[p]) for p in both]
        expected = np.average(aucs, weights=[len(part) for part in both])
        assert found["gauc_user"][place] == pytest.approx(expected, abs=1e-12)


def test_draws_are_those_of_one_call_and_small():
    draws = draw_users(1_000, 7, seed=3)
    even = np.full(1_000, 1 / 1_000)
    expected = np.random.default_rng(3).multinomial(1_000, even, size=7)
    np.testing.assert_array_equal(draws, expected)
    assert draws.nbytes == 2 * draws.size


@pytest.mark.parametrize("cells", [1, 1_700])
def test_blocks_of_replicates_are_those_of_one_block(monkeypatch, cells):
    scores, draws = make_scores(1.0), draw_users(40, 9)
    whole = replicate_all(scores, draws)
    monkeypatch.setattr(bootstrap, "_CELLS", cells)
    for name, values in replicate_all(scores, draws).items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-12)


def test_memory_is_that_of_the_draws(monkeypatch):
    """Not of copies of them."""
    monkeypatch.setattr(bootstrap, "_CELLS", 1)
    users, drawn = 50_000, 200
    random = np.random.default_rng(0)
    user = np.arange(users, dtype=np.uint64)
    label = (random.random(users) < 0.2).astype(np.uint8)
    scores = Scores(user, user, label, random.random(users))
    tracemalloc.start()
    try:
        replicate_all(scores, draw_users(users, drawn))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * (2 * users * drawn)


def compare(*models):
    draws = draw_users(40, 400)
    metrics = {
        name: [replicate_metrics(scores, draws)["auc"] for scores in seeds]
        for name, seeds in zip("abc", models, strict=False)
    }
    return compare_with("a", metrics)


def test_a_better_model_is_told_from_an_equal_one():
    weak, equal = make_scores(0.5), make_scores(0.5, noise_seed=2)
    better = compare([weak], [make_scores(2.0)], [equal])
    assert better["b"].p < 0.01 and 0 < better["b"].low < better["b"].mean
    assert better["c"].p > 0.05 and better["c"].low < 0 < better["c"].high
    worse = compare([make_scores(2.0)], [weak])["b"]
    assert worse.mean == pytest.approx(-better["b"].mean)
    assert compare([weak], [weak])["b"].p == 1.0


def test_seeds_that_scatter_make_a_difference_doubtful():
    base = [make_scores(1.0)] * 3
    steady = compare(base, [make_scores(1.35)] * 3)["b"]
    scattered = compare(base, [make_scores(s) for s in (0.3, 1.0, 2.75)])["b"]
    assert steady.p < 0.05 < scattered.p
    assert scattered.high - scattered.low > 2 * (steady.high - steady.low)


def test_holm_by_hand():
    corrected = holm({"a": 0.03, "b": 0.01, "c": 0.02})
    assert corrected == pytest.approx({"b": 0.03, "c": 0.04, "a": 0.04})
    assert holm({"a": 0.8, "b": 0.9}) == {"a": 1.0, "b": 1.0}
