"""Metrics that a training keeps from step to step; NaN where one is not defined.

`ctr_tf.evaluation.metrics` has the exact ones of a finished model.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

_REACH = 32.0  # logits beyond are as good as certain
_BINS = 1 << 14  # of 1/256 of a logit each
_SHOWN_BINS = 60  # of a histogram, at most


class LogitAUC(keras.metrics.Metric):
    """AUC of a stream of logits, in bins that are narrow at any click rate.

    Thresholds between 0 and 1, as `keras.metrics.AUC` has them, tell nothing apart
    where all probabilities are near the click rate, and prefer scores that are too
    large. Logits of one bin are tied, and a tie counts one half.
    """

    def __init__(self, name: str = "auc", **kwargs: Any):
        super().__init__(name=name, dtype="float32", **kwargs)
        self.clicked, self.unclicked = (
            self.add_variable((_BINS,), "zeros", "float64", name=part)
            for part in ("clicked", "unclicked")
        )

    def update_state(
        self, labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor
    ) -> None:
        """Adds candidates.

        Args:
            labels: `[…]`, 0 or 1.
            logits: the same shape.
            weights: the same shape, 0 on padding.
        """
        logits = tf.reshape(tf.cast(logits, tf.float32), [-1])
        labels, weights = (
            tf.reshape(tf.cast(values, tf.float64), [-1])
            for values in (labels, weights)
        )
        scaled = (logits + _REACH) * (_BINS / (2 * _REACH))
        number = tf.cast(tf.clip_by_value(scaled, 0, _BINS - 1), tf.int32)
        for total, share in ((self.clicked, labels), (self.unclicked, 1 - labels)):
            total.assign_add(
                tf.math.unsorted_segment_sum(weights * share, number, _BINS)
            )

    def histograms(self) -> dict[str, np.ndarray]:
        """The logits so far by class, as TensorBoard takes histograms.

        Returns:
            `clicked` and `not_clicked`: `[K, 3]`, the ends of a bin and how many are
            in it, over the same range for both; `[0, 3]` where there is nothing.
        """
        totals = [np.array(tf.convert_to_tensor(t)) for t in self._totals]
        both = np.flatnonzero(totals[0] + totals[1])
        if not len(both):
            return dict.fromkeys(("clicked", "not_clicked"), np.zeros((0, 3)))
        width = -(-(both[-1] + 1 - both[0]) // _SHOWN_BINS)
        starts = np.arange(both[0], both[-1] + 1, width)
        edges = np.append(starts, starts[-1] + width) * (2 * _REACH / _BINS) - _REACH
        return {
            name: np.stack(
                [edges[:-1], edges[1:], np.add.reduceat(t[: both[-1] + 1], starts)], 1
            )
            for name, t in zip(("clicked", "not_clicked"), totals, strict=True)
        }

    @property
    def _totals(self) -> tuple[keras.Variable, keras.Variable]:
        return self.clicked, self.unclicked

    def result(self) -> tf.Tensor:
        """The AUC so far; NaN without clicks, or without others."""
        clicked, unclicked = (tf.convert_to_tensor(total) for total in self._totals)
        below = tf.cumsum(unclicked, exclusive=True) + unclicked / 2
        pairs = tf.reduce_sum(clicked) * tf.reduce_sum(unclicked)
        won = tf.reduce_sum(clicked * below)
        nan = tf.constant(float("nan"), tf.float64)
        return tf.cast(tf.where(pairs > 0, won / tf.maximum(pairs, 1), nan), tf.float32)


class DefinedMean(keras.metrics.Mean):
    """A weighted mean; NaN where nothing had any weight."""

    def result(self) -> tf.Tensor:
        """The mean so far."""
        count = tf.convert_to_tensor(self.count)
        nan = tf.constant(float("nan"), count.dtype)
        return tf.where(count > 0, tf.math.divide_no_nan(self.total, count), nan)


def request_auc(
    labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The AUC of each request's slate, and its weight in the mean over requests.

    Args:
        labels: `[B, C]`, 0 or 1.
        logits: `[B, C]`.
        weights: `[B, C]`, 0 on padding.

    Returns:
        AUC `[B]`, ties counted half, and weight `[B]`: the number of real candidates,
        or 0 where the slate lacks clicked or unclicked ones.
    """
    real = weights > 0
    count_B = tf.reduce_sum(tf.cast(real, tf.float32), -1)
    logits = tf.where(real, tf.cast(logits, tf.float32), tf.float32.min)
    ordered = tf.sort(logits)
    below = tf.searchsorted(ordered, logits, "left")
    not_above = tf.searchsorted(ordered, logits, "right")
    padding_B1 = tf.cast(tf.shape(labels)[1], tf.float32) - count_B[:, None]
    rank = tf.cast(below + not_above + 1, tf.float32) / 2 - padding_B1
    clicked = tf.cast(real & (labels > 0.5), tf.float32)
    clicks_B = tf.reduce_sum(clicked, -1)
    pairs_B = clicks_B * (count_B - clicks_B)
    wins_B = tf.reduce_sum(rank * clicked, -1) - clicks_B * (clicks_B + 1) / 2
    return tf.math.divide_no_nan(wins_B, pairs_B), tf.where(pairs_B > 0, count_B, 0)
