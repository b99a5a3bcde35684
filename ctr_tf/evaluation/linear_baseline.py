"""*Logistic regression* on the same features as the models.

Ids are one-hot and the history a bag of items. The penalty is the one that does best
on the validation split.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError
from ctr_tf.evaluation.baseline_data import arrays, click_rate, labeled_batches
from ctr_tf.evaluation.logistic_regression import BatchStore, LogisticRegression
from ctr_tf.evaluation.metrics import Metrics
from ctr_tf.evaluation.predictions import sigmoid
from ctr_tf.evaluation.sparse_features import SparseBatch, SparseFeatures

_log = logging.getLogger(__name__)
_L2 = (3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6)


class LinearBaseline:
    """A fitted logistic regression as a function of a batch's inputs.

    Args:
        model: the regression.
        features: how batches become its rows.
    """

    def __init__(self, model: LogisticRegression, features: SparseFeatures):
        self._model = model
        self._features = features

    def __call__(self, inputs: Mapping) -> np.ndarray:
        """Probabilities `[B, C]`."""
        inputs = arrays(inputs)
        mask = inputs["candidate_mask"]
        batch = self._features.batch(inputs, np.zeros(mask.shape))
        result = np.zeros(mask.shape)
        result[mask] = sigmoid(self._model.logits(batch))
        return result


def fit_logistic_regression(
    data: PreparedData,
    folder: str | Path | None = None,
    label: str | None = None,
    most: int | None = None,
) -> LinearBaseline:
    """Trains from a strong penalty to a weak one, as long as validation gains.

    Args:
        data: the data set.
        folder: where temporary files go.
        label: of the schema; its first one where None.
        most: samples that it is fitted on, and that choose the penalty, spread evenly
            over their splits; None: all of them.

    Raises:
        UserError: if one of the two lacks clicks, or has nothing but clicks.
    """
    features = SparseFeatures(data.schema, data.vocabularies.table_sizes(data.schema))
    stores = []
    for split in ("train", "validation"):
        if label in (None, data.schema.labels[0]):
            click_rate(data, split)  # which says at once that there is nothing to fit
        samples = max(data.num_samples(split), 1)
        share = min(1.0, (most or samples) / samples)
        batches = sparse_batches(data, split, features, label, share)
        store = BatchStore(batches, folder)
        if store.clicks in (0, store.candidates):
            raise UserError(
                f"What is read of the {split} split must have both clicks and "
                f"candidates without. Received: {store.clicks:,} clicks of "
                f"{store.candidates:,}"
            )
        stores.append(store)
    train, validation = stores
    model = LogisticRegression(features.is_number, features.num_request_columns)
    model.prepare(train)
    best_auc, best, worse = -1.0, (model.weights, model.intercept), 0
    for l2 in _L2:
        passes = model.fit(train, l2)
        auc = auc_of(model, validation)
        _log.info(
            "logistic regression, l2 %g: %d passes, validation AUC %.4f",
            l2, passes, auc,
        )  # fmt: skip
        if auc > best_auc:
            best_auc, best, worse = auc, (model.weights, model.intercept), 0
        else:
            worse += 1
        if worse == 2:
            break
    model.weights, model.intercept = best
    return LinearBaseline(model, features)


def auc_of(model: LogisticRegression, batches: BatchStore) -> float:
    """AUC of a regression on batches that have both classes."""
    metrics = Metrics()
    for batch in batches:
        count = len(batch.labels)
        scores = sigmoid(model.logits(batch))
        metrics.update(
            batch.labels[:, None], scores[:, None], np.ones((count, 1), bool),
            range(count), [""] * count,
        )  # fmt: skip
    return metrics.result()["auc"]


def sparse_batches(
    data: PreparedData,
    split: str,
    features: SparseFeatures,
    label: str | None = None,
    share: float = 1.0,
) -> Iterator[SparseBatch]:
    """A split, or a share of it, as sparse matrices."""
    for inputs, labels, _ in labeled_batches(data, split, label=label, share=share):
        yield features.batch(inputs, labels)
