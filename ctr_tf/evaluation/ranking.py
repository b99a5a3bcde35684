"""Metrics of one slate at a time: AUC, NDCG@K, average precision, reciprocal rank.

Candidates with equal scores have no order of their own. Each metric here is its
expected value when ties are broken at random, in closed form (McSherry and Najork,
"Computing information retrieval performance measures efficiently in the presence of
tied scores", ECIR 2008): deterministic, fair, and not moved by the order of the input.

Shapes: `R` requests, `C` candidates.
"""

from collections.abc import Sequence

import numpy as np


def slate_metrics(
    labels: np.ndarray, scores: np.ndarray, mask: np.ndarray, ks: Sequence[int]
) -> dict[str, np.ndarray]:
    """Metrics of every slate; each slate must have both classes.

    Args:
        labels: `[R, C]`, 0 or 1.
        scores: `[R, C]`, finite.
        mask: `[R, C]` bool, False on padding.
        ks: the K of NDCG@K.

    Returns:
        `auc`, `map` (average precision), `mrr` (reciprocal rank of the first click) and
        `ndcg@K` for each K, all float64 `[R]`.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.evaluation import slate_metrics
        >>> labels, scores = np.array([[1, 0, 0]]), np.array([[0.3, 0.7, 0.1]])
        >>> found = slate_metrics(labels, scores, np.ones((1, 3), bool), ks=(5,))
        >>> {name: round(float(value[0]), 3) for name, value in found.items()}
        {'auc': 0.5, 'map': 0.5, 'mrr': 0.5, 'ndcg@5': 0.631}
    """
    order = np.argsort(np.where(mask, -scores, np.inf), axis=1, kind="stable")
    mask = np.take_along_axis(mask, order, 1)
    clicked = np.take_along_axis(labels > 0, order, 1) & mask
    score = np.where(mask, np.take_along_axis(scores, order, 1), np.inf)
    ties = _Ties(score, clicked)
    clicks = clicked.sum(1)
    others = mask.sum(1) - clicks
    result = {
        "auc": _auc(ties, clicked, clicks, others),
        "map": np.where(mask, ties.expected_precision(), 0).sum(1) / clicks,
        "mrr": np.where(mask, ties.expected_reciprocal_rank(), 0).sum(1),
    }
    width = labels.shape[1]
    discount = 1 / np.log2(np.arange(width) + 2)
    for k in ks:
        top = np.where(np.arange(width) < k, discount, 0)
        best = np.cumsum(top)[np.minimum(clicks, width) - 1]
        result[f"ndcg@{k}"] = (ties.share * mask * top).sum(1) / best
    return result


class _Ties:
    """For each place of sorted slates, `[R, C]`, the tie that the place belongs to.

    Attributes:
        before: places before the tie.
        size: places in the tie.
        clicks: clicks in the tie.
        clicks_before: clicks before the tie.
        share: clicks in the tie / its size, a place's expected click.
    """

    def __init__(self, score: np.ndarray, clicked: np.ndarray):
        rows, width = score.shape
        self.place = np.arange(width)
        edge = np.ones((rows, width + 1), bool)
        edge[:, 1:-1] = score[:, 1:] != score[:, :-1]
        self.before = np.maximum.accumulate(np.where(edge[:, :-1], self.place, 0), 1)
        last = np.where(edge[:, 1:], self.place, width - 1)
        last = np.minimum.accumulate(last[:, ::-1], 1)[:, ::-1]
        self.size = last - self.before + 1
        upto = np.zeros((rows, width + 1), np.int64)
        np.cumsum(clicked, axis=1, out=upto[:, 1:])
        self.clicks_before = np.take_along_axis(upto, self.before, 1)
        self.clicks = np.take_along_axis(upto, last + 1, 1) - self.clicks_before
        self.share = self.clicks / self.size

    def expected_precision(self) -> np.ndarray:
        """E[click at the place × precision up to it]."""
        earlier = self.place - self.before
        others = (self.clicks - 1) / np.maximum(self.size - 1, 1)
        found = self.clicks_before + 1 + earlier * others
        return self.share * found / (self.place + 1)

    def expected_reciprocal_rank(self) -> np.ndarray:
        """P(the first click is at the place) / rank of the place."""
        first = (self.clicks_before == 0) & (self.clicks > 0)
        left = self.size - (self.place - self.before)
        hit = np.where(first, np.minimum(self.clicks / left, 1), 0)
        missed = np.ones_like(hit)
        np.cumprod(1 - hit[:, :-1], axis=1, out=missed[:, 1:])
        return missed * hit / (self.place + 1)


def _auc(
    ties: _Ties, clicked: np.ndarray, clicks: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Pairs won: a click wins against what lies below its tie, half of its tie."""
    others_before = ties.before - ties.clicks_before
    others_in = ties.size - ties.clicks
    won_twice = 2 * (others[:, None] - others_before - others_in) + others_in
    return np.where(clicked, won_twice, 0).sum(1) / (2 * clicks * others)
