"""Every candidate's score in one file, so that models can be compared on the same.

`scores.npz` holds of each candidate, in the order of evaluation: `user` and `request`
(64-bit hashes of their ids), `label` (0 or 1) and `score` (the model's probability).
"""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

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


def saving_scores(
    batches: Iterable[Predictions], path: str | Path
) -> Iterator[Predictions]:
    """Passes batches on, and saves their scores when the last one has passed.

    Args:
        batches: scored slates; 25 bytes a candidate are kept of them.
        path: of the file; its folder is made.
    """
    parts: dict[str, list[np.ndarray]] = {
        field.name: [] for field in dataclasses.fields(Scores)
    }
    for batch in batches:
        sizes = batch.mask.sum(1)
        parts["user"].append(np.repeat(hash_ids(batch.user_id), sizes))
        parts["request"].append(np.repeat(hash_ids(batch.request_id), sizes))
        parts["label"].append(batch.labels[batch.mask].astype(np.uint8))
        parts["score"].append(batch.probabilities[batch.mask].astype(np.float64))
        yield batch
    as_path(path).parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.concatenate(part) for name, part in parts.items() if part}
    np.savez(path, **arrays)


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
        order = np.argsort(arrays["request"], kind="stable")
        return Scores(**{name: arrays[name][order] for name in arrays.files})
