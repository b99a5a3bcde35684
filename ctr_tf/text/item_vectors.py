"""Texts of items, read once by models whose training changes nothing of how."""

import logging
import time
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from ctr_tf.data.text_inputs import BEHAVIOR, CANDIDATE, ReadItems, TextInputs
from ctr_tf.models.ranker import Ranker
from ctr_tf.schema.texts import Texts
from ctr_tf.schema.vocabulary import Vocabularies

_BLOCK = 256  # items that are read together
_TELL_EVERY = 10.0  # seconds, where there are many

_log = logging.getLogger(__name__)


def read_items(ranker: Ranker, texts: Texts) -> np.ndarray:
    """Reads the texts of all items, as the ranker's weights are now.

    Args:
        ranker: built, with its weights; its `reads_items_once` is True.
        texts: of all items.

    Returns:
        `[rows, V, W]`, one row for each of the texts' tables, those of padding and of
        unknown items included. Of the ranker's compute dtype, which it reads in: in
        float32 it would be as exact and take twice the memory.
    """
    assert ranker.reads_items_once
    read = tf.function(ranker.read_items, reduce_retracing=True, autograph=False)
    started = told = time.monotonic()
    table = np.zeros(0)
    for start in range(0, texts.num_rows, _BLOCK):
        tokens = {
            name: tf.constant(tokens[None, start : start + _BLOCK])
            for name, tokens in texts.tables.items()
        }
        block = read(tokens).numpy()[0]
        if not start:
            table = np.empty((texts.num_rows, *block.shape[1:]), block.dtype)
        table[start : start + len(block)] = block
        if time.monotonic() - told > _TELL_EVERY:
            told = time.monotonic()
            _log.info(
                "texts of %s of %s items read",
                *(f"{n:,}" for n in (start + len(block), texts.num_rows)),
            )
    _log.info(
        "texts of %s items read, once for all, in %.0f s: %.2f GiB of vectors",
        f"{len(texts.items):,}",
        time.monotonic() - started,
        table.nbytes / 2**30,
    )
    return table


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
