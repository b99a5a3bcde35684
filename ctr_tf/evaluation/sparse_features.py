"""Batches as sparse matrices, for linear models on the same features.

Shapes: `B` requests, `C` candidates, `n` candidates that are not padding.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from scipy import sparse

from ctr_tf.schema import PADDING_ID, Feature, Schema


@dataclasses.dataclass
class SparseBatch:
    """A batch for a linear model, whose logit is that of the request + the candidate's.

    Args:
        requests: `[B, …]`, what all candidates of a request share.
        candidates: `[n, …]`, the candidates' own.
        request: `[n]`, the row of `requests` that a candidate belongs to.
        labels: float64 `[n]`.
    """

    requests: sparse.csr_matrix
    candidates: sparse.csr_matrix
    request: np.ndarray
    labels: np.ndarray


class SparseFeatures:
    """Turns model inputs into sparse rows.

    An id is a column of its own; the ids of a list (a history's items, a user's
    interests) are columns of `1 / sqrt(size of the list)` each; a number is a column,
    and a list of numbers its mean.

    Args:
        schema: of the data.
        table_sizes: embedding table name → rows.

    Attributes:
        num_request_columns: of the matrix of the requests.
        num_candidate_columns: of the matrix of the candidates.
        is_number: bool, over the columns of both, requests first: a number's columns.
    """

    def __init__(self, schema: Schema, table_sizes: Mapping[str, int]):
        groups = schema.vector_groups()
        self._requests, self.num_request_columns = _columns(
            {name: groups[name] for name in ("user", "context", "behavior")},
            table_sizes,
        )
        self._candidates, self.num_candidate_columns = _columns(
            {"candidate": groups["candidate"]}, table_sizes
        )
        self.is_number = np.zeros(
            self.num_request_columns + self.num_candidate_columns, bool
        )
        for columns, start in (
            (self._requests, 0),
            (self._candidates, self.num_request_columns),
        ):
            for feature, column in columns.values():
                if not feature.is_embedded:
                    self.is_number[start + column] = True

    def batch(
        self, inputs: Mapping[str, np.ndarray], labels: np.ndarray
    ) -> SparseBatch:
        """Turns one batch of `ctr_tf.data.dataset.dataset`.

        Args:
            inputs: of the batch, as arrays.
            labels: `[B, C]`.
        """
        mask = inputs["candidate_mask"]
        return SparseBatch(
            requests=self._request_rows(inputs),
            candidates=self._candidate_rows(inputs, mask),
            request=np.nonzero(mask)[0],
            labels=labels[mask].astype(np.float64),
        )

    def _request_rows(self, inputs: Mapping[str, np.ndarray]) -> sparse.csr_matrix:
        size = len(inputs["request_time"])
        rows, columns, values = [], [], []
        for key, (feature, start) in self._requests.items():
            ids = inputs[key].reshape(size, -1)  # lists in a history: all its values
            if feature.is_embedded:
                row, place = np.nonzero(ids != PADDING_ID)
                columns.append(start + ids[row, place])
                count = np.bincount(row, minlength=size)
                values.append(1 / np.sqrt(count[row]))
            else:
                real = ~np.isnan(ids)
                if key.startswith("behavior_"):
                    seen = inputs["behavior_time"] > 0
                    real &= np.repeat(seen, feature.length, axis=1)
                mean = np.where(real, ids, 0).sum(1) / np.maximum(real.sum(1), 1)
                row = np.flatnonzero(mean)
                columns.append(np.full(len(row), start))
                values.append(mean[row])
            rows.append(row)
        table = (np.zeros(0), (np.zeros(0, np.int64), np.zeros(0, np.int64)))
        if rows:
            table = (
                np.concatenate(values),
                (
                    np.concatenate(rows),
                    np.concatenate(columns),
                ),
            )
        shape = (size, self.num_request_columns)
        return sparse.csr_matrix(table, shape)

    def _candidate_rows(
        self, inputs: Mapping[str, np.ndarray], mask: np.ndarray
    ) -> sparse.csr_matrix:
        size = np.count_nonzero(mask)
        width = sum(feature.length for feature, _ in self._candidates.values())
        columns = np.zeros((size, width), np.int64)
        values = np.zeros((size, width))
        place = 0
        for key, (feature, start) in self._candidates.items():
            value = inputs[key][mask].reshape(size, feature.length)
            places = slice(place, place + feature.length)
            if feature.is_embedded:
                real = value != PADDING_ID
                columns[:, places] = start + value
            else:
                real = ~np.isnan(value)
                columns[:, places] = start
            count = np.maximum(real.sum(axis=1, keepdims=True), 1)
            weight = 1 / np.sqrt(count) if feature.is_embedded else value / count
            values[:, places] = np.where(real, weight, 0)
            place += feature.length
        ends = np.arange(size + 1) * width
        shape = (size, self.num_candidate_columns)
        return sparse.csr_matrix((values.ravel(), columns.ravel(), ends), shape)


def _columns(
    groups: Mapping[str, tuple[Feature, ...]], table_sizes: Mapping[str, int]
) -> tuple[dict[str, tuple[Feature, int]], int]:
    """Input key → (feature, its first column), and the number of columns."""
    columns, total = {}, 0
    for group, features in groups.items():
        for feature in features:
            columns[f"{group}_{feature.name}"] = (feature, total)
            total += table_sizes[feature.table] if feature.is_embedded else 1
    return columns, total
