"""Raw columns → the values that samples store."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.schema import ITEM_KEY, Feature
from ctr_tf.schema.vocabulary import Vocabularies
from pipelines.arrow import column, numpy
from pipelines.example import Packed, pack_float, pack_int64


@dataclasses.dataclass(frozen=True)
class Column:
    """Stored values of one feature.

    Args:
        feature: what the values are.
        values: ids or raw numbers, of the feature's `stored_dtype` (or uint8).
        missing: bool, which of them the log lacks.
    """

    feature: Feature
    values: np.ndarray
    missing: np.ndarray

    def take(self, rows: np.ndarray) -> "Column":
        """The values of some rows, in that order."""
        return Column(self.feature, self.values[rows], self.missing[rows])

    def pack(self) -> Packed:
        """The values in the encoding of `tf.train.Example`."""
        if self.feature.stored_dtype == "float32":
            return pack_float(self.values)
        return pack_int64(self.values)


def computed(feature: Feature, values: np.ndarray) -> Column:
    """A column of values that the job computed; none is missing."""
    return Column(feature, values, np.zeros(len(values), bool))


def stored(
    feature: Feature, raw: pa.Array | None, rows: int, vocabularies: Vocabularies
) -> Column:
    """Encodes raw values.

    Args:
        feature: what the values are.
        raw: one value a row, None where the log has no such column.
        rows: how many rows there are.
        vocabularies: of the data set.
    """
    if raw is None:
        raw = pa.nulls(rows, feature.arrow_type)
    missing = pc.is_null(raw).to_numpy(zero_copy_only=False)
    return Column(feature, feature.store(raw, vocabularies), missing)


def stored_lists(
    feature: Feature, table: pa.Table, vocabularies: Vocabularies
) -> tuple[Column, np.ndarray]:
    """Encodes a feature of users or requests, which may have several values a row.

    Args:
        feature: what the values are.
        table: its rows.
        vocabularies: of the data set.

    Returns:
        All values, row after row, each row's cut to `feature.length`; and int64
        offsets, one more than rows.
    """
    raw, rows = column(table, feature.name), len(table)
    if feature.length == 1 or raw is None:
        if feature.length > 1:
            return stored(feature, None, 0, vocabularies), np.zeros(rows + 1, np.int64)
        return stored(feature, raw, rows, vocabularies), np.arange(rows + 1)
    lists = pc.list_slice(raw, 0, feature.length)
    length = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    values = lists.flatten()
    offset = np.append(0, np.cumsum(length, dtype=np.int64))
    return stored(feature, values, len(values), vocabularies), offset


class ItemColumns:
    """Item features of a bucket's events: the row's own, or else its item's.

    Args:
        items: one row an item code: `item_id` and item features.
        vocabularies: of the data set.
    """

    def __init__(self, items: pa.Table, vocabularies: Vocabularies):
        self._items = items
        self._vocabularies = vocabularies
        self._of_item: dict[str, Column] = {}

    def of(self, table: pa.Table, feature: Feature) -> Column:
        """One value a row of a table that has `_item` codes."""
        if feature.name not in self._of_item:
            raw = column(self._items, feature.name)
            self._of_item[feature.name] = stored(
                feature, raw, len(self._items), self._vocabularies
            )
        result = self._of_item[feature.name].take(numpy(table, "_item"))
        own = column(table, feature.name) if feature.name != ITEM_KEY else None
        if own is None:
            return result
        own = stored(feature, own, len(table), self._vocabularies)
        values = np.where(own.missing, result.values, own.values)
        return Column(feature, values, own.missing & result.missing)
