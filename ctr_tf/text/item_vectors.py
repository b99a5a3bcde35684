"""Texts of items, read once by models whose training changes nothing of how."""

import functools
import logging
import time
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from ctr_tf.data.text_inputs import BEHAVIOR, CANDIDATE, ReadItems, TextInputs
from ctr_tf.eta import Eta
from ctr_tf.models.ranker import Ranker
from ctr_tf.schema.texts import Texts, text_length
from ctr_tf.schema.vocabulary import Vocabularies

_BLOCK = 256  # texts that are read together
_STEP = 4  # of their lengths: each is a graph
_TELL_EVERY = 10.0  # seconds, where there are many

_log = logging.getLogger(__name__)


def read_items(ranker: Ranker, texts: Texts) -> np.ndarray:
    """Reads the texts of all items, as the ranker's weights are now.

    A text that several items have is read once, and texts of about one length
    together, so that little padding is read.

    Args:
        ranker: built, with its weights; its `reads_items_once` is True.
        texts: of all items.

    Returns:
        `[rows, V, W]`, one row for each of the texts' tables, those of padding and of
        unknown items included. Of the ranker's compute dtype, which it reads in: in
        float32 it would be as exact and take twice the memory.
    """
    assert ranker.reads_items_once
    started = time.monotonic()
    table = np.zeros(0)
    for place, name in enumerate(ranker.item_texts):
        vectors, row_of = _read_texts(ranker, name, texts.tables[name])
        if not place:
            shape = (texts.num_rows, len(ranker.item_texts), vectors.shape[1])
            table = np.empty(shape, vectors.dtype)
        table[:, place] = vectors[row_of]
    _log.info(
        "texts of %s items read, once for all, in %.0f s: %.2f GiB of vectors",
        f"{len(texts.items):,}",
        time.monotonic() - started,
        table.nbytes / 2**30,
    )
    return table


def _read_texts(
    ranker: Ranker, name: str, tokens: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of a text feature's table `[rows, T]`: each text's vector, and each row's text.

    Returns:
        `[texts, W]`; `[rows]` int.
    """

    @functools.cache
    def reader(width):
        return tf.function(
            functools.partial(ranker.read_text, name),
            input_signature=[tf.TensorSpec((None, width), tokens.dtype)],
            autograph=False,
        )

    unique, row_of = np.unique(tokens, axis=0, return_inverse=True)
    lengths = text_length(unique)
    order = np.argsort(lengths, kind="stable")
    vectors, told, eta = np.zeros(0), time.monotonic(), Eta(len(order))
    for start in range(0, len(order), _BLOCK):
        chosen = order[start : start + _BLOCK]
        steps = max(-(-int(lengths[chosen[-1]]) // _STEP), 1)
        width = min(steps * _STEP, tokens.shape[1])
        block = reader(width)(tf.constant(unique[chosen, :width])).numpy()
        if not start:
            vectors = np.empty((len(order), block.shape[1]), block.dtype)
        vectors[chosen] = block
        if time.monotonic() - told > _TELL_EVERY:
            told = time.monotonic()
            done = start + len(chosen)
            _log.info(
                "%s: %s of %s texts read%s",
                *(name, f"{done:,}", f"{len(order):,}", eta.told(done)),
            )
    return vectors, row_of.ravel()


def text_inputs(
    rankers: Mapping[str, Ranker], vocabularies: Vocabularies
) -> TextInputs:
    """What batches must have of texts; reads items for rankers that do that once.

    Args:
        rankers: key of the inputs, for the vectors of its items → a ranker with the
            weights that it will have.
        vocabularies: of the data.
    """
    readers = {key: ranker for key, ranker in rankers.items() if ranker.reads_texts}
    if not readers:
        return TextInputs()
    texts = vocabularies.known_texts
    once = {key: ranker for key, ranker in readers.items() if ranker.reads_items_once}
    groups = (BEHAVIOR,) if len(once) == len(readers) else (BEHAVIOR, CANDIDATE)
    return TextInputs(
        TextInputs.of_tokens(texts, groups).tokens,
        {
            key: ReadItems(ranker.item_texts, read_items(ranker, texts))
            for key, ranker in once.items()
        },
    )
