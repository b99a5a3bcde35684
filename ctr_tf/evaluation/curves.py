"""Binned views of the scores: reliability and ROC by rank, histogram by logit."""

import numpy as np

from ctr_tf.evaluation.pairs import dense_rank

_FINE = 1_000
_COARSE = 20
_LOGIT_LIMIT = 14.0
_LOGIT_BINS = 280


class QuantileBins:
    """Cuts a stream of ascending scores into bins of equal size; a tie stays whole.

    Args:
        total: candidates that will come.
    """

    def __init__(self, total: int):
        self._total = total
        self._seen = 0
        self._tie = (None, 0)  # the last score, and the place where its tie began
        self._count = np.zeros(_FINE, np.int64)
        self._clicks = np.zeros(_FINE, np.int64)
        self._predicted = np.zeros(_FINE)

    def add(self, score: np.ndarray, label: np.ndarray) -> None:
        """Adds a block of scores, ascending, none below an earlier block's."""
        if len(score) == 0:
            return
        rank = dense_rank(score)
        size = np.bincount(rank)
        place = self._seen + np.cumsum(size) - size
        if score[0] == self._tie[0]:
            place[0] = self._tie[1]
        self._tie = (score[-1], place[-1])
        self._seen += len(score)
        fine = (place * _FINE // self._total)[rank]
        self._count += np.bincount(fine, minlength=_FINE)
        self._clicks += np.bincount(fine[label > 0], minlength=_FINE)
        self._predicted += np.bincount(fine, score, _FINE)

    def calibration(self) -> dict:
        """`ece` and `bins` with the mean predicted and the observed CTR of each."""
        count, clicks, predicted = (
            values.reshape(_COARSE, -1).sum(1)
            for values in (self._count, self._clicks, self._predicted)
        )
        error = np.abs(predicted - clicks).sum()
        return {
            "ece": float(error / self._total) if self._total else None,
            "bins": [
                {
                    "candidates": int(count[b]),
                    "predicted": float(predicted[b] / count[b]),
                    "observed": float(clicks[b] / count[b]),
                }
                for b in np.flatnonzero(count)
            ],
        }

    def roc(self) -> dict | None:
        """`false_positive_rate` and `true_positive_rate`, from (0, 0) to (1, 1)."""
        filled = np.flatnonzero(self._count)[::-1]
        true = np.cumsum(self._clicks[filled])
        false = np.cumsum(self._count[filled]) - true
        if len(filled) == 0 or true[-1] == 0 or false[-1] == 0:
            return None
        return {
            "false_positive_rate": [0.0, *(false / false[-1]).tolist()],
            "true_positive_rate": [0.0, *(true / true[-1]).tolist()],
        }


class LogitHistogram:
    """Counts of scores by class in bins of equal width on the logit axis."""

    def __init__(self) -> None:
        self._counts = np.zeros((2, _LOGIT_BINS), np.int64)

    def add(self, probability: np.ndarray, label: np.ndarray) -> None:
        """Adds candidates; what lies beyond the axis goes into the end bins."""
        low = 1 / (1 + np.exp(_LOGIT_LIMIT))
        p = np.clip(probability, low, 1 - low)
        place = (np.log(p / (1 - p)) / _LOGIT_LIMIT + 1) / 2 * _LOGIT_BINS
        place = np.clip(place.astype(np.int64), 0, _LOGIT_BINS - 1)
        for which in (0, 1):
            chosen = place[label == which]
            self._counts[which] += np.bincount(chosen, minlength=_LOGIT_BINS)

    def result(self) -> dict:
        """`edges` (logits) and the counts `no_click` and `click` of each filled bin."""
        filled = np.flatnonzero(self._counts.sum(0))
        if len(filled) == 0:
            return {"edges": [], "no_click": [], "click": []}
        low, high = filled[0], filled[-1] + 1
        edges = np.linspace(-_LOGIT_LIMIT, _LOGIT_LIMIT, _LOGIT_BINS + 1)
        return {
            "edges": edges[low : high + 1].tolist(),
            "no_click": self._counts[0, low:high].tolist(),
            "click": self._counts[1, low:high].tolist(),
        }
