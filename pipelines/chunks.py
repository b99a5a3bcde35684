"""TimeChunking of many histories that are windows of one timeline.

The rule is `ctr_tf.time.chunk_ids`, and a test holds the two equal. Gaps are compared
by their rank in the timeline, computed once, so that a window only looks for its
largest ranks.
"""

import numpy as np

_BLOCK = 1 << 20  # positions worked on at a time


def window_chunks(
    time: np.ndarray, start: np.ndarray, stop: np.ndarray, num_chunks: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chunk ids of windows of a timeline.

    Args:
        time: int64 seconds, ascending within every window.
        start: first row of each window.
        stop: one past its last row.
        num_chunks: P, positive.

    Returns:
        Ids, uint8 where they fit, and two int64 arrays that say where in them each
        window's begin and end. The ids of a window are 1 … P, oldest first.
    """
    length = stop - start
    dtype = np.uint8 if num_chunks < 256 else np.int64
    rank = _gap_ranks(time)
    begins = np.zeros(len(length), np.int64)
    blocks, done, used = [], 0, 0
    longest_first = np.argsort(-length, kind="stable")
    while done < len(length) and length[longest_first[done]]:
        width = int(length[longest_first[done]])
        rows = longest_first[done : done + max(1, _BLOCK // width)]
        ids = _chunk_block(rank, stop[rows], length[rows], num_chunks, dtype)
        begins[rows] = used + np.arange(1, len(rows) + 1) * width - length[rows]
        blocks.append(ids.ravel())
        done, used = done + len(rows), used + ids.size
    ids = np.concatenate(blocks) if blocks else np.empty(0, dtype)
    return ids, begins, begins + length


def _gap_ranks(time: np.ndarray) -> np.ndarray:
    """Rank, from 0, of the gap before each row; of equal gaps the later is larger."""
    gap = np.diff(time, prepend=time[:1])
    rank = np.empty(len(time), np.int32)
    rank[np.argsort(np.maximum(gap, 0), kind="stable")] = np.arange(len(time))
    return rank


def _chunk_block(
    rank: np.ndarray,
    stop: np.ndarray,
    length: np.ndarray,
    num_chunks: int,
    dtype: type,
) -> np.ndarray:
    """Chunk ids of some windows, right-aligned; what stands left of them is void."""
    width = int(length.max())
    position = np.arange(width)
    key = rank[np.maximum(stop[:, None] - width + position, 0)]
    # The first row of a window has no gap before it.
    key[position <= (width - length)[:, None]] = -1
    cuts = min(num_chunks - 1, width)
    if not cuts:
        return np.ones(key.shape, dtype)
    threshold = np.partition(key, width - cuts, axis=1)[:, width - cuts, None]
    cut = key >= np.maximum(threshold, 0)
    return np.cumsum(cut, axis=1, dtype=dtype) + dtype(1)
