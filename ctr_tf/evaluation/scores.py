"""Every candidate's score in one file, so that models can be compared on the same.

`scores.npz` holds of each candidate, in the order of evaluation: `user` and `request`
(64-bit hashes of their ids), `label` (0 or 1) and `score` (the model's probability).
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

import numpy as np

from ctr_tf.evaluation.metrics import hash_ids
from ctr_tf.evaluation.predictions import Predictions
from ctr_tf.storage import as_path

SCORES = "scores.npz"


@dataclasses.dataclass
class Scores:
    """Scored candidates, those of a request side by side.

    Args:
        user: uint64 `[n]`.
        request: uint64 `[n]`, ascending.
        label: uint8 `[n]`.
        score: float64 `[n]`.
    """

    user: np.ndarray
    request: np.ndarray
    label: np.ndarray
    score: np.ndarray

    @classmethod
    def of_users(cls, user: np.ndarray, label: np.ndarray, score: np.ndarray) -> Self:
        """Scores of which nothing goes by requests."""
        return cls(user, np.zeros_like(user), label, score)


class KeptScores:
    """Keeps every candidate's score as batches pass; 25 bytes a candidate."""

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {
            field.name: [] for field in dataclasses.fields(Scores)
        }

    def update(self, batch: Predictions) -> None:
        """Adds scored slates."""
        sizes = batch.mask.sum(1)
        parts = self._parts
        parts["user"].append(np.repeat(hash_ids(batch.user_id), sizes))
        parts["request"].append(np.repeat(hash_ids(batch.request_id), sizes))
        parts["label"].append(batch.labels[batch.mask].astype(np.uint8))
        parts["score"].append(batch.probabilities[batch.mask].astype(np.float64))

    def arrays(self) -> dict[str, np.ndarray]:
        """The fields of `Scores`, in the order in which they came; {} of nothing."""
        filled = {name: part for name, part in self._parts.items() if part}
        return {name: np.concatenate(part) for name, part in filled.items()}


def saving_scores(
    batches: Iterable[Predictions], path: str | Path
) -> Iterator[Predictions]:
    """Passes batches on, and saves their scores when the last one has passed.

    Args:
        batches: scored slates; see `KeptScores` for what is kept of them.
        path: of the file; its folder is made.
    """
    kept = KeptScores()
    for batch in batches:
        kept.update(batch)
        yield batch
    as_path(path).parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **kept.arrays())


def load_scores(path: str | Path) -> Scores:
    """Reads the scores, sorted by request; a request's candidates keep their order.

    Raises:
        FileNotFoundError: if the file is missing.
    """
    if not as_path(path).is_file():
        raise FileNotFoundError(
            f"There are no scores at '{path}'; `ctr-tf evaluate --scores` writes them."
        )
    with as_path(path).open("rb") as file, np.load(file) as arrays:
        return by_request({name: arrays[name] for name in arrays.files})[0]


def by_request(arrays: Mapping[str, np.ndarray]) -> tuple[Scores, np.ndarray]:
    """Scores sorted by request, and the place at which each candidate came."""
    order = np.argsort(arrays["request"], kind="stable")
    return Scores(**{name: values[order] for name, values in arrays.items()}), order
