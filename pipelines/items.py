"""The item table: item features for events that do not carry them, broadcast."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.schema import FIRST_ID, ITEM_KEY, Schema
from pipelines.arrow import add_columns, column, concat, numpy, rank
from pipelines.slates import find_duplicates
from pipelines.validation import ROW, origins_of, rejected_rows

DUPLICATE_ITEM = "duplicate item"


class ItemTable:
    """Item features by item id.

    Args:
        table: `item_id`, unique, and item features; or a table without columns.
    """

    def __init__(self, table: pa.Table):
        self._table = table

    def of(self, item_ids: pa.Array) -> pa.Table:
        """One row an id: `item_id` and the item's features, null where unknown."""
        if not len(self._table):
            return pa.table({ITEM_KEY: item_ids})
        known = column(self._table, ITEM_KEY)
        index = pc.index_in(item_ids.cast(known.type), value_set=known)
        features = self._table.drop_columns([ITEM_KEY]).take(index)
        return features.append_column(ITEM_KEY, item_ids)

    def has(self, item_ids: pa.Array) -> np.ndarray | None:
        """Which items it knows, bool; None where the data set has no such table."""
        if not len(self._table):
            return None
        known = column(self._table, ITEM_KEY)
        found = pc.is_in(item_ids.cast(known.type), value_set=known)
        return found.to_numpy(zero_copy_only=False)


def merge_items(tables: list[pa.Table]) -> tuple[pa.Table, list[str]]:
    """One table of all items.

    Args:
        tables: validated rows.

    Returns:
        `item_id`, ascending, and item features; and lines of `rejected/` for all rows
        of an item but the first.
    """
    table = concat(tables)
    if not len(table):
        return table, []
    item, _ = rank(column(table, ITEM_KEY))
    duplicate = find_duplicates(item, numpy(table, ROW))
    rows, origins = np.flatnonzero(duplicate), origins_of(tables)
    lines = (
        rejected_rows("items", table, rows, DUPLICATE_ITEM, origins)
        if len(rows)
        else []
    )
    order = np.argsort(item, kind="stable")
    order = order[~duplicate[order]]
    table = table.take(pa.array(order)).drop_columns([ROW])
    return table.replace_schema_metadata(), lines


def take_texts(table: pa.Table, schema: Schema) -> tuple[pa.Table, pa.Table]:
    """Texts are looked up by a row of theirs: the one here is that of the item.

    Args:
        table: of all items, see `merge_items`.
        schema: of the data set.

    Returns:
        The table with that row, from `FIRST_ID` on, in the place of each text; and
        `item_id` and texts, null where missing.
    """
    names, count = [feature.name for feature in schema.texts], len(table)
    texts = {ITEM_KEY: column(table, ITEM_KEY)}
    texts |= {
        name: column(table, name)
        if name in table.column_names
        else pa.nulls(count, pa.string())
        for name in names
    }
    others = [name for name in table.column_names if name not in names]
    rows = np.arange(FIRST_ID, FIRST_ID + count)
    return add_columns(table.select(others), **dict.fromkeys(names, rows)), pa.table(
        texts
    )
