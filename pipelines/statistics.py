"""What the samples of each split look like, for `statistics.json` and the manifest.

A value counts as often as it stands in a sample: a behavior in the histories of three
requests counts three times.
"""

from typing import Any

import numpy as np

from ctr_tf.data.manifest import SPLITS
from ctr_tf.schema import OUT_OF_VOCABULARY_ID, Schema
from ctr_tf.schema.kinds.categorical import Categorical
from ctr_tf.schema.vocabulary import Vocabularies
from pipelines.columns import Column

TOP_VALUES = 20
_QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
# Values, ascending, and how often each is there.
_Tally = tuple[np.ndarray, np.ndarray]


def coverage(
    rows: int, start: np.ndarray, stop: np.ndarray, split: np.ndarray
) -> np.ndarray:
    """How many samples of each split hold each row.

    Args:
        rows: of the column.
        start: the first row of each sample.
        stop: one past its last row.
        split: of each sample, a position in `SPLITS`.

    Returns:
        `[len(SPLITS), rows]` int64.
    """
    result = np.empty((len(SPLITS), rows), np.int64)
    for number in range(len(SPLITS)):
        chosen = split == number
        change = np.bincount(start[chosen], minlength=rows + 1)
        change -= np.bincount(stop[chosen], minlength=rows + 1)
        result[number] = np.cumsum(change)[:rows]
    return result


class Statistics:
    """Sums over samples that add up across buckets."""

    def __init__(self) -> None:
        self._counts: list[dict[str, _Tally]] = [{} for _ in SPLITS]
        self._numbers: list[dict[str, dict]] = [{} for _ in SPLITS]
        self._values: list[dict[str, _Tally]] = [{} for _ in SPLITS]
        self._times: list[tuple[int, int] | None] = [None for _ in SPLITS]

    def add_count(self, name: str, per_sample: np.ndarray, split: np.ndarray) -> None:
        """Adds a number that every sample has, such as the size of its slate."""
        for number in range(len(SPLITS)):
            counts = np.bincount(per_sample[split == number])
            self._merge(self._counts[number], name, _counts(counts))

    def add_times(self, time: np.ndarray, split: np.ndarray) -> None:
        """Adds the request times."""
        for number in range(len(SPLITS)):
            chosen = time[split == number]
            if len(chosen):
                times = int(chosen.min()), int(chosen.max())
                self._times[number] = _range(self._times[number], times)

    def add_column(self, name: str, column: Column, weights: np.ndarray) -> None:
        """Adds a feature.

        Args:
            name: its key in the samples.
            column: its values.
            weights: see `coverage`.
        """
        for number, weight in enumerate(weights):
            present = (weight > 0) & ~column.missing
            values, times = column.values[present], weight[present]
            missing = int(weight.sum() - times.sum())
            if column.feature.stores_ids:
                counts = _counts(_bincount(values, times))
                self._merge(self._values[number], name, counts)
                summary = {"count": int(weight.sum()), "missing": missing}
            elif column.feature.is_text:
                summary = {"count": int(weight.sum()), "missing": missing}
            else:
                summary = _summary(values, times, missing)
            old = self._numbers[number].get(name)
            self._numbers[number][name] = _add_summaries(old, summary)

    def update(self, other: "Statistics") -> "Statistics":
        """Adds those of another bucket."""
        for number in range(len(SPLITS)):
            for mine, theirs in (
                (self._counts[number], other._counts[number]),
                (self._values[number], other._values[number]),
            ):
                for name, counts in theirs.items():
                    self._merge(mine, name, counts)
            for name, summary in other._numbers[number].items():
                old = self._numbers[number].get(name)
                self._numbers[number][name] = _add_summaries(old, summary)
            times = _range(self._times[number], other._times[number])
            self._times[number] = times
        return self

    def totals(self) -> dict[str, dict[str, int]]:
        """Split → samples, candidates, clicks and behaviors, for the manifest."""
        result = {}
        for split, counts in zip(SPLITS, self._counts, strict=True):
            sums = {n: int((v * c).sum()) for n, (v, c) in counts.items()}
            samples = counts.get("slate_size")
            result[split] = {
                "samples": int(samples[1].sum()) if samples else 0,
                "candidates": sums.get("slate_size", 0),
                "max_candidates": int(samples[0].max(initial=0)) if samples else 0,
                "clicks": sums.get("clicks", 0),
                "behaviors": sums.get("history_length", 0),
            }
        return result

    def time_ranges(self) -> dict[str, tuple[int, int] | None]:
        """Split → first and last request time, None for a split without samples."""
        return dict(zip(SPLITS, self._times, strict=True))

    def unknown_shares(self) -> dict[str, dict[str, float]]:
        """Split → feature → share of its values that are in no vocabulary."""
        shares: dict[str, dict[str, float]] = {}
        for number, split in enumerate(SPLITS):
            shares[split] = {}
            for name, (ids, counts) in self._values[number].items():
                if total := int(counts.sum()):
                    unknown = int(counts[ids == OUT_OF_VOCABULARY_ID].sum())
                    shares[split][name] = unknown / total
        return shares

    def report(self, schema: Schema, vocabularies: Vocabularies) -> dict:
        """The content of `statistics.json`."""
        totals, report = self.totals(), {}
        features: dict[str, Any] = {
            f"{group}_{f.name}": f
            for group, own in schema.record_groups().items()
            for f in own
        }
        for number, split in enumerate(SPLITS):
            candidates = totals[split]["candidates"]
            entry: dict[str, Any] = dict(totals[split])
            entry["label_rate"] = (
                totals[split]["clicks"] / candidates if candidates else None
            )
            for name in ("history_length", "slate_size"):
                if name in self._counts[number]:
                    entry[name] = _distribution(*self._counts[number][name])
            entry["features"] = {}
            for name, summary in self._numbers[number].items():
                summary = dict(summary)
                if "sum" in summary:
                    present = summary["count"] - summary["missing"]
                    total = summary.pop("sum")
                    summary["mean"] = total / present if present else None
                elif features[name].stores_ids:
                    counts = self._values[number][name]
                    summary |= _top(features[name], vocabularies, *counts)
                entry["features"][name] = summary
            report[split] = entry
        return report

    @staticmethod
    def _merge(target: dict, name: str, counts: _Tally) -> None:
        if name in target:
            both = [
                np.concatenate(pair) for pair in zip(target[name], counts, strict=True)
            ]
            values, inverse = np.unique(both[0], return_inverse=True)
            total = np.zeros(len(values), np.int64)
            np.add.at(total, inverse, both[1])
            counts = values, total
        target[name] = counts


def _counts(bincount: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values = np.flatnonzero(bincount)
    return values, bincount[values].astype(np.int64)


def _bincount(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.bincount(values, weights=weights)  # floats, exact below 2^53


def _summary(values: np.ndarray, weights: np.ndarray, missing: int) -> dict:
    found = len(values) > 0
    return {
        "count": int(weights.sum()) + missing,
        "missing": missing,
        "min": values.min().item() if found else None,
        "max": values.max().item() if found else None,
        "sum": float(np.multiply(values, weights, dtype=np.float64).sum()),
    }


def _add_summaries(old: dict | None, new: dict) -> dict:
    if old is None:
        return new
    total = {key: old[key] + new[key] for key in old if key not in ("min", "max")}
    if "min" in old:
        for key, choose in (("min", min), ("max", max)):
            known = [s[key] for s in (old, new) if s[key] is not None]
            total[key] = choose(known, default=None)
    return total


def _range(old: tuple | None, new: tuple | None) -> tuple | None:
    known = [times for times in (old, new) if times is not None]
    if not known:
        return None
    return min(t[0] for t in known), max(t[1] for t in known)


def _distribution(values: np.ndarray, counts: np.ndarray) -> dict:
    if not len(values):
        return {"mean": None, "quantiles": {}}
    below = np.cumsum(counts)
    places = [max(1, int(np.ceil(q * below[-1]))) for q in _QUANTILES]
    return {
        "mean": float((values * counts).sum() / below[-1]),
        "quantiles": {
            f"{q:g}": int(values[np.searchsorted(below, place)])
            for q, place in zip(_QUANTILES, places, strict=True)
        },
    }


def _top(
    feature: Categorical,
    vocabularies: Vocabularies,
    ids: np.ndarray,
    counts: np.ndarray,
) -> dict:
    order = np.lexsort((ids, -counts))
    order = order[ids[order] != OUT_OF_VOCABULARY_ID][:TOP_VALUES]
    words = vocabularies.decode(feature, ids[order].tolist())
    unknown = counts[ids == OUT_OF_VOCABULARY_ID]
    return {
        "out_of_vocabulary": int(unknown.sum()),
        "distinct": int((ids != OUT_OF_VOCABULARY_ID).sum()),
        "top": [[w, int(c)] for w, c in zip(words, counts[order], strict=True)],
    }
