"""Pairwise rows → slates: which candidates were shown together, and when.

With a request id a slate is the rows of one user and request. Without one it is a run
of a user's rows closer than the session gap; an item that comes again begins the next
slate, so that a slate shows an item once. A slate's request time is that of its first
row.
"""

import numpy as np


def find_duplicates(
    user: np.ndarray,
    request: np.ndarray,
    time: np.ndarray,
    item: np.ndarray,
    row: np.ndarray,
) -> np.ndarray:
    """Marks exposures of the same user, request and item, all but the first.

    Args:
        user: code of each row's user.
        request: code of its request id, -1 where it has none; such a row is a
            duplicate only if the time is equal, too.
        time: seconds.
        item: code of its item.
        row: where it came from; decides which of equal times is the first.

    Returns:
        bool, True for what is to be put aside.
    """
    order = np.lexsort((row, time, item, request, user))
    same = np.ones(max(len(order) - 1, 0), bool)
    for key in (user, request, item):
        same &= np.diff(key[order]) == 0
    same &= (request[order][1:] >= 0) | (np.diff(time[order]) == 0)
    duplicate = np.zeros(len(order), bool)
    duplicate[order[1:]] = same
    return duplicate


def find_slates(
    user: np.ndarray,
    request: np.ndarray,
    time: np.ndarray,
    item: np.ndarray,
    session_gap: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Groups exposures into slates.

    Args:
        user: code of each row's user.
        request: code of its request id, -1 where it has none.
        time: seconds.
        item: code of its item; no duplicates.
        session_gap: seconds.

    Returns:
        Code of each row's slate, counted from 0, and its request time.
    """
    slate = np.empty(len(user), np.int64)
    known = np.flatnonzero(request >= 0)
    unknown = np.flatnonzero(request < 0)
    pair = user[known] * (request.max(initial=0) + 1) + request[known]
    codes, slate[known] = np.unique(pair, return_inverse=True)
    sessions = _sessions(user[unknown], time[unknown], item[unknown], session_gap)
    slate[unknown] = sessions + len(codes)
    request_time = np.full(slate.max(initial=-1) + 1, np.iinfo(np.int64).max)
    np.minimum.at(request_time, slate, time)
    return slate, request_time[slate]


def _sessions(
    user: np.ndarray, time: np.ndarray, item: np.ndarray, gap: int
) -> np.ndarray:
    order = np.lexsort((item, time, user))
    user, time, item = user[order], time[order], item[order]
    begins = np.ones(len(order), bool)
    begins[1:] = (np.diff(user) != 0) | (np.diff(time) >= gap)
    _cut_at_repeats(begins, item)
    session = np.empty(len(order), np.int64)
    session[order] = np.cumsum(begins) - 1
    return session


def _cut_at_repeats(begins: np.ndarray, item: np.ndarray) -> None:
    """Begins a slate, in place, where an item comes again; visits such runs only."""
    run = np.cumsum(begins) - 1
    order = np.lexsort((np.arange(len(item)), item, run))
    again = (np.diff(run[order]) == 0) & (np.diff(item[order]) == 0)
    if not again.any():
        return
    previous = np.full(len(item), -1)
    previous[order[1:][again]] = order[:-1][again]
    starts = np.append(np.flatnonzero(begins), len(item))
    for number in np.unique(run[order[1:][again]]).tolist():
        start, stop = starts[number], starts[number + 1]
        for place in range(start, stop):
            if previous[place] >= start:
                begins[place] = True
                start = place
