"""`ctr-tf baselines`: the two honest lines that a model has to beat.

* *popularity*: the candidate's click-through rate in the last so many hours or days,
  smoothed, from the point-in-time counters alone. The window and the smoothing are
  those that do best on the validation split.
* *logistic regression*: on the same features as the models, ids one-hot and the
  history as a bag of items. The penalty is the one that does best on the validation
  split.

Both are fitted on the train split and measured by `evaluate_predictions`.
"""

import argparse
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ctr_tf.data.config import DataConfig
from ctr_tf.data.dataset import dataset
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError
from ctr_tf.evaluation.evaluate import evaluate_predictions
from ctr_tf.evaluation.logistic_regression import BatchStore, LogisticRegression
from ctr_tf.evaluation.metrics import Metrics
from ctr_tf.evaluation.predictions import predictions, sigmoid
from ctr_tf.evaluation.sparse_features import SparseBatch, SparseFeatures

if TYPE_CHECKING:
    import tensorflow as tf

_log = logging.getLogger(__name__)
_PRIOR_IMPRESSIONS = (1, 10, 100)
_L2 = (3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6)
_BATCH_BEHAVIORS = 1 << 19  # of padded histories held at once


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


class _Linear:
    """A fitted logistic regression as a function of a batch's inputs."""

    def __init__(self, model: LogisticRegression, features: SparseFeatures):
        self._model = model
        self._features = features

    def __call__(self, inputs: Mapping) -> np.ndarray:
        inputs = _arrays(inputs)
        mask = inputs["candidate_mask"]
        batch = self._features.batch(inputs, np.zeros(mask.shape))
        result = np.zeros(mask.shape)
        result[mask] = sigmoid(self._model.logits(batch))
        return result


def evaluate_baselines(
    folder: str | Path, split: str = "test", output: str | Path | None = None
) -> dict[str, dict]:
    """Fits both baselines and measures them.

    Args:
        folder: of the prepared data set.
        split: to measure on.
        output: folder for their reports; `runs/baselines-<data set>` by default.

    Returns:
        Baseline's name → result of `evaluate_predictions`.
    """
    data = PreparedData.load(folder)
    output = Path(output) if output else default_output(folder)
    output.mkdir(parents=True, exist_ok=True)
    features = SparseFeatures(data.schema, data.vocabularies.table_sizes(data.schema))
    train = BatchStore(_sparse(data, "train", features), output)
    _log.info("train: %s candidates, %s clicks", train.candidates, train.clicks)
    if train.clicks in (0, train.candidates):
        raise UserError(
            f"The train split of '{folder}' must have both clicks and candidates "
            f"without. Received: {train.clicks} clicks of {train.candidates}"
        )
    models: dict[str, Callable[[dict], np.ndarray]] = {
        "popularity": fit_popularity(data, train.clicks / train.candidates),
        "logistic_regression": _Linear(
            fit_logistic_regression(data, features, train, output), features
        ),
    }
    return {
        name: evaluate_predictions(
            predictions(_batches(data, split), model),
            output / name,
            name=f"{name.replace('_', ' ')}, {split}",
            zone=data.schema.zone,
            total=data.num_samples(split),
        )
        for name, model in models.items()
    }


def default_output(folder: str | Path) -> Path:
    """Where the reports go if nothing else is said."""
    return Path("runs") / f"baselines-{Path(folder).resolve().name}"


def fit_popularity(data: PreparedData, prior: float) -> Popularity:
    """The window and the smoothing with the best AUC on the validation split.

    Args:
        data: the data set.
        prior: click-through rate of the train split.
    """
    if not data.schema.counter_windows:
        raise UserError(
            f"Popularity needs counters, and schema '{data.schema.name}' has none. "
            "Received: counter_windows=[]"
        )
    choices = [
        Popularity(str(window), prior, impressions)
        for window, impressions in itertools.product(
            data.schema.counter_windows, _PRIOR_IMPRESSIONS
        )
    ]
    measured = [Metrics() for _ in choices]
    for inputs, labels, weights, metadata in _batches(data, "validation"):
        ids = (metadata["request_id"].numpy(), metadata["user_id"].numpy())
        for choice, metrics in zip(choices, measured, strict=True):
            label_BC, mask_BC = labels.numpy()[..., 0], weights.numpy() > 0
            metrics.update(label_BC, choice(inputs), mask_BC, *ids)
    aucs = [metrics.result()["auc"] for metrics in measured]
    _checked(data, aucs[0])
    best = int(np.argmax(aucs))
    for place, (choice, auc) in enumerate(zip(choices, aucs, strict=True)):
        _log.info(
            "popularity of the last %s, %d impressions of prior: validation AUC %.4f%s",
            choice.window, choice.prior_impressions, auc,
            "  (chosen)" if place == best else "",
        )  # fmt: skip
    return choices[best]


def fit_logistic_regression(
    data: PreparedData,
    features: SparseFeatures,
    train: BatchStore,
    folder: str | Path | None = None,
) -> LogisticRegression:
    """Trains from a strong penalty to a weak one, as long as validation gains.

    Args:
        data: the data set.
        features: how its batches become rows.
        train: the train split.
        folder: where temporary files go.
    """
    validation = BatchStore(_sparse(data, "validation", features), folder)
    model = LogisticRegression(features.is_number, features.num_request_columns)
    model.prepare(train)
    best_auc, best, worse = -1.0, (model.weights, model.intercept), 0
    for l2 in _L2:
        passes = model.fit(train, l2)
        auc = _checked(data, _auc(model, validation))
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
    return model


def _auc(model: LogisticRegression, batches: BatchStore) -> float | None:
    metrics = Metrics()
    for batch in batches:
        count = len(batch.labels)
        scores = sigmoid(model.logits(batch))
        metrics.update(
            batch.labels[:, None], scores[:, None], np.ones((count, 1), bool),
            range(count), [""] * count,
        )  # fmt: skip
    return metrics.result()["auc"]


def _checked(data: PreparedData, auc: float | None) -> float:
    if auc is None:
        raise UserError(
            f"The validation split of '{data.folder}' must have both clicks and "
            "candidates without: the baselines are tuned on it."
        )
    return auc


def _batches(data: PreparedData, split: str) -> "tf.data.Dataset":
    longest = data.schema.history_length
    sizes = [size for size in (16, 64, 256, 1_024, 4_096) if size < longest]
    config = DataConfig(
        path=str(data.folder),
        batch_size=int(np.clip(_BATCH_BEHAVIORS // longest, 64, 2_048)),
        history_lengths=(*sizes, longest),
    )
    return dataset(
        data,
        split,
        config,
        num_chunks=data.schema.num_chunks,
        training=False,
        metadata=True,
    )


def _sparse(
    data: PreparedData, split: str, features: SparseFeatures
) -> Iterator[SparseBatch]:
    for inputs, labels, _, _ in _batches(data, split):
        yield features.batch(_arrays(inputs), labels.numpy()[..., 0])


def _arrays(inputs: Mapping) -> dict[str, np.ndarray]:
    return {key: np.asarray(value) for key, value in inputs.items()}


def main(argv: list[str]) -> int:
    """Fits and measures the baselines of a data set."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf baselines",
        description="Item popularity and logistic regression on a prepared data set.",
    )
    parser.add_argument("--data", required=True, help="folder of `ctr-tf prepare`")
    parser.add_argument("--split", default="test", help="default: test")
    parser.add_argument("--output", help="default: runs/baselines-<name of the data>")
    a = parser.parse_args(argv)
    results = evaluate_baselines(a.data, a.split, a.output)
    print(f"{'':<22}{'AUC':>8}{'GAUC':>8}{'log loss':>10}")
    for name, result in results.items():
        gauc = result["gauc_user"]
        print(
            f"{name.replace('_', ' '):<22}{result['auc']:>8.4f}"
            f"{'–' if gauc is None else f'{gauc:.4f}':>8}{result['log_loss']:>10.4f}"
        )
    print(f"{'reports':<22}{a.output or default_output(a.data)}")
    return 0
