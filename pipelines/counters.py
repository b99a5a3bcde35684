"""Point-in-time counters: how often something happened strictly before a request.

All of them are two binary searches in one sorted array, for all requests at once.
"""

import numpy as np

from ctr_tf.schema import parse_duration

TIME_BITS = 33  # `ctr_tf.time.MAX_TIME` is 1 << 33


class EventIndex:
    """Events of many groups by time.

    Args:
        group: int64 below 2^30, the group of each event.
        time: int64 seconds below `MAX_TIME`, of each event.
    """

    def __init__(self, group: np.ndarray, time: np.ndarray):
        self._key = np.sort((group << TIME_BITS) | time)

    def count(
        self, group: np.ndarray, since: np.ndarray | int, until: np.ndarray
    ) -> np.ndarray:
        """Events of each group with `since <= time < until`."""
        since = np.maximum(since, 0)
        return self._before(group, until) - self._before(group, since)

    def last_before(self, group: np.ndarray, until: np.ndarray) -> np.ndarray:
        """Time of each group's last event with `time < until`, or else -1."""
        return self._time_at(self._before(group, until) - 1, group)

    def first_before(self, group: np.ndarray, until: np.ndarray) -> np.ndarray:
        """Time of each group's first event if `time < until`, else -1."""
        time = self._time_at(self._before(group, np.zeros_like(until)), group)
        return np.where(time < until, time, -1)

    def _before(self, group: np.ndarray, time: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._key, (group << TIME_BITS) | time)

    def _time_at(self, index: np.ndarray, group: np.ndarray) -> np.ndarray:
        if not len(self._key):
            return np.full(len(index), -1, np.int64)
        key = self._key[np.clip(index, 0, len(self._key) - 1)]
        found = (index >= 0) & (index < len(self._key)) & (key >> TIME_BITS == group)
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
    shown, clicks = _shown_and_clicked(item, time, clicked)
    counters = {}
    for window in windows:
        since = request_time - parse_duration(window)
        for what, index in (("impressions", shown), ("clicks", clicks)):
            counters[f"{what}_{window}"] = index.count(item, since, request_time)
    first = shown.first_before(item, request_time)
    return counters | {"item_age": _elapsed(request_time, first)}


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
    shown, clicks = _shown_and_clicked(pair, time, clicked)
    last_shown = shown.last_before(pair, request_time)
    last_clicked = clicks.last_before(pair, request_time)
    return {
        "user_impressions": shown.count(pair, 0, request_time),
        "user_clicks": clicks.count(pair, 0, request_time),
        "since_shown": _elapsed(request_time, last_shown),
        "since_clicked": _elapsed(request_time, last_clicked),
    }


def _shown_and_clicked(
    group: np.ndarray, time: np.ndarray, clicked: np.ndarray
) -> tuple[EventIndex, EventIndex]:
    return EventIndex(group, time), EventIndex(group[clicked], time[clicked])


def _elapsed(request_time: np.ndarray, time: np.ndarray) -> np.ndarray:
    return np.where(time < 0, -1, request_time - time)
