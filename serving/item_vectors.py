"""Texts of items, read once for all requests, in the exported graph.

Shape suffixes: `B` batch, `C` candidates, `T` tokens of an item's text, `V` texts of an
item, `W` width of the language model.
"""

import tensorflow as tf

from ctr_tf.models.ranker import Ranker
from ctr_tf.schema import FIRST_ID, OUT_OF_VOCABULARY_ID
from ctr_tf.schema.texts import Texts
from ctr_tf.text.item_vectors import read_items


class ItemVectors(tf.Module):
    """A table `[rows, V, W]` of what a ranker reads of each item of an export.

    For rankers whose `reads_items_once` is True. Items that are not in the table are
    read when they are asked for, by the tokens that a request brings.

    Args:
        ranker: built and trained.
        texts: of all items of the export.
    """

    def __init__(self, ranker: Ranker, texts: Texts):
        super().__init__()
        # Behind a tuple, which nothing tracks: the model's Python must not be saved.
        self._hidden = (lambda: ranker,)
        self.table = tf.Variable(read_items(ranker, texts), trainable=False)

    def __call__(self, rows: tf.Tensor, tokens: dict[str, tf.Tensor]) -> tf.Tensor:
        """Vectors of candidates.

        Args:
            rows: `[B, C]` int64 of the texts' tables; what lies behind the last is
                unknown.
            tokens: text feature → `[B, C, T]`.

        Returns:
            `[B, C, V, W]`.
        """
        known_BC = (rows >= FIRST_ID) & (rows < self.table.shape[0])
        known_BCVW = tf.gather(
            self.table, tf.where(known_BC, rows, OUT_OF_VOCABULARY_ID)
        )
        brings_BC = tf.zeros_like(known_BC)
        for tokens_BCT in tokens.values():
            brings_BC |= tf.reduce_any(tokens_BCT != 0, axis=-1)
        unread_BC = brings_BC & ~known_BC
        read_BCVW = tf.cond(
            tf.reduce_any(unread_BC),
            lambda: self._hidden[0]().read_items(tokens),
            lambda: tf.zeros_like(known_BCVW),
        )
        return tf.where(unread_BC[..., None, None], read_BCVW, known_BCVW)
