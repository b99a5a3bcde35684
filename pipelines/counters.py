"""Point-in-time counters: how often something happened strictly before a request.

All of them are two binary searches in one sorted array, for all requests at once.
"""

import numpy as np

from ctr_tf.schema import MISSING, parse_duration

NEVER = MISSING["int64"]
TIME_BITS = 33  # `ctr_tf.time.MAX_TIME` is 1 << 33


class EventIndex:
    """Events of many groups by time.

    Args:
        group: int64 below 2^30, the group of each event.
        time: int64 seconds below `MAX_TIME`, of each event.
    """

    def __init__(self, group: np.ndarray, time: np.ndarray):
        self._key = np.sort((group << TIME_BITS) | time)

    def before(self, group: np.ndarray, time: np.ndarray | int) -> np.ndarray:
        """Place of each group's first event from `time` on; differences are counts."""
        return np.searchsorted(self._key, (group << TIME_BITS) | np.maximum(time, 0))

    def time_at(self, place: np.ndarray, group: np.ndarray) -> np.ndarray:
        """Time of the event at a place, or -1 where it is of another group."""
        if not len(self._key):
            return np.full(len(place), -1, np.int64)
        key = self._key[np.clip(place, 0, len(self._key) - 1)]
        found = (place >= 0) & (place < len(self._key)) & (key >> TIME_BITS == group)
        return np.where(found, key & ((1 << TIME_BITS) - 1), -1)


def item_counters(
    item: np.ndarray,
    time: np.ndarray,
    request_time: np.ndarray,
    clicked: np.ndarray,
    windows: tuple[str, ...],
) -> dict[str, np.ndarray]:
    """Impressions and clicks of every candidate's item over all users, and its age.

    Args:
        item: code of the item of each exposure.
        time: of the exposure itself.
        request_time: as of when to count.
        clicked: whether the exposure was clicked.
        windows: durations, see `Schema.counter_windows`.

    Returns:
        Feature name → int64, one an exposure.
    """
    indexes = {"impressions": EventIndex(item, time)}
    indexes["clicks"] = EventIndex(item[clicked], time[clicked])
    counters = {}
    for what, index in indexes.items():
        now = index.before(item, request_time)
        for window in windows:
            since = request_time - parse_duration(window)
            counters[f"{what}_{window}"] = now - index.before(item, since)
    shown = indexes["impressions"]
    first = shown.time_at(shown.before(item, 0), item)
    age = request_time - first  # the exposure itself is an event of its item
    return counters | {"item_age": np.where(age > 0, age, NEVER)}


def user_item_counters(
    pair: np.ndarray, time: np.ndarray, request_time: np.ndarray, clicked: np.ndarray
) -> dict[str, np.ndarray]:
    """What the same user saw and clicked of the same item before.

    Args:
        pair: code of the (user, item) of each exposure.
        time: of the exposure itself.
        request_time: as of when to count.
        clicked: whether the exposure was clicked.

    Returns:
        Feature name → int64, one an exposure.
    """
    indexes = {"impressions": ("since_shown", EventIndex(pair, time))}
    clicks = EventIndex(pair[clicked], time[clicked])
    indexes["clicks"] = ("since_clicked", clicks)
    counters = {}
    for what, (since, index) in indexes.items():
        now = index.before(pair, request_time)
        counters[f"user_{what}"] = now - index.before(pair, 0)
        last = index.time_at(now - 1, pair)
        counters[since] = np.where(last < 0, NEVER, request_time - last)
    return counters
