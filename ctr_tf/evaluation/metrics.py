"""Metrics of a stream of scored slates, exact, in bounded memory.

What a slate or a sum can tell (log loss, NDCG, GAUC per request) is added up as batches
come. AUC needs all scores in order and GAUC per user needs a user's rows together,
however far apart they came; such rows spill to disk beyond `memory_rows` (see `spill`).

Definitions
  * `auc`: of all candidates; a tie counts one half.
  * `gauc_user`, `gauc_request`: mean of the AUC of each user, of each request,
    weighted by its candidates; those without both classes are left out and counted.
    `gauc_user_plain`, `gauc_request_plain`: the same, each user or request alike.
  * `log_loss`: natural logarithm; probabilities are kept `EPSILON` from 0 and 1.
  * `ndcg@K`, `map`, `mrr`: means over the requests with both classes (see `ranking`).
  * `calibration.ece`: candidates are cut by ascending probability into bins of equal
    size (a tie stays whole); the mean over candidates of |predicted - observed| CTR of
    their bin. `calibration.ratio` is predicted / observed CTR over all candidates.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ctr_tf.errors import UserError
from ctr_tf.evaluation.curves import LogitHistogram, QuantileBins
from ctr_tf.evaluation.pairs import PairCounts, StreamedPairs, pair_counts
from ctr_tf.evaluation.ranking import slate_metrics
from ctr_tf.evaluation.spill import HashedSpill, SortedSpill

EPSILON = np.finfo(np.float64).eps
_ALL = "all"


class Metrics:
    """Accumulates scored slates; `result` may be asked for at any time.

    Args:
        slices: name of a slicing → its number of groups (at most 256), for example
            `{"hour": 24}`; AUC, GAUC and log loss are given for every group.
        ks: the K of NDCG@K.
        memory_rows: candidates kept in memory before they spill to disk.
        folder: where spilled rows go; the system's place for such files by default.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.evaluation import Metrics
        >>> metrics, mask = Metrics(ks=(2,)), np.array([[True, True, False]])
        >>> labels, scores = np.array([[0, 1, 0]]), np.array([[0.2, 0.6, 0.0]])
        >>> metrics.update(labels, scores, mask, request_ids=["r"], user_ids=["ann"])
        >>> result = metrics.result()
        >>> result["auc"], round(result["log_loss"], 4), result["ndcg@2"]
        (1.0, 0.367, 1.0)
    """

    def __init__(
        self,
        slices: Mapping[str, int] | None = None,
        ks: Sequence[int] = (5, 10),
        memory_rows: int = 2_000_000,
        folder: str | Path | None = None,
    ):
        self._groups = {_ALL: 1, **(slices or {})}
        self._ks = tuple(ks)
        codes: list[tuple[str, type]] = [
            (name, np.uint8) for name in self._groups if name != _ALL
        ]
        by_score: list[tuple[str, type]] = [
            ("score", np.float64),
            ("label", np.uint8),
            *codes,
        ]
        self._dtype = np.dtype([("user", np.uint64), *by_score])
        self._by_score = SortedSpill(np.dtype(by_score), "score", memory_rows, folder)
        self._by_user = HashedSpill(self._dtype, "user", memory_rows, folder)
        self._sums = {name: _Sums(size) for name, size in self._groups.items()}
        self._histogram = LogitHistogram()
        self._ranking = dict.fromkeys(["map", "mrr", *(f"ndcg@{k}" for k in ks)], 0.0)
        self._one_class = {"no_click": 0, "all_clicks": 0}

    def update(
        self,
        labels: np.ndarray,
        probabilities: np.ndarray,
        mask: np.ndarray,
        request_ids: Sequence | np.ndarray,
        user_ids: Sequence | np.ndarray,
        slices: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Adds scored slates, one a row.

        Args:
            labels: `[B, C]`, 0 or 1.
            probabilities: `[B, C]`, from 0 to 1.
            mask: `[B, C]` bool, False on padding.
            request_ids: `[B]`, for messages.
            user_ids: `[B]` strings, bytes or integers.
            slices: slicing → group of each slate, `[B]` integers.

        Raises:
            UserError: on a label or a probability that is none, naming how many there
                are and the first one's request.
        """
        mask = np.asarray(mask, bool)
        labels = np.where(mask, labels, 0)
        scores = np.where(mask, probabilities, 0).astype(np.float64)
        good = (scores >= 0) & (scores <= 1)
        _check("probabilities", "from 0 to 1", scores, good, mask, request_ids)
        good = (labels == 0) | (labels == 1)
        _check("labels", "0 or 1", labels, good, mask, request_ids)
        labels = labels.astype(np.uint8)
        codes = {_ALL: np.zeros(len(mask), np.uint8), **(slices or {})}
        if set(codes) != set(self._groups):
            raise UserError(
                f"`slices` must be {sorted(set(self._groups) - {_ALL})}. "
                f"Received: {sorted(set(codes) - {_ALL})}"
            )
        self._store(labels, scores, mask, user_ids, codes)
        self._add_sums(labels, scores, mask, codes)
        self._histogram.add(scores[mask], labels[mask])

    def _store(
        self,
        labels: np.ndarray,
        scores: np.ndarray,
        mask: np.ndarray,
        user_ids: Sequence | np.ndarray,
        codes: dict[str, np.ndarray],
    ) -> None:
        rows = np.empty(np.count_nonzero(mask), self._dtype)
        sizes = mask.sum(1)
        rows["user"] = np.repeat(hash_ids(user_ids), sizes)
        rows["score"], rows["label"] = scores[mask], labels[mask]
        for name, code in codes.items():
            if name != _ALL:
                rows[name] = np.repeat(code, sizes)
        self._by_user.add(rows)
        self._by_score.add(_without_user(rows))

    def _add_sums(
        self,
        labels: np.ndarray,
        scores: np.ndarray,
        mask: np.ndarray,
        codes: dict[str, np.ndarray],
    ) -> None:
        clipped = np.clip(scores, EPSILON, 1 - EPSILON)
        loss = -np.log(np.where(labels > 0, clipped, 1 - clipped))
        sizes, clicks = mask.sum(1), labels.sum(1, dtype=np.int64)
        both = (clicks > 0) & (clicks < sizes)
        self._one_class["no_click"] += int(np.sum((clicks == 0) & (sizes > 0)))
        self._one_class["all_clicks"] += int(np.sum((clicks == sizes) & (sizes > 0)))
        slates = slate_metrics(labels[both], scores[both], mask[both], self._ks)
        for name in self._ranking:
            self._ranking[name] += float(slates[name].sum())
        auc = np.zeros(len(mask))
        auc[both] = slates["auc"]
        for name, code in codes.items():
            self._sums[name].add(
                code,
                samples=np.ones(len(mask), np.int64),
                candidates=sizes,
                clicks=clicks,
                loss=np.where(mask, loss, 0).sum(1),
                predicted=scores.sum(1),
                request_weight=np.where(both, sizes, 0),
                requests_counted=both,
                request_auc=auc * sizes,
                request_auc_plain=auc,
            )

    def result(self) -> dict:
        """All metrics, as plain Python values; None where one is not defined.

        Returns:
            The metrics named in the module's docstring, `samples`, `candidates`,
            `clicks`, `users`, `left_out` (counts of requests and users without both
            classes), `slices` (slicing → a list with the metrics of each group),
            `calibration`, `roc` (false and true positive rates) and `histogram`.
        """
        pairs, bins = self._ordered()
        users = self._grouped_by_user()
        parts = {
            name: self._sums[name].metrics(pairs[name].auc(), users[name])
            for name in self._groups
        }
        (total,) = parts.pop(_ALL)
        predicted, clicks = total.pop("predicted"), total["clicks"]
        for part in (part for groups in parts.values() for part in groups):
            del part["predicted"]
        ranked = total["samples"] - sum(self._one_class.values())
        ranking = {
            name: value / ranked if ranked else None
            for name, value in self._ranking.items()
        }
        ratio = predicted / clicks if clicks else None
        return {
            **total,
            **ranking,
            "users": users[_ALL].groups,
            "left_out": {
                "users": users[_ALL].left_out,
                "requests": sum(self._one_class.values()),
                **{f"requests_{name}": n for name, n in self._one_class.items()},
            },
            "calibration": {
                "predicted_ctr": _ratio(predicted, total["candidates"]),
                "observed_ctr": _ratio(clicks, total["candidates"]),
                "ratio": ratio,
                **bins.calibration(),
            },
            "slices": parts,
            "roc": bins.roc(),
            "histogram": self._histogram.result(),
        }

    def _ordered(self) -> tuple[dict[str, PairCounts], QuantileBins]:
        """One pass over all candidates by ascending score."""
        streams = {name: StreamedPairs(size) for name, size in self._groups.items()}
        bins = QuantileBins(int(self._sums[_ALL].values["candidates"].sum()))
        for rows in self._by_score.blocks():
            score = np.ascontiguousarray(rows["score"])
            bins.add(score, rows["label"])
            for name, stream in streams.items():
                stream.add(_codes(rows, name), score, rows["label"])
        return {name: stream.counts for name, stream in streams.items()}, bins

    def _grouped_by_user(self) -> dict[str, "_UserMeans"]:
        """One pass over all candidates, a user's together."""
        means = {name: _UserMeans(size) for name, size in self._groups.items()}
        for rows in self._by_user.buckets():
            users, user = np.unique(rows["user"], return_inverse=True)
            rank = np.unique(rows["score"], return_inverse=True)[1]
            for name, size in self._groups.items():
                group = user * size + _codes(rows, name)
                counts = pair_counts(group, rank, rows["label"], len(users) * size)
                means[name].add(counts)
        return means


class _Sums:
    """Sums by group of a slicing."""

    counts = ("samples", "candidates", "clicks", "request_weight", "requests_counted")
    sums = ("loss", "predicted", "request_auc", "request_auc_plain")

    def __init__(self, size: int):
        self._size = size
        self.values: dict[str, np.ndarray] = {
            name: np.zeros(size, np.int64) for name in self.counts
        }
        self.values |= {name: np.zeros(size) for name in self.sums}

    def add(self, code: np.ndarray, **values: np.ndarray) -> None:
        for name, value in values.items():
            total = np.bincount(code, value, self._size)
            self.values[name] += total.astype(self.values[name].dtype)

    def metrics(self, auc: np.ndarray, users: "_UserMeans") -> list[dict]:
        v = self.values
        return [
            {
                "samples": int(v["samples"][g]),
                "candidates": int(v["candidates"][g]),
                "clicks": int(v["clicks"][g]),
                "predicted": float(v["predicted"][g]),
                "auc": None if np.isnan(auc[g]) else float(auc[g]),
                "gauc_user": _ratio(users.auc[g], users.weight[g]),
                "gauc_user_plain": _ratio(users.plain[g], users.counted[g]),
                "gauc_request": _ratio(v["request_auc"][g], v["request_weight"][g]),
                "gauc_request_plain": _ratio(
                    v["request_auc_plain"][g], v["requests_counted"][g]
                ),
                "log_loss": _ratio(v["loss"][g], v["candidates"][g]),
            }
            for g in range(self._size)
        ]


class _UserMeans:
    """Sums of users' AUCs, by candidates and plain, by group of a slicing."""

    def __init__(self, size: int):
        self._size = size
        self.auc = np.zeros(size)
        self.weight = np.zeros(size, np.int64)
        self.plain = np.zeros(size)
        self.counted = np.zeros(size, np.int64)
        self.groups = self.left_out = 0

    def add(self, counts: PairCounts) -> None:
        size = (counts.positives + counts.negatives).reshape(-1, self._size)
        both = counts.both.reshape(-1, self._size)
        auc = counts.auc().reshape(-1, self._size)
        self.weight += np.where(both, size, 0).sum(0)
        self.auc += np.where(both, auc * size, 0).sum(0)
        self.counted += both.sum(0)
        self.plain += np.where(both, auc, 0).sum(0)
        self.groups += int(np.sum(size > 0))
        self.left_out += int(np.sum((size > 0) & ~both))


def hash_ids(ids: Sequence | np.ndarray) -> np.ndarray:
    """64-bit hashes of ids, uint64 `[B]`; bytes and their text hash alike.

    Two of a million users share a hash with probability 3e-8.
    """
    data = [i if isinstance(i, bytes) else str(i).encode() for i in ids]
    digests = [hashlib.blake2b(i, digest_size=8).digest() for i in data]
    return np.frombuffer(b"".join(digests), np.uint64)


def _codes(rows: np.ndarray, name: str) -> np.ndarray:
    return np.zeros(len(rows), np.uint8) if name == _ALL else rows[name]


def _without_user(rows: np.ndarray) -> np.ndarray:
    names = [name for name in rows.dtype.names if name != "user"]
    result = np.empty(len(rows), [(name, rows.dtype[name]) for name in names])
    for name in names:
        result[name] = rows[name]
    return result


def _ratio(numerator: float, denominator: float) -> float | None:
    return float(numerator / denominator) if denominator else None


def _check(
    what: str,
    expected: str,
    values: np.ndarray,
    good: np.ndarray,
    mask: np.ndarray,
    request_ids: Sequence | np.ndarray,
) -> None:
    bad = mask & ~good
    if bad.any():
        row, column = np.argwhere(bad)[0]
        request = request_ids[row]
        request = request.decode() if isinstance(request, bytes) else str(request)
        raise UserError(
            f"{bad.sum():,} of {mask.sum():,} {what} of a batch are not {expected}; "
            f"the first is of request '{request}', candidate {column}. "
            f"Received: {values[row, column]}"
        )
