"""*Gradient-boosted trees* (LightGBM) on user, context and candidate, without history.

Trees are added as long as the AUC on the validation split gains.

Memory is bounded: rows lie on disk while LightGBM makes bins of them, one byte a value,
and of a split with more than `MAX_ROWS` candidates requests are drawn.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import lightgbm
import numpy as np

from ctr_tf.data.prepared import PreparedData
from ctr_tf.evaluation.baseline_data import arrays, click_rate, labeled_batches
from ctr_tf.evaluation.dense_features import FOLDS, DenseFeatures
from ctr_tf.evaluation.metrics import hash_ids
from ctr_tf.evaluation.stored_rows import StoredRows

MAX_ROWS = 10_000_000
_ROWS_OF_A_THREAD = 100_000
_MAX_TREES = 2_000
_PATIENCE = 50  # trees without a gain
_SECONDS_BETWEEN_LINES = 10
_OPTIONS = {
    "objective": "binary",
    "metric": "auc",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "seed": 0,
    "deterministic": True,
    "force_row_wise": True,  # else a timing decides, and sums differ in the last bit
    "verbosity": -1,
}

_log = logging.getLogger(__name__)


class BoostedTrees:
    """Fitted trees as a function of a batch's inputs.

    Args:
        trees: LightGBM's.
        features: how batches become their rows.
    """

    def __init__(self, trees: lightgbm.Booster, features: DenseFeatures):
        self._trees = trees
        self._features = features

    def __call__(self, inputs: Mapping) -> np.ndarray:
        """Probabilities `[B, C]`."""
        inputs = arrays(inputs)
        mask = inputs["candidate_mask"]
        result = np.zeros(mask.shape)
        if mask.any():
            result[mask] = self._trees.predict(
                self._features.rows(inputs), num_threads=1
            )
        return result


def fit_boosted_trees(
    data: PreparedData, folder: str | Path | None = None
) -> BoostedTrees:
    """Fits trees on the train split, as many as do best on the validation split.

    Args:
        data: the data set.
        folder: where temporary files go.
    """
    rate = click_rate(data, "train")
    click_rate(data, "validation")
    sizes = data.vocabularies.table_sizes(data.schema)
    features = DenseFeatures(data.schema, sizes, rate)
    for inputs, labels, metadata in labeled_batches(data, "train", history=False):
        features.count(inputs, labels, _folds(hash_ids(metadata["request_id"])))
    train, validation = (
        StoredRows(_rows(data, split, features), len(features.names), folder)
        for split in ("train", "validation")
    )
    categories = np.flatnonzero(features.is_category).tolist()
    options = {**_OPTIONS, "num_threads": _threads(len(train))}
    binned = lightgbm.Dataset(
        train, train.labels, categorical_feature=categories, params=options
    )
    held_out = binned.create_valid(validation, validation.labels)
    trees = lightgbm.train(
        options,
        binned,
        _MAX_TREES,
        valid_sets=[held_out],
        callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False), _Progress()],
    )
    _log.info(
        "boosted trees: %d trees on %d columns, validation AUC %.4f",
        trees.best_iteration, len(features.names), trees.best_score["valid_0"]["auc"],
    )  # fmt: skip
    return BoostedTrees(trees, features)


def _rows(
    data: PreparedData, split: str, features: DenseFeatures
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    candidates = data.manifest.splits[split].candidates
    share = min(MAX_ROWS / candidates, 1)
    if share < 1:
        _log.info(
            "boosted trees: %.1f %% of the requests of %s, drawn; %d candidates are "
            "more than the %d that are held",
            100 * share, split, candidates, MAX_ROWS,
        )  # fmt: skip
    for inputs, labels, metadata in labeled_batches(data, split, history=False):
        hashes = hash_ids(metadata["request_id"])
        drawn = _in_share(hashes, share)
        inputs = {key: value[drawn] for key, value in inputs.items()}
        fold = _folds(hashes)[drawn] if split == "train" else None
        yield features.rows(inputs, fold), labels[drawn][inputs["candidate_mask"]]


def _threads(rows: int) -> int:
    """So many that each has work: those that wait for others spin."""
    return min(len(os.sched_getaffinity(0)), 1 + rows // _ROWS_OF_A_THREAD)


def _folds(hashes: np.ndarray) -> np.ndarray:
    return (hashes % FOLDS).astype(np.int64)


def _in_share(hashes: np.ndarray, share: float) -> np.ndarray:
    """By the upper half of a request's hash: the folds go by the whole."""
    return (hashes >> np.uint64(32)) < share * 2**32


class _Progress:
    """Logs the validation AUC every few seconds."""

    order = 20  # after the metrics of a round

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, env: lightgbm.callback.CallbackEnv) -> None:
        entries = env.evaluation_result_list
        if entries and time.monotonic() - self._last > _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            tree, auc = env.iteration + 1, entries[0][2]
            _log.info("boosted trees, tree %d: validation AUC %.4f", tree, auc)
