"""A user's behaviors in the store: ordered and merged as the listwise job does it.

By time, then item, then behavior features, clicks last; of behaviors that are equal in
all that one stays, a click only if there is no other.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np

from ctr_tf.schema import ITEM_KEY, Schema

A_CLICK, A_BEHAVIOR = "click", "behavior"  # what a behavior is merged with


def own_columns(schema: Schema) -> tuple[list[str], list[str]]:
    """Behavior features, which tell behaviors apart, and item features of the row."""
    behavior = [f.name for f in schema.of("behavior") if not f.computed]
    item = [f.name for f in schema.of("item") if f.name != ITEM_KEY]
    return behavior, item


class Timeline:
    """One user's behaviors, oldest first.

    Args:
        columns: see `own_columns`.
        data: as `to_bytes` wrote it; no behaviors where None.
    """

    def __init__(self, columns: tuple[list[str], list[str]], data: bytes | None = None):
        self._identity, self._others = columns
        self.times: list[int] = []
        self.items: list = []
        self._is_click: list[bool] = []
        self.columns: dict[str, list] = {}
        if data is not None:
            time, self.items, click, self.columns = msgpack.unpackb(data)
            self.times = np.frombuffer(time, np.int64).tolist()
            self._is_click = np.frombuffer(click, np.bool_).tolist()

    def to_bytes(self) -> bytes:
        """For the store; columns without any value take no room."""
        columns = {
            name: values
            for name, values in self.columns.items()
            if any(value is not None for value in values)
        }
        time = np.array(self.times, np.int64).tobytes()
        click = np.array(self._is_click, np.bool_).tobytes()
        return msgpack.packb([time, self.items, click, columns])

    def add(self, time: int, item: int | str, is_click: bool, row: dict) -> str | None:
        """Adds a behavior.

        Args:
            time: in ticks, from which it is known.
            item: raw id.
            is_click: whether it is a clicked exposure.
            row: behavior features and the row's own item features; others may be there.

        Returns:
            What it was merged with: `A_CLICK`, an exposure's, `A_BEHAVIOR`, or None.
        """
        new = self._order(item, row.get)
        first, stop = bisect_left(self.times, time), bisect_right(self.times, time)
        place = first
        while place < stop:
            there = self._order(self.items[place], self._reader(place))
            if there == new:
                was = A_CLICK if self._is_click[place] else A_BEHAVIOR
                self._merge(place, is_click, row)
                return was
            if new < there:
                break
            place += 1
        self.times.insert(place, time)
        self.items.insert(place, item)
        self._is_click.insert(place, is_click)
        for name in (*self._identity, *self._others):
            value = row.get(name)
            if name not in self.columns:
                if value is None:
                    continue
                self.columns[name] = [None] * (len(self.times) - 1)
            self.columns[name].insert(place, value)
        return None

    def remove_click(self, time: int, item: int | str, row: dict) -> None:
        """Takes a clicked exposure back, where it stands as one."""
        wanted = self._order(item, row.get)
        for place in range(bisect_left(self.times, time), len(self.times)):
            if self.times[place] != time:
                return
            there = self._order(self.items[place], self._reader(place))
            if self._is_click[place] and there == wanted:
                columns = self.columns.values()
                for values in (self.times, self.items, self._is_click, *columns):
                    del values[place]
                return

    def forget(self, time: int, keep: int, since: int) -> None:
        """Keeps of the behaviors before a time only the latest.

        Args:
            time: in ticks.
            keep: how many.
            since: earlier ones are not kept at all.
        """
        count = bisect_left(self.times, time) - keep
        count = max(count, bisect_left(self.times, since))
        if count > 0:
            lists = (self.times, self.items, self._is_click, *self.columns.values())
            for values in lists:
                del values[:count]

    def before(self, time: int, length: int, since: int) -> slice:
        """Where the latest behaviors strictly before a time, since another, are."""
        stop = bisect_left(self.times, time)
        return slice(max(bisect_left(self.times, since), stop - length), stop)

    def _merge(self, place: int, is_click: bool, row: dict) -> None:
        """Of equals the one that the job would keep: no click, then by content."""
        names = self._others
        new = is_click, [rank(row.get(name)) for name in names]
        read = self._reader(place)
        if new < (self._is_click[place], [rank(read(name)) for name in names]):
            self._is_click[place] = is_click
            for name in names:
                if name not in self.columns and row.get(name) is not None:
                    self.columns[name] = [None] * len(self.times)
                if name in self.columns:
                    self.columns[name][place] = row.get(name)

    def _order(self, item: int | str, read: Callable) -> tuple:
        return rank(item), [rank(read(name)) for name in self._identity]

    def _reader(self, place: int) -> Callable[[str], Any]:
        columns = self.columns
        return lambda name: columns[name][place] if name in columns else None


def rank(value: Any) -> tuple:
    """What values are ordered by: null first; lists entry by entry."""
    if isinstance(value, list):
        return True, [rank(entry) for entry in value]
    return value is not None, value
