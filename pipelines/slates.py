"""Pairwise rows → slates: which candidates were shown together, and when.

With a request id a slate is the rows of one user and request; an id that comes back
after the session gap or later is another slate. Without one it is a run of a user's
rows closer than the session gap; an item that comes again later begins the next slate,
so that a slate shows an item once. A slate's request time is that of its first row.

Rows of one slate and item are one exposure.
"""

import dataclasses

import numpy as np

from pipelines.arrow import begins_of, order_by


def find_duplicates(code: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Marks the rows of each code, all but the first.

    Args:
        code: what must be there once.
        row: where it came from; decides which is the first.

    Returns:
        bool, True for what is to be put aside.
    """
    order = order_by(code, row)
    duplicate = np.zeros(len(order), bool)
    duplicate[order[1:]] = np.diff(code[order]) == 0
    return duplicate


@dataclasses.dataclass
class Slates:
    """The slate of every exposure.

    Args:
        slate: its code, counted from 0.
        request_time: when the slate began.
        returned: whether it is a later slate of a request id that came back.
    """

    slate: np.ndarray
    request_time: np.ndarray
    returned: np.ndarray


def find_slates(
    user: np.ndarray,
    request: np.ndarray,
    time: np.ndarray,
    item: np.ndarray,
    session_gap: int,
) -> Slates:
    """Groups exposures into slates.

    Args:
        user: code of each row's user.
        request: code of its request id, -1 where it has none.
        time: in any unit.
        item: code of its item.
        session_gap: in the same unit.

    Returns:
        The slate of each row.
    """
    slate = np.empty(len(user), np.int64)
    returned = np.zeros(len(user), bool)
    known = np.flatnonzero(request >= 0)
    unknown = np.flatnonzero(request < 0)
    pair = user[known] * (request.max(initial=0) + 1) + request[known]
    slate[known], returned[known] = _requests(pair, time[known], session_gap)
    sessions = _sessions(user[unknown], time[unknown], item[unknown], session_gap)
    slate[unknown] = sessions + slate[known].max(initial=-1) + 1
    request_time = np.full(slate.max(initial=-1) + 1, np.iinfo(np.int64).max)
    np.minimum.at(request_time, slate, time)
    return Slates(slate, request_time[slate], returned)


def _requests(
    pair: np.ndarray, time: np.ndarray, gap: int
) -> tuple[np.ndarray, np.ndarray]:
    """Slates of rows with a request id, and which are not the first of their id."""
    order = order_by(pair, time)
    pair, time = pair[order], time[order]
    first = begins_of(pair)
    begins = first.copy()
    begins[1:] |= np.diff(time) >= gap
    number = np.cumsum(begins) - 1
    slate, returned = np.empty_like(order), np.empty(len(order), bool)
    slate[order] = number
    # Slates counted from the first one of the id.
    returned[order] = number > np.maximum.accumulate(np.where(first, number, 0))
    return slate, returned


def _sessions(
    user: np.ndarray, time: np.ndarray, item: np.ndarray, gap: int
) -> np.ndarray:
    order = order_by(user, time, item)
    user, time, item = user[order], time[order], item[order]
    once = begins_of(user, time, item)
    begins = begins_of(user[once])
    begins[1:] |= np.diff(time[once]) >= gap
    _cut_at_repeats(begins, item[once])
    session = np.empty(len(order), np.int64)
    session[order] = (np.cumsum(begins) - 1)[np.cumsum(once) - 1]
    return session


def _cut_at_repeats(begins: np.ndarray, item: np.ndarray) -> None:
    """Begins a slate, in place, where an item comes again; visits such runs only."""
    run = np.cumsum(begins) - 1
    order = order_by(run, item, np.arange(len(item)))
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
