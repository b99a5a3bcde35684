"""The sizes that histories and slates are padded to."""

import dataclasses
from typing import Any

import numpy as np

from ctr_tf.data.stored import SampleSizes


@dataclasses.dataclass(frozen=True)
class PaddedSizes:
    """Sizes of batches; each batch has the smallest that hold its samples.

    Args:
        history: ascending; a longer history is cut to its latest behaviors.
        slate: ascending; the largest holds every slate.
    """

    history: tuple[int, ...]
    slate: tuple[int, ...]

    @property
    def several(self) -> bool:
        """Whether batches may be of more than one."""
        return len(self.history) * len(self.slate) > 1

    def static(self, history: Any, slate: Any) -> tuple[Any, Any]:
        """Sizes of a batch, known while a graph is traced where there is only one.

        Args:
            history: of the batch, a tensor.
            slate: of the batch, a tensor.
        """
        return (
            self.history[0] if len(self.history) == 1 else history,
            self.slate[0] if len(self.slate) == 1 else slate,
        )

    def buckets(self, sizes: SampleSizes) -> np.ndarray:
        """Number of the size that samples take; neighbors differ in one of the two."""
        history = _smallest(self.history, sizes.history)
        slate = _smallest(self.slate, sizes.slate)
        last = len(self.slate) - 1
        return history * (last + 1) + np.where(history % 2, last - slate, slate)

    def of_batches(
        self, sizes: SampleSizes, counts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """History and slate size of each of the batches of samples, int64 both.

        Args:
            sizes: of the samples, batch after batch.
            counts: samples of each batch.
        """
        return (
            _of_batches(self.history, sizes.history, counts),
            _of_batches(self.slate, sizes.slate, counts),
        )


def _smallest(sizes: tuple[int, ...], found: np.ndarray) -> np.ndarray:
    """Places of the smallest sizes that hold what was found, or of the largest."""
    return np.minimum(np.searchsorted(np.array(sizes), found), len(sizes) - 1)


def _of_batches(
    sizes: tuple[int, ...], found: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    most = np.zeros(len(counts), np.int64)
    batch = np.repeat(np.arange(len(counts)), counts)
    np.maximum.at(most, batch, _smallest(sizes, found))
    return np.array(sizes, np.int64)[most]
