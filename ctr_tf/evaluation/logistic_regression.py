"""Logistic regression on more data than fits in memory, to its exact optimum.

scikit-learn's `LogisticRegression` needs all rows at once, and its `SGDClassifier`
streams but stops near the optimum at best, the farther the rarer the ids. A baseline
should be neither: batches lie on disk as sparse matrices, each pass adds up the exact
loss and gradient, and L-BFGS does the rest. Memory holds one batch and the weights.
"""

import logging
import pickle
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from scipy import optimize, sparse, special

from ctr_tf.evaluation.sparse_features import SparseBatch

_log = logging.getLogger(__name__)
_MAX_ITERATIONS = 200
_TOLERANCE = 1e-5  # relative gain of the loss in one step
_SECONDS_BETWEEN_LINES = 10


class BatchStore:
    """Sparse batches in a temporary folder, to be read many times.

    Args:
        batches: to keep.
        folder: where the temporary folder is made; the system's place by default.

    Attributes:
        candidates: in all batches.
        clicks: in all batches.
    """

    def __init__(
        self, batches: Iterable[SparseBatch], folder: str | Path | None = None
    ):
        self._folder = tempfile.TemporaryDirectory(prefix=".batches-", dir=folder)
        self._files: list[Path] = []
        self.candidates = self.clicks = 0
        for batch in batches:
            path = Path(self._folder.name) / f"{len(self._files):06d}"
            path.write_bytes(pickle.dumps(batch, protocol=5))
            self._files.append(path)
            self.candidates += len(batch.labels)
            self.clicks += int(batch.labels.sum())

    def __iter__(self) -> Iterator[SparseBatch]:
        for path in self._files:
            yield pickle.loads(path.read_bytes())


class LogisticRegression:
    """Minimizes mean log loss + l2 / 2 × |weights|², the intercept left free.

    Columns of numbers are brought to mean 0 and standard deviation 1 first, so that
    one penalty suits them and the ids. L-BFGS works on weights in units of
    1 / sqrt(curvature) of their columns, so that rare ids do not hold it up.

    Args:
        is_number: bool, over all columns, those of the requests first.
        num_request_columns: how many of them are the requests'.

    Attributes:
        weights: of the columns, of numbers after scaling.
        intercept: the rest of the logit.
    """

    def __init__(self, is_number: np.ndarray, num_request_columns: int):
        self._is_number = is_number
        self._split = num_request_columns
        self._scale = np.ones(len(is_number))
        self._mean = np.zeros(len(is_number))
        self._curvature = np.zeros(len(is_number))
        self.weights = np.zeros(len(is_number))
        self.intercept = 0.0

    def prepare(self, batches: BatchStore) -> None:
        """Sets scales and means of the numbers, and the intercept to the mean CTR's."""
        totals = np.zeros((2, len(self._is_number)))
        for batch in batches:
            # Of the requests' columns too, every candidate counts once.
            ones = np.ones(len(batch.labels))
            times = np.bincount(batch.request, minlength=batch.requests.shape[0])
            totals[0] += _transposed(batch.requests, batch.candidates, times, ones)
            squares = batch.requests.power(2), batch.candidates.power(2)
            totals[1] += _transposed(*squares, times, ones)
        mean, square = totals / batches.candidates
        variance = np.maximum(square - mean**2, 0)
        usable = self._is_number & (variance > 1e-12)
        self._mean = np.where(self._is_number, mean, 0)
        self._scale[usable] = 1 / np.sqrt(variance[usable])
        rate = np.clip(batches.clicks / batches.candidates, 1e-6, 1 - 1e-6)
        self.intercept = float(special.logit(rate))
        spread = np.where(self._is_number, variance * self._scale**2, square)
        self._curvature = rate * (1 - rate) * spread

    def logits(self, batch: SparseBatch) -> np.ndarray:
        """Logits of a batch's candidates, `[n]`."""
        weights = self.weights * self._scale
        requests = batch.requests @ weights[: self._split]
        candidates = batch.candidates @ weights[self._split :]
        constant = self.intercept - self._mean @ weights
        return candidates + requests[batch.request] + constant

    def fit(self, batches: BatchStore, l2: float) -> int:
        """Goes from the present weights to the optimum.

        Args:
            batches: to train on; `prepare` has seen them.
            l2: of the penalty, positive.

        Returns:
            Passes over the batches.
        """
        unit = np.append(1 / np.sqrt(self._curvature + l2), 1.0)
        last = time.monotonic()
        passes = 0

        def loss(parameters):
            nonlocal last, passes
            passes += 1
            value, gradient = self._loss(batches, parameters * unit, l2)
            if time.monotonic() - last > _SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                _log.info("logistic regression, pass %d: loss %.5f", passes, value)
            return value, gradient * unit

        start = np.append(self.weights, self.intercept) / unit
        options = {"maxiter": _MAX_ITERATIONS, "ftol": _TOLERANCE, "gtol": 1e-7}
        found = optimize.minimize(
            loss, start, jac=True, method="L-BFGS-B", options=options
        )
        self._set(found.x * unit)
        return passes

    def _set(self, parameters: np.ndarray) -> None:
        self.weights, self.intercept = parameters[:-1].copy(), float(parameters[-1])

    def _loss(
        self, batches: BatchStore, parameters: np.ndarray, l2: float
    ) -> tuple[float, np.ndarray]:
        self._set(parameters)
        value, errors, gradient = 0.0, 0.0, np.zeros(len(self.weights))
        for batch in batches:
            logits = self.logits(batch)
            value += np.sum(np.logaddexp(0, logits) - batch.labels * logits)
            error = special.expit(logits) - batch.labels
            of_requests = np.bincount(batch.request, error, batch.requests.shape[0])
            gradient += _transposed(
                batch.requests, batch.candidates, of_requests, error
            )
            errors += error.sum()
        gradient = self._scale * (gradient - self._mean * errors) / batches.candidates
        gradient += l2 * self.weights
        penalty = l2 / 2 * float(self.weights @ self.weights)
        gradient = np.append(gradient, errors / batches.candidates)
        return value / batches.candidates + penalty, gradient


def _transposed(
    requests: sparse.csr_matrix,
    candidates: sparse.csr_matrix,
    of_requests: np.ndarray,
    of_candidates: np.ndarray,
) -> np.ndarray:
    """The columns' sums over rows, weighted by row: those of the requests first."""
    return np.concatenate([requests.T @ of_requests, candidates.T @ of_candidates])
