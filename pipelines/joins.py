"""How well the raw tables of a bucket of users fit together, as counts to be added."""

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.computed.counters import NO_CLICK, NOT_SHOWN
from ctr_tf.computed.event_index import EventIndex
from ctr_tf.errors import UserError
from ctr_tf.schema import ITEM_KEY, USER_KEY
from ctr_tf.time import HOUR
from pipelines.arrow import column, numpy
from pipelines.exposures import request_codes

_ENOUGH = 20  # users or rows without a row of theirs, none with one: no accident

# Table, its key, counts (of the functions below) of what does and does not fit, and
# what is said where nothing does.
_JOINS = (
    (
        "users",
        USER_KEY,
        ("users known",),
        ("users unknown",),
        "No row of `users` fits any of {:,} users with requests",
    ),
    (
        "items",
        ITEM_KEY,
        ("candidates with item row", "behaviors with item row"),
        ("candidates without item row", "behaviors without item row"),
        "No row of `items` fits any of {:,} candidates and behaviors",
    ),
    (
        "behaviors",
        USER_KEY,
        ("behaviors of users with requests",),
        ("behaviors of users without requests",),
        "None of {:,} rows of `behaviors` is of a user with requests",
    ),
)


def check_joins(
    _: bytes, counts: Mapping[str, int], ids: Iterable[tuple[tuple[str, str], str]]
) -> None:
    """Before counters and samples are made of it, and not in the summary behind them.

    Args:
        counts: of all buckets of users.
        ids: ((table, key), an id of it), of some rows of the raw tables that are fit
            for use. A table without one is not judged, and none without exposures:
            others tell what is lacking.

    Raises:
        UserError: for a table of which no row fits anything.
    """
    example = dict(sorted(ids, reverse=True))
    for table, key, known, unknown, message in _JOINS:
        found, missing = (
            sum(counts.get(f"join {name}", 0) for name in names)
            for names in (known, unknown)
        )
        judged = {(table, key), ("exposures", key)} <= example.keys()
        if found or missing < _ENOUGH or not judged:
            continue
        raise UserError(
            f"{message.format(missing)}. Is `{key}` written alike in both tables? One "
            f"of the exposures is {example[('exposures', key)]!r}, one of {table} "
            f"{example[table, key]!r}. "
            "To go on without the table, take its files out of the folder, or let "
            "their names begin with `_`"
        )


def count_users(
    user_ids: pa.Array, active: np.ndarray, profiles: pa.Table
) -> dict[str, int]:
    """Users who have requests, with and without a row of the users' table."""
    known = np.zeros(len(user_ids), bool)
    if len(profiles):
        found = pc.is_in(user_ids, value_set=column(profiles, USER_KEY))
        known = found.to_numpy(zero_copy_only=False)
    return {
        "join users known": int((active & known).sum()),
        "join users unknown": int((active & ~known).sum()),
    }


def count_behaviors(behaviors: pa.Table, active: np.ndarray) -> dict[str, int]:
    """Behaviors of the log, of users who have requests, and of others.

    Args:
        behaviors: with codes `_user`.
        active: bool, whether each user code has requests.
    """
    known = int(active[numpy(behaviors, "_user")].sum())
    return {
        "join behaviors of users with requests": known,
        "join behaviors of users without requests": len(behaviors) - known,
    }


def count_items(
    candidates: pa.Table, timeline: pa.Table, known: np.ndarray
) -> dict[str, int]:
    """Candidates and behaviors, with and without a row of the items' table.

    Args:
        candidates: of a bucket.
        timeline: of the bucket.
        known: bool, whether each item code has a row.
    """
    counts = {}
    for what, table in (("candidates", candidates), ("behaviors", timeline)):
        found = int(known[numpy(table, "_item")].sum())
        counts[f"join {what} with item row"] = found
        counts[f"join {what} without item row"] = len(table) - found
    return counts


def count_late_clicks(shown: pa.Table, num_items: int, gap: int) -> dict[str, int]:
    """Clicks without request id that may be second rows of what was shown before.

    Args:
        shown: exposures, see `merge_exposures`.
        num_items: how many item codes there are.
        gap: the session gap, in the log's time unit.

    Returns:
        How many are of an item that their user was shown within the gap before, and has
        not clicked there.
    """
    pair = numpy(shown, "_user") * num_items + numpy(shown, "_item")
    time = numpy(shown, "time")
    clicked = numpy(shown, "_click_time") != NO_CLICK
    before = ~clicked & (time != NOT_SHOWN)
    index = EventIndex(pair[before], time[before])
    alone = clicked & (request_codes(shown) < 0)
    pair, time = pair[alone], time[alone]
    again = index.before(pair, time) > index.before(pair, time - gap + 1)
    return {"join clicks of items just shown unclicked": int(again.sum())}


def count_clicks(
    shown: pa.Table, raw: pa.Table, num_items: int, ticks: int
) -> dict[str, int]:
    """Clicks, and how many of them the raw behaviors tell again within an hour.

    Args:
        shown: exposures, see `merge_exposures`.
        raw: behaviors of the log.
        num_items: how many item codes there are.
        ticks: units of the log's time in a second.
    """
    clicks = shown.filter(pc.not_equal(shown.column("_click_time"), NO_CLICK))
    again = 0
    if len(raw) and len(clicks):
        pair, told = (
            numpy(table, "_user") * num_items + numpy(table, "_item")
            for table in (clicks, raw)
        )
        index, time = EventIndex(told, numpy(raw, "time")), numpy(clicks, "time")
        later = index.before(pair, time + HOUR * ticks + 1)
        again = int((later > index.before(pair, time)).sum())
    return {"join clicks": len(clicks), "join clicks again in behaviors": again}
