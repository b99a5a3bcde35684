"""Tables that are whole on every replica."""

from collections.abc import Mapping

import tensorflow as tf

from ctr_tf.tables.embedding_table import EmbeddingTable
from ctr_tf.tables.row_wise_optimizers import unique_rows
from ctr_tf.tables.tables import Lookups, Tables


class ReplicatedTables(Tables):
    """Tables of which each replica has all rows, and the optimizer of the rows.

    Args:
        tables: name → table, built.
        optimizer: of the rows; None where nothing is trained.
    """

    def lookup(self, lookups: Lookups) -> tuple[dict[str, tf.Tensor], Lookups]:
        """Gathers rows.

        Args:
            lookups: name → its table, and ids of any shape.

        Returns:
            Name → rows, float32 `[..., width]`; and what `gradients` takes.
        """
        rows = {name: self.tables[table](ids) for name, (table, ids) in lookups.items()}
        return rows, lookups

    def gradients(
        self, lookups: Lookups, of_rows: Mapping[str, tf.Tensor | None]
    ) -> dict[str, tf.IndexedSlices]:
        """Gradients of the tables, over all replicas, from those of looked-up rows.

        Each replica sends the gradient of a row once, however often it looked it up.

        Args:
            lookups: from `lookup`.
            of_rows: name → gradient of what `lookup` gave; None: it has none.

        Returns:
            Name of a table → its gradient, every row once; for tables that have one.
        """
        used: dict[str, list] = {}
        for key, (name, ids) in lookups.items():
            if of_rows.get(key) is not None and self.tables[name].trainable:
                used.setdefault(name, []).append((ids, of_rows[key]))
        own = {
            name: unique_rows(_slices(self.tables[name], parts))
            for name, parts in used.items()
        }
        replica = tf.distribute.get_replica_context()
        if not own or replica.num_replicas_in_sync == 1:
            return own
        summed = replica.all_reduce(tf.distribute.ReduceOp.SUM, list(own.values()))
        return {name: unique_rows(g) for name, g in zip(own, summed, strict=True)}

    def squared_norm(self, gradients: Mapping[str, tf.IndexedSlices]) -> tf.Tensor:
        """The sum of the squares of all gradients, a float32 scalar."""
        squares = [2 * tf.nn.l2_loss(g.values) for g in gradients.values()]
        return tf.reduce_sum(tf.stack(squares)) if squares else tf.constant(0.0)

    def apply(self, gradients: Mapping[str, tf.IndexedSlices]) -> None:
        """Updates the rows that have gradients.

        Args:
            gradients: from `gradients`, perhaps scaled.
        """
        if gradients:
            self.updates().apply_unique(
                list(gradients.values()),
                [self.tables[name].table for name in gradients],
            )


def _slices(table: EmbeddingTable, used: list) -> tf.IndexedSlices:
    """One gradient from those of all lookups in a table; rows may repeat."""
    ids = [tf.reshape(tf.cast(ids, tf.int64), (-1,)) for ids, _ in used]
    values = [tf.reshape(value, (-1, table.width)) for _, value in used]
    shape = tf.constant([table.rows, table.width], tf.int64)
    return tf.IndexedSlices(tf.concat(values, 0), tf.concat(ids, 0), shape)
