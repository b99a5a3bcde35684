"""*Popularity*: the candidate's click-through rate in the last hours or days."""

import itertools
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError
from ctr_tf.evaluation.baseline_data import click_rate, labeled_batches
from ctr_tf.evaluation.metrics import Metrics

_log = logging.getLogger(__name__)
_PRIOR_IMPRESSIONS = (1, 10, 100)


class Popularity:
    """A candidate's smoothed click-through rate in one window.

    Args:
        window: one of the schema's.
        prior: click-through rate of a candidate without impressions.
        prior_impressions: how many impressions the prior counts for.
    """

    def __init__(self, window: str, prior: float, prior_impressions: float):
        self.window = window
        self.prior = prior
        self.prior_impressions = prior_impressions

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Probabilities `[B, C]`."""
        clicks, impressions = (
            np.rint(np.expm1(np.asarray(inputs[key], np.float64)))
            for key in (
                f"candidate_clicks_{self.window}",
                f"candidate_impressions_{self.window}",
            )
        )
        # A click may come later than its window's impression: more clicks than
        # impressions are possible, a rate above 1 is not.
        rate = clicks + self.prior_impressions * self.prior
        return np.minimum(rate / (impressions + self.prior_impressions), 1)


def fit_popularity(data: PreparedData, folder: str | Path | None = None) -> Popularity:
    """The window and the smoothing with the best AUC on the validation split.

    Args:
        data: the data set; the click-through rate of its train split is the prior.
        folder: where temporary files go.
    """
    if not data.schema.counter_windows:
        raise UserError(
            f"Popularity needs counters, and schema '{data.schema.name}' has none. "
            "Received: counter_windows=[]"
        )
    prior = click_rate(data, "train")
    click_rate(data, "validation")
    choices = [
        Popularity(str(window), prior, impressions)
        for window, impressions in itertools.product(
            data.schema.counter_windows, _PRIOR_IMPRESSIONS
        )
    ]
    measured = [Metrics(folder=folder) for _ in choices]
    for inputs, labels, metadata in labeled_batches(data, "validation", history=False):
        ids = (metadata["request_id"], metadata["user_id"])
        for choice, metrics in zip(choices, measured, strict=True):
            metrics.update(labels, choice(inputs), inputs["candidate_mask"], *ids)
    aucs = [metrics.result()["auc"] for metrics in measured]
    best = int(np.argmax(aucs))
    for place, (choice, auc) in enumerate(zip(choices, aucs, strict=True)):
        _log.info(
            "popularity of the last %s, %d impressions of prior: validation AUC %.4f%s",
            choice.window, choice.prior_impressions, auc,
            "  (chosen)" if place == best else "",
        )  # fmt: skip
    return choices[best]
