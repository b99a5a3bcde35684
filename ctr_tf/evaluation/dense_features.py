"""Batches as rows of numbers, for trees on user, context and candidate.

Shapes: `B` requests, `C` candidates, `n` candidates that are not padding, `F` columns,
`L` values of a feature.
"""

from collections.abc import Callable, Mapping

import numpy as np

from ctr_tf.schema import FIRST_ID, PADDING_ID, Feature, Schema

FOLDS = 5
CATEGORIES = 255  # ids of the largest table whose ids are categories: they fit a byte
_PRIOR_IMPRESSIONS = 20  # what the mean click-through rate counts for in an id's

Column = Callable[[np.ndarray, np.ndarray | None], np.ndarray]


class DenseFeatures:
    """Turns model inputs into rows of numbers; the history has no part in them.

    A number is a column as it is, NaN where it is missing, and so is the bucket of one.
    An id of a small table is a category. An id of a larger one, and a list of ids, is
    the smoothed click-through rate of the ids in training (a list: their mean). A list
    of numbers is its mean. Each list has its size beside it.

    So that a candidate's own click has no part in its rates, training requests are in
    `FOLDS` folds, and a rate that a row of one fold is given is that of the others.

    Args:
        schema: of the data.
        table_sizes: embedding table name → rows.
        rate: click-through rate of the train split, which ids never seen there have.

    Attributes:
        names: of the columns.
        is_category: bool `[F]`.
    """

    def __init__(self, schema: Schema, table_sizes: Mapping[str, int], rate: float):
        self._columns: list[tuple[str, Column]] = []
        self._rates: dict[str, _Rates] = {}
        self.names: list[str] = []
        self._categories: list[bool] = []
        for group in ("user", "context", "candidate"):
            for feature in schema.vector_groups()[group]:
                key = f"{group}_{feature.name}"
                self._declare(key, feature, table_sizes, rate)
        self.is_category = np.array(self._categories, bool)

    def _declare(
        self, key: str, feature: Feature, table_sizes: Mapping[str, int], rate: float
    ) -> None:
        is_list = feature.length > 1
        if is_list:
            self._add(key, f"{key}_size", _id_count if feature.is_embedded else _count)
        if not feature.is_embedded:
            self._add(key, key, _mean if is_list else _only)
        elif feature.is_ordered and not is_list:
            self._add(key, key, _bucket)
        elif table_sizes[feature.table] <= CATEGORIES and not is_list:
            self._add(key, key, _only, is_category=True)
        else:
            self._rates[key] = _Rates(table_sizes[feature.table], rate)
            self._add(key, f"{key}_rate", self._rates[key])

    def _add(
        self, key: str, name: str, column: Column, is_category: bool = False
    ) -> None:
        self._columns.append((key, column))
        self.names.append(name)
        self._categories.append(is_category)

    def count(
        self, inputs: Mapping[str, np.ndarray], labels: np.ndarray, fold: np.ndarray
    ) -> None:
        """Counts a batch of the train split for the rates.

        Args:
            inputs: of the batch.
            labels: `[B, C]`.
            fold: `[B]`, of each request.
        """
        for key, rates in self._rates.items():
            values, request = _of_candidates(key, inputs)
            rates.count(values, labels[inputs["candidate_mask"]], fold[request])

    def rows(
        self, inputs: Mapping[str, np.ndarray], fold: np.ndarray | None = None
    ) -> np.ndarray:
        """The rows of a batch's candidates.

        Args:
            inputs: of the batch.
            fold: `[B]`, of each request, where they are those that were counted.

        Returns:
            float32 `[n, F]`, in the order of the batch.
        """
        rows = np.empty(
            (np.count_nonzero(inputs["candidate_mask"]), len(self.names)), np.float32
        )
        for place, (key, column) in enumerate(self._columns):
            values, request = _of_candidates(key, inputs)
            rows[:, place] = column(values, None if fold is None else fold[request])
        return rows


def _of_candidates(
    key: str, inputs: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Values `[n, L]`, and the request `[n]` of each candidate."""
    mask = inputs["candidate_mask"]
    request = np.nonzero(mask)[0]
    of_request = not key.startswith("candidate_")
    values = inputs[key][request] if of_request else inputs[key][mask]
    return values.reshape(len(request), -1), request


def _only(values: np.ndarray, _: np.ndarray | None) -> np.ndarray:
    return values[:, 0]


def _bucket(values: np.ndarray, _: np.ndarray | None) -> np.ndarray:
    return np.where(values[:, 0] < FIRST_ID, np.nan, values[:, 0])


def _id_count(values: np.ndarray, _: np.ndarray | None) -> np.ndarray:
    return np.count_nonzero(values != PADDING_ID, axis=1)


def _count(values: np.ndarray, _: np.ndarray | None) -> np.ndarray:
    return np.count_nonzero(~np.isnan(values), axis=1)


def _mean(values: np.ndarray, _: np.ndarray | None) -> np.ndarray:
    return _mean_of(values, ~np.isnan(values))


def _mean_of(values: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Row by row, of the real values; NaN where a row has none."""
    sizes = np.count_nonzero(real, axis=1)
    mean = np.where(real, values, 0).sum(1) / np.maximum(sizes, 1)
    return np.where(sizes, mean, np.nan)


class _Rates:
    """Click-through rates of ids, by the folds that a row is not in."""

    def __init__(self, size: int, rate: float):
        self._rate = rate
        self._size = size
        self._shown = np.zeros(FOLDS * size, np.int32)
        self._clicked = np.zeros(FOLDS * size, np.int32)

    def count(self, values: np.ndarray, labels: np.ndarray, fold: np.ndarray) -> None:
        place = (fold[:, None] * self._size + values).ravel()
        clicks = np.repeat(labels.astype(np.int32), values.shape[1])
        np.add.at(self._shown, place, 1)
        np.add.at(self._clicked, place, clicks)

    def __call__(self, values: np.ndarray, fold: np.ndarray | None) -> np.ndarray:
        """Means over a row's ids, `[n]`; NaN where it has none."""
        shown, clicked = (
            self._counted(counts, values, fold)
            for counts in (self._shown, self._clicked)
        )
        rate = clicked + _PRIOR_IMPRESSIONS * self._rate
        return _mean_of(rate / (shown + _PRIOR_IMPRESSIONS), values != PADDING_ID)

    def _counted(
        self, counts: np.ndarray, values: np.ndarray, fold: np.ndarray | None
    ) -> np.ndarray:
        total = counts.reshape(FOLDS, -1)[:, values].sum(0, dtype=np.int64)
        if fold is None:
            return total
        return total - counts[fold[:, None] * self._size + values]
