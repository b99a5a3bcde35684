"""What batches have of items' texts: tokens, or what a model has read of them.

Both are looked up by NumPy: a table may be too large for a graph to hold, and a tensor
of it would be one more copy of it in memory.

Shape suffixes: `B` batch, `C` candidates, `T` tokens of an item's text, `V` texts of an
item, `W` width of the language model.
"""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from ctr_tf.schema.texts import Texts

BEHAVIOR, CANDIDATE = "behavior", "candidate"


@dataclasses.dataclass(frozen=True)
class ReadItems:
    """What a model has read of all items.

    Args:
        names: text features of a candidate, V.
        table: `[rows, V, W]`, by the rows of the texts' own tables.
    """

    names: tuple[str, ...]
    table: np.ndarray

    def of_rows(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Vectors of candidates, `[B, C, V, W]` of the table's dtype.

        Args:
            inputs: `candidate_<f>` → rows `[B, C]` int64, of all V features.
        """
        texts, width = self.table.shape[1:]
        flat = self.table.reshape(-1, width)
        rows_BCV = tf.stack([inputs[f"{CANDIDATE}_{n}"] for n in self.names], axis=-1)
        return _looked_up(flat, rows_BCV * texts + tf.range(texts, dtype=tf.int64))


@dataclasses.dataclass(frozen=True)
class TextInputs:
    """What batches have of texts; of those that are not named here, the rows.

    Args:
        tokens: record key → the table `[rows, T]` of the tokens that take its place.
        vectors: key of the inputs → what a model has read of items.
    """

    tokens: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    vectors: Mapping[str, ReadItems] = dataclasses.field(default_factory=dict)

    @classmethod
    def of_tokens(
        cls, texts: Texts | None, groups: Iterable[str] = (BEHAVIOR, CANDIDATE)
    ) -> "TextInputs":
        """All tokens of the groups; none where there are no texts."""
        tables = texts.tables if texts is not None else {}
        return cls(
            {f"{g}_{name}": table for g in groups for name, table in tables.items()}
        )

    def of_rows(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Tokens `[…, T]` int32 and vectors, by their keys.

        Args:
            inputs: of a batch, texts as rows of their tables.
        """
        return {
            **{
                key: _looked_up(table, inputs[key])
                for key, table in self.tokens.items()
            },
            **{key: items.of_rows(inputs) for key, items in self.vectors.items()},
        }


def _looked_up(table: np.ndarray, rows: tf.Tensor) -> tf.Tensor:
    found = tf.numpy_function(
        lambda rows: np.take(table, rows, axis=0), [rows], table.dtype, False
    )
    return tf.ensure_shape(found, [*rows.shape, table.shape[1]])
