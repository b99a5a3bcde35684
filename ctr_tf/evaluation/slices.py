"""Metrics of parts of a split: by any feature of the schema, with intervals.

A slicing cuts the candidates into groups by what a feature is of their user, of their
request, or of themselves. Groups follow from the feature's kind:

* *categorical*: the most frequent values, and all others together;
* *bucketized*: its buckets, neighbors together where there are many;
* *numeric*: parts of about equal size, or each value where there are few;
* `history_length`: the steps of `HISTORY_EDGES`.

What is missing is a group of its own. Where a feature holds several values, a candidate
is in the group of each; of a list of numbers the mean counts.

A metric that a group does not define (it has one class only) is absent. Intervals are
95 % of a bootstrap over the group's users (`ctr_tf.evaluation.bootstrap`), from its
`MIN_USERS` users and up to its `MAX_CANDIDATES` of the split.

Shapes: `n` candidates, `L` values of a feature.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.evaluation import bootstrap, withheld
from ctr_tf.evaluation.predictions import Predictions
from ctr_tf.evaluation.scores import KeptScores, Scores
from ctr_tf.schema import (
    FIRST_ID,
    OUT_OF_VOCABULARY_ID,
    PADDING_ID,
    Feature,
    Schema,
)
from ctr_tf.schema.vocabulary import Vocabularies

HISTORY_LENGTH = "history_length"
HISTORY_EDGES = (1, 5, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
HISTORY_NAMES = (
    "0",
    *(
        f"{low}-{high - 1}"
        for low, high in zip(HISTORY_EDGES, HISTORY_EDGES[1:], strict=False)
    ),
    f"{HISTORY_EDGES[-1]}+",
)
METRICS = {**withheld.METRICS, "calibration": "predicted / observed"}
_GROUPS = ("user", "context", "candidate")
_MOST_VALUES = 10  # of a categorical feature
_MOST_BUCKETS = 24
_PARTS = 5  # of numbers, or of more buckets than those

Group = tuple[str, np.ndarray]  # its name, and which candidates are in it: bool `[n]`


@dataclasses.dataclass(frozen=True)
class Slicing:
    """One way to cut candidates into groups.

    Args:
        name: as the user gives it.
        key: of the model's inputs.
        feature: None for the history's length.
    """

    name: str
    key: str
    feature: Feature | None


def find_slicings(schema: Schema, names: Iterable[str]) -> list[Slicing]:
    """The slicings of these names.

    Args:
        schema: of the data.
        names: of features of users, requests and candidates, or `history_length`;
            `user_x`, `context_x` or `candidate_x` where two features are called x.

    Raises:
        UserError: names an unknown feature and the nearest known one; for one of
            behaviors, for a text, and for a name that two features have.
    """
    known = {HISTORY_LENGTH: [Slicing(HISTORY_LENGTH, HISTORY_LENGTH, None)]}
    for group, features in schema.vector_groups().items():
        for feature in features if group in _GROUPS else ():
            key = f"{group}_{feature.name}"
            known.setdefault(feature.name, []).append(
                Slicing(feature.name, key, feature)
            )
            known.setdefault(key, []).append(Slicing(key, key, feature))
    short = {name for name, found in known.items() if found[0].key != name}
    result = []
    for name in dict.fromkeys(names):
        found = known.get(name, [])
        if len(found) > 1:
            keys = " or ".join(f"`{slicing.key}`" for slicing in found)
            raise UserError(
                f"Two features have this name: write {keys}. Received: {name}"
            )
        if not found:
            raise UserError(_why_not(schema, name, {*short, HISTORY_LENGTH}))
        result += found
    return result


def _why_not(schema: Schema, name: str, known: set[str]) -> str:
    for feature in schema.features:
        if feature.name == name and feature.is_text:
            return f"A text has no values to slice by. Received: {name}"
        if feature.name == name and feature.role == "behavior":
            return (
                "Slices go by what is known of a user, a request or a candidate; this "
                f"feature is one of behaviors alone. Received: {name}"
            )
    return f"{unknown_name('feature to slice by', name, known)} Received: {name}"


class Slices:
    """Groups of candidates, and their metrics.

    Args:
        slicings: of `find_slicings`.
        vocabularies: by which the model's inputs were made.
        kept: the scores of the same batches; who feeds it is its owner.
    """

    def __init__(
        self, slicings: Sequence[Slicing], vocabularies: Vocabularies, kept: KeptScores
    ):
        self._slicings = slicings
        self._vocabularies = vocabularies
        self._kept = kept
        self._parts: dict[str, list[np.ndarray]] = {s.name: [] for s in slicings}

    @property
    def keys(self) -> list[str]:
        """Keys of the inputs that predictions must have."""
        return [s.key for s in self._slicings if s.feature is not None]

    def update(self, batch: Predictions) -> None:
        """Adds what the features are in a batch."""
        sizes = batch.mask.sum(1)
        for slicing in self._slicings:
            if slicing.feature is None:
                values = batch.history_length[:, None]
            else:
                values = batch.features[slicing.key]
            if slicing.key.startswith("candidate_"):
                values = values[batch.mask]
            else:
                values = np.repeat(values, sizes, axis=0)
            dtype = np.float32 if values.dtype.kind == "f" else np.int32
            values = values.reshape(len(values), -1).astype(dtype)
            self._parts[slicing.name].append(values)

    def groups(self) -> Iterator[tuple[str, list[Group]]]:
        """Name of each slicing, and its groups of the candidates as they came."""
        for slicing in self._slicings:
            values = np.concatenate(self._parts[slicing.name])
            yield slicing.name, _groups(slicing.feature, values, self._vocabularies)

    def result(self) -> dict[str, list[dict]]:
        """Name of each slicing → its groups.

        Returns:
            Of each group `group` (its name), `samples`, `users`, `candidates`, `clicks`
            and each of `METRICS` that is defined: `value`, `low` and `high`, None where
            there is no interval.
        """
        arrays = self._kept.arrays()
        what = "slices come without intervals"
        with_intervals = bootstrap.can_afford(len(arrays["label"]), what)
        return {
            name: [
                {"group": group, **measured(rows_of(arrays, rows), with_intervals)}
                for group, rows in groups
            ]
            for name, groups in self.groups()
        }


def rows_of(arrays: dict[str, np.ndarray], rows: np.ndarray) -> Scores:
    """The scores of some candidates."""
    return Scores(**{name: values[rows] for name, values in arrays.items()})


def measured(scores: Scores, with_intervals: bool) -> dict:
    """Counts and metrics of a group; see `Slices.result`."""
    users = len(np.unique(scores.user))
    drawn = bootstrap.num_replicates(users) if with_intervals else 0
    found = bootstrap.replicate_all(scores, bootstrap.draw_users(users, drawn))
    result: dict = {
        "samples": len(np.unique(scores.request)),
        "users": users,
        "candidates": len(scores.label),
        "clicks": int(scores.label.sum()),
    }
    for key in METRICS:
        value, replicates = float(found[key][0]), found[key][1:]
        if np.isnan(value):
            continue
        low, high = bootstrap.interval(replicates) or (None, None)
        result[key] = {"value": value, "low": low, "high": high}
    return result


def _groups(
    feature: Feature | None, values: np.ndarray, vocabularies: Vocabularies
) -> list[Group]:
    if feature is None:
        return _of_history_length(values[:, 0])
    if not feature.is_embedded:
        return _of_numbers(feature, values)
    return _of_ids(feature, values, vocabularies)


def _of_history_length(values: np.ndarray) -> list[Group]:
    step = np.searchsorted(HISTORY_EDGES, values, "right")
    return [(HISTORY_NAMES[i], step == i) for i in np.unique(step)]


def _of_numbers(feature: Feature, values: np.ndarray) -> list[Group]:
    there = ~np.isnan(values)
    count = there.sum(1)
    sums = np.where(there, values, 0).sum(1, dtype=np.float64)
    mean = np.divide(sums, count, np.full(len(count), np.nan), where=count > 0)
    known = mean[count > 0]
    groups: list[Group] = []
    distinct = np.unique(known)
    if len(distinct) <= _PARTS:
        groups = [(_shown(feature, value), mean == value) for value in distinct]
    else:
        shares = np.linspace(0, 1, _PARTS + 1)
        edges = np.unique(np.quantile(known, shares, method="lower"))
        if len(edges) < 3:  # nearly all have one value
            usual = _shown(feature, edges[0])
            groups = [(usual, mean == edges[0]), (f"> {usual}", mean > edges[0])]
            edges = edges[:0]
        for place, (low, high) in enumerate(zip(edges, edges[1:], strict=False)):
            is_last = place == len(edges) - 2
            rows = (mean >= low) & ((mean <= high) if is_last else (mean < high))
            to = "to" if is_last else "to <"
            name = f"{_shown(feature, low)} {to} {_shown(feature, high)}"
            groups.append((name, rows))
    return _filled([*groups, ("missing", count == 0)])


def _shown(feature: Feature, value: float) -> str:
    return f"{feature.from_input(float(value)):.4g}"


def _of_ids(
    feature: Feature, values: np.ndarray, vocabularies: Vocabularies
) -> list[Group]:
    counts = np.bincount(values[values >= FIRST_ID])
    found = np.flatnonzero(counts)
    if feature.stores_ids:
        chosen = found[np.argsort(-counts[found], kind="stable")][:_MOST_VALUES]
        parts = [np.array([i]) for i in chosen]
        rest = np.setdiff1d(found, chosen)
    else:
        parts, rest = _neighbors(found, counts), found[:0]
    groups: list[Group] = []
    for ids in parts:
        words = feature.id_words([int(ids[0]), int(ids[-1])], vocabularies)
        name = words[0] if len(ids) == 1 else f"{words[0]} … {words[1]}"
        groups.append((name, np.isin(values, ids).any(1)))
    if len(rest):
        name = f"{len(rest):,} others"
        groups.append((name, np.isin(values, rest).any(1)))
    unknown = "unknown or missing" if feature.stores_ids else "missing"
    groups.append((unknown, (values == OUT_OF_VOCABULARY_ID).any(1)))
    groups.append(("no value", (values == PADDING_ID).all(1)))
    return _filled(groups)


def _neighbors(found: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Ids in order, neighbors together where they are many."""
    if len(found) <= _MOST_BUCKETS:
        return [np.array([i]) for i in found]
    before = np.cumsum(counts[found]) - counts[found]
    part = before * _PARTS // counts.sum()
    return [found[part == i] for i in np.unique(part)]


def _filled(groups: list[Group]) -> list[Group]:
    return [(name, rows) for name, rows in groups if rows.any()]


def tables(sliced: dict[str, list[dict]]) -> Iterator[tuple[str, list[list[str]]]]:
    """Slices in words: of each slicing its name, a head and a row a group.

    Args:
        sliced: of `Slices.result`.
    """
    for name, parts in sliced.items():
        head = [name, "samples", "users", "candidates", "clicks"]
        head += [f"{label} (95 %)" for label in METRICS.values()]
        rows = [head]
        for part in parts:
            row = [part["group"]]
            counts = ("samples", "users", "candidates", "clicks")
            row += [f"{part[key]:,}" for key in counts]
            row += [_words(part.get(key)) for key in METRICS]
            rows.append(row)
        yield name, rows


def undefined(sliced: dict[str, list[dict]]) -> str:
    """What is to be said of metrics that groups do not define; "" where all do."""
    lacking = [
        f"{name} {part['group']}"
        for name, parts in sliced.items()
        for part in parts
        if any(key not in part for key in METRICS)
    ]
    if not lacking:
        return ""
    return (
        "–: not defined, for a group (or each of its users) lacks clicks, or "
        f"candidates without. {len(lacking):,} groups lack a metric: "
        f"{', '.join(lacking[:5])}{', …' if len(lacking) > 5 else ''}."
    )


def _words(metric: dict | None) -> str:
    if metric is None:
        return "–"
    return with_interval(metric["value"], metric["low"], metric["high"])


def with_interval(
    value: float, low: float | None, high: float | None, sign: str = ""
) -> str:
    """A value and its interval, where it has one: `0.61 (0.58 to 0.64)`."""
    text = f"{value:{sign}.4f}"
    if low is None or high is None:
        return text
    return f"{text} ({low:{sign}.4f} to {high:{sign}.4f})"
