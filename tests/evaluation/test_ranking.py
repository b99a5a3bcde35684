import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from ctr_tf.evaluation.ranking import slate_metrics


def one(labels, scores, ks=(1, 3)):
    """Metrics of one slate, with padding that must not count."""
    labels, scores = np.asarray(labels), np.asarray(scores, float)
    mask = np.arange(len(labels) + 2) < len(labels)
    labels = np.concatenate([labels, [1, 1]])
    scores = np.concatenate([scores, [9, 0.5]])
    result = slate_metrics(labels[None], scores[None], mask[None], ks)
    return {name: value[0] for name, value in result.items()}


def by_hand(labels, scores, k):
    """The mean over every order that the scores allow, one order after the other."""
    found = []
    for order in itertools.permutations(range(len(labels))):
        if any(scores[a] < scores[b] for a, b in itertools.pairwise(order)):
            continue
        y = [labels[i] for i in order]
        ranks = [rank for rank, label in enumerate(y, 1) if label]
        gain = sum(1 / np.log2(rank + 1) for rank in ranks if rank <= k)
        best = sum(1 / np.log2(i + 2) for i in range(min(k, len(ranks))))
        precision = [hits / rank for hits, rank in enumerate(ranks, 1)]
        found.append((gain / best, np.mean(precision), 1 / ranks[0]))
    return np.mean(found, axis=0)


@settings(max_examples=150, deadline=None)
@given(
    slate=st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=2, max_size=6),
    k=st.integers(1, 7),
)
def test_expected_over_all_orders_of_ties(slate, k):
    labels, scores = zip(*slate, strict=True)
    if len(set(labels)) < 2:
        return
    result = one(np.array(labels, int), scores, ks=(k,))
    ndcg, precision, reciprocal = by_hand(labels, scores, k)
    assert result[f"ndcg@{k}"] == pytest.approx(ndcg)
    assert result["map"] == pytest.approx(precision)
    assert result["mrr"] == pytest.approx(reciprocal)
    assert result["auc"] == pytest.approx(sk.roc_auc_score(labels, scores))


@pytest.mark.parametrize("ties", [4, 1 << 50])
def test_agrees_with_scikit_learn(ties):
    rng = np.random.default_rng(ties)
    labels = (rng.random((200, 30)) < 0.2).astype(int)
    labels[:, :2] = 0, 1
    scores = rng.integers(0, ties, labels.shape) / ties
    result = slate_metrics(labels, scores, np.ones(labels.shape, bool), (5, 10))
    for k in (5, 10):
        expected = [
            sk.ndcg_score(y[None], p[None], k=k)
            for y, p in zip(labels, scores, strict=True)
        ]
        np.testing.assert_allclose(result[f"ndcg@{k}"], expected)
    if ties > 4:  # scikit-learn gives a tie one precision, not its expected value
        expected = [
            sk.average_precision_score(y, p)
            for y, p in zip(labels, scores, strict=True)
        ]
        np.testing.assert_allclose(result["map"], expected)
        expected = sk.label_ranking_average_precision_score(labels, scores)
        assert result["map"].mean() == pytest.approx(expected)


def test_the_order_of_candidates_does_not_matter():
    rng = np.random.default_rng(0)
    labels = np.array([0, 1, 0, 1, 1, 0, 0])
    scores = np.array([0.3, 0.3, 0.3, 0.2, 0.1, 0.2, 0.1])
    order = rng.permutation(7)
    first, second = one(labels, scores), one(labels[order], scores[order])
    assert first == pytest.approx(second)


def test_a_hand_computed_slate():
    result = one([0, 1, 0, 1], [0.9, 0.8, 0.7, 0.1])
    assert result["mrr"] == 0.5
    assert result["map"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert result["ndcg@1"] == 0
    assert result["ndcg@3"] == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)))
    assert result["auc"] == pytest.approx(1 / 4)
