"""Scored slates on their way from a model to the metrics."""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from ctr_tf.eta import Eta

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 10


@dataclasses.dataclass
class Predictions:
    """A batch of scored slates, one a row; `B` samples, `C` candidates.

    Args:
        request_id: `[B]` strings or bytes.
        user_id: `[B]` strings, bytes or integers.
        request_time: `[B]` int64 seconds.
        history_length: `[B]` integers, behaviors that the sample has.
        labels: `[B, C]`, 0 or 1.
        probabilities: `[B, C]`, the model's, from 0 to 1.
        mask: `[B, C]` bool, False on padding.
        true_probability: `[B, C]`, NaN where the data do not know it.
        withheld: `[B, C]`, the model's probabilities with the history withheld.
        features: key of the model's inputs → its values, `[B, …]`; those that somebody
            asked for.
    """

    request_id: np.ndarray
    user_id: np.ndarray
    request_time: np.ndarray
    history_length: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    mask: np.ndarray
    true_probability: np.ndarray | None = None
    withheld: np.ndarray | None = None
    features: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def predictions(
    batches: Iterable,
    score: Callable[[dict], np.ndarray],
    withheld: Callable[[dict], np.ndarray] | None = None,
    keep: Sequence[str] = (),
) -> Iterator[Predictions]:
    """Scores the batches of `ctr_tf.data.dataset.dataset(…, metadata=True)`.

    Args:
        batches: `(inputs, labels, weights, metadata)` each.
        score: inputs → probabilities `[B, C]`.
        withheld: the same of users whose history is withheld, where that is asked.
        keep: keys of inputs that predictions have, as `features`.
    """
    for inputs, labels, weights, metadata in batches:
        yield Predictions(
            labels=np.asarray(labels)[..., 0],
            probabilities=np.asarray(score(inputs)),
            mask=np.asarray(weights) > 0,
            withheld=None if withheld is None else np.asarray(withheld(inputs)),
            features={key: np.asarray(inputs[key]) for key in keep},
            **{name: np.asarray(value) for name, value in metadata.items()},
        )


def with_progress(
    batches: Iterable[Predictions], total: int | None
) -> Iterator[Predictions]:
    """Passes batches on and logs how far they are, every few seconds.

    Args:
        batches: scored slates.
        total: samples that will come, if known.
    """
    started = last = time.monotonic()
    samples = 0
    eta = Eta(total)
    for batch in batches:
        yield batch
        samples += len(batch.labels)
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            of = f" of {total:,}" if total else ""
            rate = f"{samples / (now - started):,.0f} samples/s"
            left = eta.told(samples)
            _log.info("scored %s%s samples, %s%s", f"{samples:,}", of, rate, left)
    seconds = time.monotonic() - started
    _log.info("scored %s samples in %.1f s", f"{samples:,}", seconds)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities in float64, so that far logits keep their order."""
    logits = np.asarray(logits, np.float64)
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1, small) / (1 + small)
