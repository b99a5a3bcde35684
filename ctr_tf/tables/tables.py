"""The embedding tables of a training, and the optimizer of their rows.

What a training's steps and checkpoints do with them is in the methods of two classes,
`ReplicatedTables` and `ShardedTables`: `lookup`, `gradients`, `squared_norm` and
`apply` in a step; `save` and `load` between steps; `export` at the end.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import keras
import tensorflow as tf

from ctr_tf.tables import saved_tables
from ctr_tf.tables.embedding_table import EmbeddingTable
from ctr_tf.tables.row_wise_optimizers import RowWiseOptimizer
from ctr_tf.tables.saved_tables import Saved
from ctr_tf.tables.shard import Shard

Lookups = Mapping[str, tuple[str, tf.Tensor]]


class Tables:
    """Base: tables, the optimizer of their rows, and the files of both.

    Args:
        tables: name → table, built, all cut alike.
        optimizer: of the rows; None where nothing is trained.
    """

    def __init__(
        self,
        tables: Mapping[str, EmbeddingTable],
        optimizer: RowWiseOptimizer | None = None,
    ):
        self.tables = dict(tables)
        self.optimizer = optimizer
        shards = {table.shard for table in self.tables.values()} or {Shard()}
        (self.shard,) = shards
        if optimizer is not None:
            self.build_slots(optimizer)

    def build_slots(self, optimizer: RowWiseOptimizer) -> None:
        """Makes what the optimizer remembers of the rows that are here."""
        optimizer.build([table.table for table in self.tables.values()])

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
        """Writes the rows that are here into a checkpoint's folder.

        Args:
            folder: of the checkpoint.
            slots: whether to write those of the optimizer, too.
            only: names of the tables; all of them where None.
        """
        saved_tables.write(folder, self._saved(slots, only), self.shard)

    def load(self, folder: str | Path, slots: bool = True) -> None:
        """Reads what `save` has written, in any number of shards, with equal `slots`.

        Raises:
            FileNotFoundError: if a shard's file is missing.
            UserError: names the table that is missing, or has another shape.
        """
        saved_tables.read(folder, self._saved(slots), self.shard)

    def export(self) -> dict[str, tf.Variable]:
        """Name → whole table, for a graph that serves."""
        assert self.shard.is_whole
        return {name: table.table.value for name, table in self.tables.items()}

    def updates(self) -> RowWiseOptimizer:
        """The optimizer of whoever trains."""
        assert self.optimizer is not None
        return self.optimizer

    def _saved(
        self, slots: bool, only: Iterable[str] | None = None
    ) -> dict[str, dict[str, Saved]]:
        """Tables of the ranker `teacher`, `teacher/<name>`, are a part of their own."""
        names = self.tables if only is None else only
        parts: dict[str, dict[str, Saved]] = {"tables": {}}
        for name in names:
            ranker, _, own = name.rpartition("/")
            part = parts.setdefault(f"tables_{ranker}" if ranker else "tables", {})
            table = self.tables[name]
            part[own] = Saved(table.table.value, table.rows)
        if slots:
            parts[saved_tables.SLOTS] = {
                str(index): Saved(variable.value, self._rows_of(variable))
                for index, variable in enumerate(self.updates().variables)
            }
        return parts

    def _rows_of(self, variable: keras.Variable) -> int | None:
        """Of the whole table that slots belong to; None of what is no slot."""
        slots = zip(self.updates().slots, self.tables.values(), strict=True)
        return next((table.rows for slot, table in slots if slot is variable), None)
