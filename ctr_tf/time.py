"""Time features in NumPy, for the jobs; `ctr_tf.time_ops` has them for the graph.

Times are int64 seconds since 1970-01-01 UTC and stay integers throughout. The two
modules have the same functions with the same rules, and a test holds them equal.
"""

import datetime
import functools
import re
import zoneinfo
from collections.abc import Callable
from importlib import resources
from typing import Any

import numpy as np

from ctr_tf.errors import UserError, unknown_name

HOUR = 3_600
DAY = 86_400
_DURATION_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
MIN_TIME = 100_000_000  # of 1973; what is less is told, where it may be no unix seconds
MAX_TIME = 1 << 33  # the year 2242; later times, milliseconds above all, are mistakes


def parse_duration(text: str | int, may_be_zero: bool = False) -> int:
    """Reads a duration such as ``"2h"``, ``"3d"``, ``"30m"`` or ``"45s"``.

    Args:
        text: the duration; a bare integer counts seconds.
        may_be_zero: whether it may be none at all.

    Returns:
        Seconds, positive (or 0).

    Raises:
        UserError: if it is no such duration or not positive.
    """
    match = re.fullmatch(r"(\d+)([smhd]?)", str(text).strip())
    seconds = int(match[1]) * _DURATION_UNITS[match[2] or "s"] if match else -1
    if seconds < 0 or (seconds == 0 and not may_be_zero):
        raise UserError(
            f"A duration is a {'' if may_be_zero else 'positive '}whole number and a "
            f"unit, s, m, h or d (such as '2h'). Received: {text!r}"
        )
    return seconds


def day_before(time: Any, span: int, ticks: int = 1) -> Any:
    """When the UTC day begins that is some time before another.

    Args:
        time: int64, a number, an array or a tensor, in ticks.
        span: seconds.
        ticks: units of `time` in a second.
    """
    day = DAY * ticks
    return (time - span * ticks) // day * day


def duration(seconds: int) -> str:
    """The two largest units of a duration, such as ``3 d 4 h`` or ``12 s``."""
    rest = int(seconds)
    parts: list[str] = []
    for unit, size in reversed(_DURATION_UNITS.items()):
        if rest >= size or parts or unit == "s":
            parts.append(f"{rest // size} {unit}")
            rest %= size
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part[0] != "0" or len(parts) == 1)


@functools.cache
def transitions(zone: str) -> tuple[np.ndarray, np.ndarray]:
    """When a zone's local time changes, from 1970 to `MAX_TIME`.

    Args:
        zone: such as `"Europe/Copenhagen"`.

    Returns:
        int64 both: unix seconds from which each offset holds, the first 0; and the
        offsets, local time minus UTC in seconds.

    Raises:
        UserError: names the zone.
    """
    offset = _offset_of(zone)
    days = range(0, MAX_TIME + DAY, DAY)
    starts, offsets, last = [0], [offset(0)], offset(0)
    for day in days:
        now = offset(day)
        if now != last:
            low, high = day - DAY, day
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if offset(middle) == now else (middle, high)
            starts.append(high)
            offsets.append(now)
            last = now
    return np.array(starts, np.int64), np.array(offsets, np.int64)


def _offset_of(zone: str) -> Callable[[int], int]:
    # The package's own data, not the machine's: the same zone everywhere.
    data = resources.files("tzdata")
    names = (data / "zones").read_text("utf-8").split()
    if zone not in names:
        raise UserError(unknown_name("time zone", zone, names))
    with data.joinpath("zoneinfo", *zone.split("/")).open("rb") as file:
        info = zoneinfo.ZoneInfo.from_file(file, key=zone)
    start = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

    def offset(time: int) -> int:
        moment = (start + datetime.timedelta(seconds=time)).astimezone(info)
        ahead = moment.utcoffset()
        assert ahead is not None  # `moment` has a zone
        return int(ahead.total_seconds())

    return offset


def local_time(time: np.ndarray, zone: int | str = 0) -> np.ndarray:
    """Seconds on the local clock, as if they were UTC.

    Args:
        time: int64 seconds, any shape.
        zone: local time minus UTC in seconds, or the name of a time zone, whose
            daylight saving is exact from 1970 to `MAX_TIME`.

    Returns:
        int64, the shape of `time`.
    """
    if not isinstance(zone, str):
        return time + zone
    starts, offsets = transitions(zone)
    return time + offsets[np.maximum(np.searchsorted(starts, time, "right") - 1, 0)]


def hour_of_day(time: np.ndarray, zone: int | str = 0) -> np.ndarray:
    """Local hour, 0 … 23.

    Args:
        time: int64 seconds, any shape.
        zone: of local time; see `ctr_tf.time.local_time`.

    Returns:
        int64, the shape of `time`.
    """
    return local_time(time, zone) // HOUR % 24


def is_weekend(time: np.ndarray, zone: int | str = 0) -> np.ndarray:
    """1 on Saturday and Sunday in local time, else 0.

    Args:
        time: int64 seconds, any shape.
        zone: of local time; see `ctr_tf.time.local_time`.

    Returns:
        int64, the shape of `time`.
    """
    weekday = (local_time(time, zone) // DAY + 3) % 7  # 1970-01-01 was a Thursday
    return (weekday >= 5).astype(np.int64)


def log2_bucket(value: np.ndarray) -> np.ndarray:
    """``floor(log2(max(value, 1)))``, exact for every int64.

    Args:
        value: int64, any shape.

    Returns:
        int64 in 0 … 62, the shape of `value`.
    """
    rest = np.maximum(np.asarray(value, np.int64), 1)
    bucket = np.zeros_like(rest)
    for shift in (32, 16, 8, 4, 2, 1):
        above = rest >= np.int64(1) << shift
        bucket += np.where(above, shift, 0)
        rest = np.where(above, rest >> shift, rest)
    return bucket


def chunk_ids(time: np.ndarray, valid: np.ndarray, num_chunks: int) -> np.ndarray:
    """TimeChunking: cuts each history at its largest gaps (SparseCTR, section 3.4.1).

    The `num_chunks - 1` largest gaps between adjacent valid behaviors cut; of equal
    gaps the later cuts first. A history of at most `num_chunks` behaviors gets one
    chunk a behavior.

    Args:
        time: `[B, N]` int64 seconds, left-padded, oldest first.
        valid: `[B, N]` bool, False on padding.
        num_chunks: P, positive.

    Returns:
        `[B, N]` int64: 0 on padding, then 1 … P, oldest chunk first.
    """
    if num_chunks < 1:
        raise UserError(
            f"`num_chunks` must be positive. Received: num_chunks={num_chunks}"
        )
    rows, length = time.shape
    key = np.full((rows, length), -1, np.int64)
    gap = np.clip(time[:, 1:] - time[:, :-1], 0, MAX_TIME)
    position = np.arange(1, length, dtype=np.int64)
    key[:, 1:] = np.where(valid[:, 1:] & valid[:, :-1], gap * length + position, -1)
    cuts = min(num_chunks - 1, length)
    if cuts == 0:
        return valid.astype(np.int64)
    threshold = np.partition(key, length - cuts, axis=1)[:, length - cuts, None]
    cut = (key >= np.maximum(threshold, 0)) & valid
    return np.where(valid, np.cumsum(cut, axis=1) + 1, 0)
