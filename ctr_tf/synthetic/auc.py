"""The area under the ROC curve of what is known about a made-up world."""

import numpy as np


def weighted_auc(
    score: np.ndarray, positive: np.ndarray, negative: np.ndarray
) -> float:
    """How likely a positive scores above a negative, ties by half.

    Args:
        score: `[n]`.
        positive: `[n]`, how much of each is positive.
        negative: `[n]`, how much of each is negative.
    """
    _, place = np.unique(score, return_inverse=True)
    positives, negatives = (np.bincount(place, w) for w in (positive, negative))
    wins = np.cumsum(negatives) - negatives / 2
    return float((positives * wins).sum() / (positives.sum() * negatives.sum()))
