"""Raw columns → the values that samples store."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.data.example import Packed, pack_float, pack_int64
from ctr_tf.schema import ITEM_KEY, Feature
from ctr_tf.schema.vocabulary import Vocabularies
from pipelines.arrow import column, numpy


@dataclasses.dataclass(frozen=True)
class Column:
    """Stored values of one feature.

    Args:
        feature: what the values are.
        values: ids or raw numbers, of the feature's `stored_dtype` (or uint8).
        missing: bool, which of them the log lacks.
        offset: int64, one more than rows: where each row's values begin; None where
            every row has exactly one.
    """

    feature: Feature
    values: np.ndarray
    missing: np.ndarray
    offset: np.ndarray | None = None

    @property
    def lacks(self) -> np.ndarray:
        """Bool, one a row: whether the log has no value there."""
        return self.missing if self.offset is None else np.diff(self.offset) == 0

    def take(self, rows: np.ndarray) -> "Column":
        """The values of some rows, in that order."""
        if self.offset is None:
            return Column(self.feature, self.values[rows], self.missing[rows])
        start, length = self.offset[rows], np.diff(self.offset)[rows]
        offset = np.append(0, np.cumsum(length))
        index = np.arange(offset[-1]) + np.repeat(start - offset[:-1], length)
        return Column(self.feature, self.values[index], self.missing[index], offset)

    def followed_by(self, other: "Column") -> "Column":
        """The rows of this column and then those of another of the same feature."""
        offset = None
        if self.offset is not None:
            assert other.offset is not None  # of the same feature
            offset = np.append(self.offset, other.offset[1:] + self.offset[-1])
        return Column(
            self.feature,
            np.concatenate([self.values, other.values]),
            np.concatenate([self.missing, other.missing]),
            offset,
        )

    def ranges(
        self, start: np.ndarray, stop: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ranges of rows as ranges of values."""
        if self.offset is None:
            return start, stop
        return self.offset[start], self.offset[stop]

    def pack(self) -> Packed:
        """The values in the encoding of `tf.train.Example`."""
        if self.feature.stored_dtype == "float32":
            return pack_float(self.values)
        return pack_int64(self.values)


def computed(feature: Feature, values: np.ndarray) -> Column:
    """A column of values that the job computed."""
    missing = values == feature.stored_missing
    return Column(feature, values, missing | (values != values))


def stored(
    feature: Feature, raw: pa.Array | None, rows: int, vocabularies: Vocabularies
) -> Column:
    """Encodes raw values.

    Args:
        feature: what the values are.
        raw: one value a row, or a list where the feature has several; each list is cut
            to `feature.length`. None where the log has no such column.
        rows: how many rows there are.
        vocabularies: of the data set.
    """
    if raw is None:
        single = feature.arrow_type
        raw = pa.nulls(rows, pa.list_(single) if feature.max_values > 1 else single)
    offset = None
    if feature.max_values > 1:
        lists = pc.list_slice(raw, 0, feature.max_values)
        length = pc.fill_null(pc.list_value_length(lists), 0)
        offset = np.append(0, np.cumsum(length.to_numpy(), dtype=np.int64))
        raw = lists.flatten()
    missing = pc.is_null(raw).to_numpy(zero_copy_only=False)
    return Column(feature, feature.store(raw, vocabularies), missing, offset)


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
        """A row's values, for every row of a table that has `_item` codes."""
        count = len(self._items)
        if feature.name not in self._of_item:
            raw = column(self._items, feature.name)
            self._of_item[feature.name] = stored(
                feature, raw, count, self._vocabularies
            )
        shared, code = self._of_item[feature.name], numpy(table, "_item")
        own = column(table, feature.name) if feature.name != ITEM_KEY else None
        if own is None:
            return shared.take(code)
        own = stored(feature, own, len(table), self._vocabularies)
        place = np.where(own.lacks, code, count + np.arange(len(table)))
        return shared.followed_by(own).take(place)
