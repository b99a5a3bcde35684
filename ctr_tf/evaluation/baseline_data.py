"""The data of baselines: batches of a prepared data set, as arrays."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ctr_tf.data.config import DataConfig
from ctr_tf.data.dataset import dataset
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError

if TYPE_CHECKING:
    import tensorflow as tf

Score = Callable[[Mapping], np.ndarray]  # a batch's inputs → probabilities [B, C]
_BATCH_BEHAVIORS = 1 << 19  # of padded histories held at once


def whole_batches(
    data: PreparedData,
    split: str,
    history: bool = True,
    label: str | None = None,
    share: float = 1.0,
) -> "tf.data.Dataset":
    """Batches of `ctr_tf.data.dataset.dataset`, with metadata, in one pass.

    Args:
        data: the data set.
        split: of it.
        history: whether histories are read whole; else their last behavior at most,
            for baselines that read none.
        label: of the schema; its first one where None.
        share: of the split that is read.
    """
    longest = data.schema.history_length if history else 1
    sizes = [size for size in (16, 64, 256, 1_024, 4_096) if size < longest]
    config = DataConfig(
        path=str(data.folder),
        batch_size=int(np.clip(_BATCH_BEHAVIORS // longest, 64, 2_048)),
        history_lengths=(*sizes, longest),
        label=label,
    )
    return dataset(
        data,
        split,
        config,
        num_chunks=data.schema.num_chunks,
        training=False,
        metadata=True,
        share=share,
    )


def labeled_batches(
    data: PreparedData,
    split: str,
    history: bool = True,
    label: str | None = None,
    share: float = 1.0,
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]]:
    """Inputs, labels `[B, C]` and metadata of `whole_batches`, as arrays."""
    batches = whole_batches(data, split, history, label, share)
    for inputs, labels, _, metadata in batches:
        yield arrays(inputs), labels.numpy()[..., 0], arrays(metadata)


def arrays(inputs: Mapping) -> dict[str, np.ndarray]:
    """Tensors as arrays."""
    return {key: np.asarray(value) for key, value in inputs.items()}


def click_rate(data: PreparedData, split: str) -> float:
    """Clicks a candidate of a split, by the manifest.

    Raises:
        UserError: if the split has no clicks, or nothing but clicks.
    """
    data.files(split)  # it is there and has samples
    counts = data.manifest.splits[split]
    if counts.clicks in (0, counts.candidates):
        raise UserError(
            f"The {split} split of '{data.folder}' must have both clicks and "
            "candidates without, or there is nothing to fit or measure. Received: "
            f"{counts.clicks:,} clicks of {counts.candidates:,}"
        )
    return counts.clicks / counts.candidates
