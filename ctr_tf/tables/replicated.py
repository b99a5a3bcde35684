"""Tables that are whole on every replica.

What a training's steps and checkpoints do with tables is in these methods: `lookup`,
`gradients` and `apply` in a step; `save` and `load` between steps; `export` at the end.
A training whose tables are cut over its workers needs another class with the same ones.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import keras
import tensorflow as tf

from ctr_tf.saved_variables import SavedVariables
from ctr_tf.tables.embedding_table import EmbeddingTable
from ctr_tf.tables.row_wise_optimizers import RowWiseOptimizer, unique_rows

Lookups = Mapping[str, tuple[str, tf.Tensor]]


class ReplicatedTables:
    """Tables of which each replica has all rows, and the optimizer of the rows.

    Args:
        tables: name → table, built.
        optimizer: of the rows; None where nothing is trained.
    """

    def __init__(
        self,
        tables: Mapping[str, EmbeddingTable],
        optimizer: RowWiseOptimizer | None = None,
    ):
        self.tables = dict(tables)
        self.optimizer = optimizer
        if optimizer is not None:
            optimizer.build([table.table for table in self.tables.values()])

    def lookup(self, lookups: Lookups) -> dict[str, tf.Tensor]:
        """Gathers rows.

        Args:
            lookups: name → its table, and ids of any shape.

        Returns:
            Name → rows, float32 `[..., width]`.
        """
        return {name: self.tables[table](ids) for name, (table, ids) in lookups.items()}

    def gradients(
        self, lookups: Lookups, of_rows: Mapping[str, tf.Tensor | None]
    ) -> dict[str, tf.IndexedSlices]:
        """Gradients of the tables, over all replicas, from those of looked-up rows.

        Args:
            lookups: as `lookup` got them.
            of_rows: name → gradient of what `lookup` gave; None: it has none.

        Returns:
            Name of a table → its gradient, every row once; for tables that have one.
        """
        used: dict[str, list] = {}
        for key, (name, ids) in lookups.items():
            if of_rows.get(key) is not None and self.tables[name].trainable:
                used.setdefault(name, []).append((ids, of_rows[key]))
        own = {name: _slices(self.tables[name], parts) for name, parts in used.items()}
        if not own:
            return {}
        replica = tf.distribute.get_replica_context()
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
            self._updates().apply_unique(
                list(gradients.values()),
                [self.tables[name].table for name in gradients],
            )

    @property
    def variables(self) -> list[keras.Variable]:
        """Tables and slots that lie in this process' memory."""
        slots = self.optimizer.variables if self.optimizer is not None else []
        return [*(table.table for table in self.tables.values()), *slots]

    def save(
        self,
        folder: str | Path,
        slots: bool = True,
        only: Iterable[str] | None = None,
    ) -> None:
        """Writes all rows into a checkpoint's folder.

        Args:
            folder: of the checkpoint.
            slots: whether to write those of the optimizer, too.
            only: names of the tables; all of them where None.
        """
        self._saved(slots, only).write(folder)

    def load(self, folder: str | Path, slots: bool = True) -> None:
        """Reads what `save` has written, with the same `slots`.

        Raises:
            UserError: names the table that is missing, or has another shape.
        """
        self._saved(slots).read(folder)

    def export(self) -> dict[str, tf.Variable]:
        """Name → whole table, for a graph that serves."""
        return {name: table.table.value for name, table in self.tables.items()}

    def _updates(self) -> RowWiseOptimizer:
        assert self.optimizer is not None  # whoever trains has one
        return self.optimizer

    def _saved(self, slots: bool, only: Iterable[str] | None = None) -> SavedVariables:
        """Tables of the ranker `teacher`, `teacher/<name>`, are a part of their own."""
        names = self.tables if only is None else only
        parts: dict[str, dict] = {"tables": {}}
        for name in names:
            ranker, _, own = name.rpartition("/")
            part = parts.setdefault(f"tables_{ranker}" if ranker else "tables", {})
            part[own] = self.tables[name].table.value
        if slots:
            variables = enumerate(self._updates().variables)
            parts["slots"] = {str(index): v.value for index, v in variables}
        return SavedVariables("tables", parts)


def _slices(table: EmbeddingTable, used: list) -> tf.IndexedSlices:
    """One gradient from those of all lookups in a table; rows may repeat."""
    ids = [tf.reshape(tf.cast(ids, tf.int64), (-1,)) for ids, _ in used]
    values = [tf.reshape(value, (-1, table.width)) for _, value in used]
    shape = tf.constant([table.rows, table.width], tf.int64)
    return tf.IndexedSlices(tf.concat(values, 0), tf.concat(ids, 0), shape)
