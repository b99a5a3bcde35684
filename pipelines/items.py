"""The item table: item features for events that do not carry them.

It is written in parts, from which every bucket of users takes the items that it has.
"""

import functools
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.schema import FIRST_ID, ITEM_KEY, Feature, Schema
from pipelines.arrow import add_columns, column, concat, numpy, rank, read_table
from pipelines.slates import find_duplicates
from pipelines.validation import ROW, origins_of, rejected_rows

DUPLICATE_ITEM = "duplicate item"


class ItemTable:
    """Item features by item id.

    Args:
        parts: tables of `item_id`, unique in all of them, and item features.
    """

    def __init__(self, parts: Iterable[pa.Table]):
        self._parts = [part for part in parts if len(part)]

    def of(self, item_ids: pa.Array) -> tuple[pa.Table, np.ndarray | None]:
        """What it knows of items.

        Args:
            item_ids: each once.

        Returns:
            One row an id: `item_id` and the item's features, null where unknown; and
            which of the ids it knows, bool, or None where the data set has no such
            table.
        """
        if not self._parts:
            return pa.table({ITEM_KEY: item_ids}), None
        table = self._rows_of(item_ids)
        known = column(table, ITEM_KEY)
        index = pc.index_in(item_ids.cast(known.type), value_set=known)
        rows = table.take(index)  # which may have no feature at all
        place = rows.column_names.index(ITEM_KEY)
        found = index.is_valid().to_numpy(zero_copy_only=False)
        return rows.set_column(place, ITEM_KEY, item_ids), found

    def _rows_of(self, item_ids: pa.Array) -> pa.Table:
        """The rows of these items alone, for few of all are in a bucket of users."""
        rows = []
        for part in self._parts:
            known = part.column(ITEM_KEY)
            wanted = pc.is_in(known, value_set=item_ids.cast(known.type))
            rows.append(part.filter(wanted))
        return concat(rows)


@functools.lru_cache(maxsize=1)
def read_items(paths: tuple[str, ...]) -> ItemTable:
    """The items that `MergeItems` has written, once a worker process.

    Args:
        paths: of its files.
    """
    return ItemTable(map(read_table, paths))


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


def item_values(events: pa.Table, items: pa.Table, feature: Feature) -> pa.Array:
    """A feature's raw values: the row's own, or else its item's.

    Args:
        events: rows with `_item` codes, which may have a column of the feature.
        items: one row an item code, see `ItemTable.of`.
        feature: of items.
    """
    shared = column(items, feature.name)
    own = column(events, feature.name) if feature.name != ITEM_KEY else None
    if shared is not None:
        shared = shared.take(column(events, "_item"))
        own = shared if own is None else pc.coalesce(own, shared)
    return or_nulls(own, len(events), feature)


def or_nulls(values: pa.Array | None, count: int, feature: Feature) -> pa.Array:
    """A feature's values, or, where no row has any, so many nulls."""
    return pa.nulls(count, feature.arrow_type) if values is None else values
