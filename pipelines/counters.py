"""Point-in-time counters: how often something happened strictly before a request.

All of them are two binary searches in one sorted array, for all requests at once. An
impression counts from its time on, a click from when it could be known. A window is
`[request - window, request)`, by the log's own time resolution; ages are whole seconds.
"""

import numpy as np

from ctr_tf.schema import MISSING, Schema, parse_duration

NEVER = MISSING["int64"]
NO_CLICK = -1  # in place of the time at which a click is known


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


def item_counters(
    item: np.ndarray,
    time: np.ndarray,
    click_time: np.ndarray,
    request_time: np.ndarray,
    schema: Schema,
) -> dict[str, np.ndarray]:
    """Impressions and clicks of every candidate's item over all users, and its age.

    Args:
        item: code of the item of each exposure.
        time: of the exposure itself, in the log's unit, as all times here.
        click_time: when its click could be known, `NO_CLICK` without one.
        request_time: as of when to count.
        schema: of the data set.

    Returns:
        Feature name → int64, one an exposure.
    """
    indexes = _indexes(item, time, click_time)
    counters = {}
    for what, index in indexes.items():
        now = index.before(item, request_time)
        for window in schema.counter_windows:
            since = request_time - parse_duration(window) * schema.ticks
            counters[f"{what}_{window}"] = now - index.before(item, since)
    shown = indexes["impressions"]
    first = shown.time_at(shown.before(item, 0), item)
    age = request_time - first  # the exposure itself is an event of its item
    return counters | {"item_age": np.where(age > 0, age // schema.ticks, NEVER)}


def user_item_counters(
    pair: np.ndarray,
    time: np.ndarray,
    click_time: np.ndarray,
    request_time: np.ndarray,
    schema: Schema,
) -> dict[str, np.ndarray]:
    """What the same user saw and clicked of the same item before.

    Args:
        pair: code of the (user, item) of each exposure.
        time: of the exposure itself, in the log's unit, as all times here.
        click_time: when its click could be known, `NO_CLICK` without one.
        request_time: as of when to count.
        schema: of the data set.

    Returns:
        Feature name → int64, one an exposure.
    """
    since = {"impressions": "since_shown", "clicks": "since_clicked"}
    counters = {}
    for what, index in _indexes(pair, time, click_time).items():
        now = index.before(pair, request_time)
        counters[f"user_{what}"] = now - index.before(pair, 0)
        last = index.time_at(now - 1, pair)
        age = (request_time - last) // schema.ticks
        counters[since[what]] = np.where(last < 0, NEVER, age)
    return counters


def _indexes(
    group: np.ndarray, time: np.ndarray, click_time: np.ndarray
) -> dict[str, EventIndex]:
    clicked = click_time != NO_CLICK
    return {
        "impressions": EventIndex(group, time),
        "clicks": EventIndex(group[clicked], click_time[clicked]),
    }
