"""Time features in NumPy, for the jobs; `ctr_tf.time_ops` has them for the graph.

Times are int64 seconds since 1970-01-01 UTC and stay integers throughout. The two
modules have the same functions with the same rules, and a test holds them equal.
"""

import numpy as np

HOUR = 3_600
DAY = 86_400
MAX_TIME = 1 << 33  # the year 2242; later times, milliseconds above all, are mistakes


def hour_of_day(time: np.ndarray, utc_offset: int = 0) -> np.ndarray:
    """Local hour, 0 … 23.

    Args:
        time: int64 seconds, any shape.
        utc_offset: local time minus UTC, seconds.

    Returns:
        int64, the shape of `time`.
    """
    return (time + utc_offset) // HOUR % 24


def is_weekend(time: np.ndarray, utc_offset: int = 0) -> np.ndarray:
    """1 on Saturday and Sunday in local time, else 0.

    Args:
        time: int64 seconds, any shape.
        utc_offset: local time minus UTC, seconds.

    Returns:
        int64, the shape of `time`.
    """
    weekday = ((time + utc_offset) // DAY + 3) % 7  # 1970-01-01 was a Thursday
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
        raise ValueError(
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
