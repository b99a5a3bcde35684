"""Texts of items in the exported graph: tokens by item id, or a request's own.

Shape suffixes: `B` batch, `N` behaviors or candidates, `T` tokens of an item's text.
"""

from pathlib import Path

import tensorflow as tf

from ctr_tf.schema import FIRST_ID, ITEM_KEY, OUT_OF_VOCABULARY_ID, Schema
from ctr_tf.schema.texts import FOLDER, ITEMS, Texts
from ctr_tf.text.tokenizer import Tokenizer


class ServedTexts(tf.Module):
    """The texts of an export, which travel with it: items as an asset, tokens as data.

    Args:
        schema: with text features.
        folder: of the vocabularies, which has the texts.
        texts: loaded from there.
    """

    def __init__(self, schema: Schema, folder: Path, texts: Texts):
        super().__init__()
        item = next(
            feature for feature in schema.of("item") if feature.name == ITEM_KEY
        )
        initializer = tf.lookup.TextFileInitializer(
            str(folder / FOLDER / ITEMS),
            key_dtype=tf.as_dtype(item.dtype),
            key_index=tf.lookup.TextFileIndex.WHOLE_LINE,
            value_dtype=tf.int64,
            value_index=tf.lookup.TextFileIndex.LINE_NUMBER,
            value_index_offset=FIRST_ID,
        )
        self._rows = tf.lookup.StaticHashTable(initializer, OUT_OF_VOCABULARY_ID)
        self._tables = {
            name: tf.Variable(table, trainable=False, name=name)
            for name, table in texts.tables.items()
        }
        self._num_tokens = Tokenizer(texts.tokenizer).num_tokens

    def rows(self, item_BN: tf.Tensor) -> tf.Tensor:
        """The rows of items by their raw ids, int64."""
        return self._rows.lookup(item_BN)

    def of_rows(self, name: str, rows_BN: tf.Tensor) -> tf.Tensor:
        """Tokens by the rows of a record.

        Args:
            name: of the text feature.
            rows_BN: int64; those behind the table's last are of items that are not in
                this export, whose texts it does not know.

        Returns:
            `[B, N, T]` int64.
        """
        table = self._tables[name]
        known_BN = rows_BN < table.shape[0]
        rows_BN = tf.where(
            known_BN, rows_BN, tf.constant(OUT_OF_VOCABULARY_ID, tf.int64)
        )
        return tf.cast(tf.gather(table, rows_BN), tf.int64)

    def of_items(
        self, key: str, item_BN: tf.Tensor, own_BNT: tf.Tensor, length_BN: tf.Tensor
    ) -> tf.Tensor:
        """Tokens by item ids; of unknown items those that the request brings.

        Args:
            key: of the input, `behavior_<f>` or `candidate_<f>`.
            item_BN: raw ids.
            own_BNT: int64 tokens of the request's own, anything behind a text's end.
            length_BN: int64, how many of them are the text, 0 of what is padding.

        Returns:
            `[B, N, T]` int64.

        Raises:
            tf.errors.InvalidArgumentError: while running, for a token that no
                tokenizer of this export has.
        """
        name = key.partition("_")[2]
        length = self._tables[name].shape[1]
        rows_BN = self.rows(item_BN)
        told_BNT = tf.sequence_mask(length_BN, tf.shape(own_BNT)[2])
        own_BNT = tf.where(told_BNT, own_BNT, tf.zeros_like(own_BNT))
        wrong = (own_BNT < 0) | (own_BNT >= self._num_tokens)
        check = tf.raw_ops.Assert(
            condition=~tf.reduce_any(wrong),
            data=[
                f"`{key}` must be ids of the {self._num_tokens} tokens of the model's "
                "tokenizer. Received:",
                tf.boolean_mask(own_BNT, wrong)[:1],
            ],
        )
        with tf.control_dependencies([check]):
            own_BNT = tf.pad(own_BNT, [[0, 0], [0, 0], [0, length]])[..., :length]
        unknown_BN = rows_BN == OUT_OF_VOCABULARY_ID
        return tf.where(unknown_BN[..., None], own_BNT, self.of_rows(name, rows_BN))
