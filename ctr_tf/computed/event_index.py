"""Events of many groups by time, in sorted arrays: the batch form of counters."""

import dataclasses
from typing import Any, Protocol

import numpy as np


class EventIndex:
    """Events of many groups by time, exact in any unit of time.

    A key holds group and time side by side; where they do not fit, a time's rank among
    all times stands in for it.

    Args:
        group: int64, the group of each event.
        time: int64, of each event.
    """

    def __init__(self, group: np.ndarray, time: np.ndarray):
        self._start = int(time.min()) if len(time) else 0
        self._end = int(time.max(initial=self._start)) - self._start + 1
        self._num_groups = int(group.max(initial=-1)) + 1
        self._times = None
        if self._num_groups.bit_length() + self._end.bit_length() > 63:
            self._times = np.unique(time)
            self._end = len(self._times)
        self._bits = self._end.bit_length()
        self._key = np.sort(self._keys(group, time))

    def _keys(self, group: np.ndarray, time: np.ndarray | int) -> np.ndarray:
        """Keys of events; a group or time after all others has a place after them."""
        if self._times is None:
            place = np.clip(time - self._start, 0, self._end)
        else:
            place = np.searchsorted(self._times, time)
        return (np.minimum(group, self._num_groups) << self._bits) | place

    def before(self, group: np.ndarray, time: np.ndarray | int) -> np.ndarray:
        """Place of each group's first event from `time` on; differences are counts."""
        wanted = self._keys(group, time)
        order = np.argsort(wanted)  # searching in order stays within the caches
        place = np.empty(len(wanted), np.int64)
        place[order] = np.searchsorted(self._key, wanted[order])
        return place

    def time_at(self, place: np.ndarray, group: np.ndarray) -> np.ndarray:
        """Time of the event at a place, or -1 where it is of another group."""
        if not len(self._key):
            return np.full(len(place), -1, np.int64)
        key = self._key[np.clip(place, 0, len(self._key) - 1)]
        found = (place >= 0) & (place < len(self._key)) & (key >> self._bits == group)
        time = key & ((1 << self._bits) - 1)
        time = time + self._start if self._times is None else self._times[time]
        return np.where(found, time, -1)


class Events(Protocol):
    """What a counter asks for: events of each candidate's group, or of its states."""

    def before(self, time: Any) -> np.ndarray:
        """See `GroupEvents`."""

    def last_before(self, time: Any) -> np.ndarray:
        """See `GroupEvents`."""

    def first(self, since: Any) -> np.ndarray:
        """See `GroupEvents`."""


@dataclasses.dataclass
class GroupEvents:
    """The events of one group for each of many candidates.

    Args:
        index: of all groups' events.
        group: int64, one a candidate.
    """

    index: EventIndex
    group: np.ndarray

    def before(self, time: np.ndarray | None) -> np.ndarray:
        """How many before a time, from any start; None: that start, without events."""
        return self.index.before(self.group, 0 if time is None else time)

    def last_before(self, time: np.ndarray) -> np.ndarray:
        """Time of the last one before a time, -1 where there is none."""
        return self.index.time_at(self.before(time) - 1, self.group)

    def first(self, since: np.ndarray | None) -> np.ndarray:
        """Time of the first one from a time on, -1 without one; None: of all."""
        return self.index.time_at(self.before(since), self.group)


@dataclasses.dataclass
class GroupSums:
    """The events of one group for each of many candidates, where only sums are known.

    Args:
        index: of the groups' buckets of time, each once, by group and time.
        total: events of all buckets before each one, and of all.
        first_time: of the events of each bucket, -1 without one; or of none, where
            nobody asks.
        group: int64, one a candidate; -1 for a group without any bucket.
    """

    index: EventIndex
    total: np.ndarray
    first_time: np.ndarray
    group: np.ndarray

    def before(self, time: np.ndarray | None) -> np.ndarray:
        """See `GroupEvents`; a bucket's beginning."""
        return self.total[self._place(time)]

    def last_before(self, time: np.ndarray) -> np.ndarray:
        """Not known: only a user's own events are asked for their last."""
        raise NotImplementedError("Sums do not tell the time of the last event.")

    def first(self, since: np.ndarray | None) -> np.ndarray:
        """See `GroupEvents`; since a bucket's beginning, that of its bucket."""
        known = self.total[self._place(since)]
        # The bucket by which the total grows next, which may be another group's.
        place = np.searchsorted(self.total, known, side="right") - 1
        begin = self.index.time_at(place, self.group)
        if since is not None:
            return begin
        found = self.first_time[np.minimum(place, len(self.first_time) - 1)]
        return np.where(begin < 0, -1, found)

    def _place(self, time: np.ndarray | None) -> np.ndarray:
        return self.index.before(self.group, 0 if time is None else time)
