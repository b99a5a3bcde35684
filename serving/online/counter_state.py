"""What the store keeps of one value of a counter: buckets of events, not events.

An entry a bucket of the counter's resolution that has events: the time of the last one
and how many there were up to and including it, since ever. So a count before a time is
one binary search, and what is older than the longest window is one number; or, where
the schema has a horizon, one entry a day.
"""

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable

import numpy as np

_HEAD = struct.Struct("<qqqqqII")  # first; base and its time, of both; entries of both
IMPRESSION, CLICK = 0, 1


class CounterState:
    """Impressions and clicks of one value.

    Args:
        data: as `to_bytes` wrote it; nothing happened yet where None.
    """

    __slots__ = ("_base", "_base_time", "_first", "_firsts", "_times", "_totals")

    def __init__(self, data: bytes | None = None):
        self._first, self._base, self._base_time = -1, [0, 0], [-1, -1]
        self._times, self._totals = (array("q"), array("q")), (array("q"), array("q"))
        self._firsts = array("q")  # of each day of which only the last is kept
        if data is None:
            return
        self._first, *rest, shown, clicked = _HEAD.unpack_from(data)
        self._base, self._base_time = rest[:2], rest[2:]
        place = _HEAD.size
        for kind, count in ((IMPRESSION, shown), (CLICK, clicked)):
            for target in (self._times[kind], self._totals[kind]):
                target.frombytes(data[place : place + 8 * count])
                place += 8 * count
        self._firsts.frombytes(data[place:])

    def to_bytes(self) -> bytes:
        """52 bytes, 16 for every bucket of impressions or clicks, 8 a day of firsts."""
        head = _HEAD.pack(
            self._first, *self._base, *self._base_time, *map(len, self._times)
        )
        parts = (
            *(self._times[0], self._totals[0], self._times[1], self._totals[1]),
            self._firsts,
        )
        return head + b"".join(part.tobytes() for part in parts)

    def add(self, kind: int, new: list[int], resolution: int) -> None:
        """Counts events more.

        Args:
            kind: `IMPRESSION` or `CLICK`.
            new: their times in ticks, in any order.
            resolution: of the counter.
        """
        if not new:
            return
        if kind == IMPRESSION:
            known = [self._first] if self._first >= 0 else []
            self._first = min(*new, *known, new[0])
        times, totals = self._times[kind], self._totals[kind]
        if len(new) == 1 and (not times or new[0] >= times[-1]):
            self._append(kind, new[0], resolution)
            return
        count = np.diff(np.array(totals), prepend=self._base[kind])
        time = np.concatenate([np.array(times, np.int64), np.array(new, np.int64)])
        count = np.concatenate([count, np.ones(len(new), np.int64)])
        order = np.argsort(time, kind="stable")
        time, count = time[order], count[order]
        begins = _begins(time // resolution)
        ends = np.append(np.flatnonzero(begins)[1:], len(time)) - 1
        total = self._base[kind] + np.cumsum(count)[ends]
        for target, values in ((times, time[ends]), (totals, total)):
            del target[:]
            target.frombytes(values.astype(np.int64).tobytes())

    def _append(self, kind: int, time: int, resolution: int) -> None:
        """Counts one event at or after all others."""
        times, totals = self._times[kind], self._totals[kind]
        if times and times[-1] // resolution == time // resolution:
            times[-1] = time
            totals[-1] += 1
        else:
            totals.append((totals[-1] if totals else self._base[kind]) + 1)
            times.append(time)

    def remove(self, kind: int, time: int, resolution: int, day: int = 0) -> None:
        """Takes one event back; others of its bucket stay as late as it was.

        Args:
            kind: `IMPRESSION` or `CLICK`.
            time: of the event, in ticks.
            resolution: of the counter.
            day: ticks, where `thin` may have left one entry of its day.
        """
        times, totals = self._times[kind], self._totals[kind]
        place = bisect_left(times, time // resolution * resolution)
        if not place:
            of_bucket = times and times[0] // resolution == time // resolution
            of_day = times and day and times[0] // day == time // day
            if not (of_bucket or of_day):  # in what is but a sum by now
                self._base[kind] -= 1
        for later in range(place, len(totals)):
            totals[later] -= 1
        before = totals[place - 1] if place else self._base[kind]
        if place < len(totals) and totals[place] == before:
            del times[place], totals[place]

    def forget(self, before: int) -> None:
        """Keeps of the entries before a bucket's beginning nothing but their sum."""
        for kind in (IMPRESSION, CLICK):
            times, totals = self._times[kind], self._totals[kind]
            count = bisect_left(times, before)
            if count:
                self._base[kind] = totals[count - 1]
                self._base_time[kind] = max(times[count - 1], self._base_time[kind])
                del times[:count], totals[:count]
        del self._firsts[: bisect_left(self._firsts, before)]

    def thin(self, before: int, day: int, with_firsts: bool) -> None:
        """Keeps of the entries before a time only each day's last, its sum.

        Args:
            before: in ticks.
            day: ticks.
            with_firsts: whether the bucket of each day's first impression is asked for.
        """
        for kind in (IMPRESSION, CLICK):
            times, totals = self._times[kind], self._totals[kind]
            count = bisect_left(times, before)
            if not count:
                continue
            if kind == IMPRESSION and with_firsts:
                every = np.sort(np.array([*self._firsts, *times[:count]], np.int64))
                self._firsts = array("q", every[_begins(every // day)].tobytes())
            days = np.array(times[:count]) // day
            kept = np.append(days[1:] != days[:-1], True)
            for target in (times, totals):
                values = np.array(target[:count])[kept]
                target[:count] = array("q", values.tobytes())

    def before(self, kind: int, time: int | None) -> int:
        """Events before a bucket's beginning; of None, before all."""
        if time is None:
            return 0
        place = bisect_left(self._times[kind], time)
        return self._totals[kind][place - 1] if place else self._base[kind]

    def last_before(self, kind: int, time: int) -> int:
        """Time of the last event before a bucket's beginning, or -1."""
        place = bisect_left(self._times[kind], time)
        return self._times[kind][place - 1] if place else self._base_time[kind]

    def first(self, since: int | None) -> int:
        """Time of the first impression, or -1; from a day on, one of its bucket."""
        if since is None:
            return self._first
        found = [
            times[place]
            for times in (self._firsts, self._times[IMPRESSION])
            if (place := bisect_left(times, since)) < len(times)
        ]
        return min(found, default=-1)


def _begins(groups: np.ndarray) -> np.ndarray:
    """Whether a group, of those side by side, begins here."""
    return np.diff(groups, prepend=-1) != 0


class StateEvents:
    """Events of many values, as `Counter.values` asks for them.

    Args:
        states: one a candidate.
        kind: `IMPRESSION` or `CLICK`.
    """

    def __init__(self, states: list[CounterState], kind: int):
        self._states = states
        self._kind = kind

    def before(self, time: int | None) -> np.ndarray:
        """See `ctr_tf.computed.event_index.GroupEvents`."""
        return self._array(state.before(self._kind, time) for state in self._states)

    def last_before(self, time: int) -> np.ndarray:
        """See `ctr_tf.computed.event_index.GroupEvents`."""
        kind = self._kind
        return self._array(state.last_before(kind, time) for state in self._states)

    def first(self, since: int | None) -> np.ndarray:
        """See `ctr_tf.computed.event_index.GroupEvents`."""
        return self._array(state.first(since) for state in self._states)

    def _array(self, values: Iterable[int]) -> np.ndarray:
        return np.fromiter(values, np.int64, len(self._states))
