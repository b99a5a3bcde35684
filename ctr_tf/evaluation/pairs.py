"""The one kernel behind AUC and GAUC: counts of rightly ordered pairs, by group.

AUC is the share of (clicked, not clicked) pairs in which the clicked candidate scores
higher; a tie counts one half, which equals the average rank. All counts are integers
(pairs won count twice, so that a tie's half is whole): nothing is rounded before the
last division, and parts of a data set add up exactly.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass
class PairCounts:
    """Counts of each group, int64 `[G]`.

    Args:
        positives: clicked candidates.
        negatives: candidates without a click.
        won_twice: twice the pairs won, a tie counting one half.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.evaluation import PairCounts
        >>> two, one = np.array([2]), np.array([1])
        >>> PairCounts(positives=two, negatives=one, won_twice=np.array([3])).auc()
        array([0.75])
    """

    positives: np.ndarray
    negatives: np.ndarray
    won_twice: np.ndarray

    @property
    def both(self) -> np.ndarray:
        """Whether each group has both classes, so that it has an AUC: bool `[G]`."""
        return (self.positives > 0) & (self.negatives > 0)

    def auc(self) -> np.ndarray:
        """The AUC of each group, float64 `[G]`; NaN where the group lacks a class."""
        pairs = self.positives.astype(np.float64) * self.negatives
        return np.divide(
            self.won_twice / 2, pairs, out=np.full(len(pairs), np.nan), where=self.both
        )


def pair_counts(
    group: np.ndarray, rank: np.ndarray, label: np.ndarray, num_groups: int
) -> PairCounts:
    """Counts pairs within groups, in one sort of all candidates.

    Args:
        group: `[n]` integers, 0 … num_groups - 1.
        rank: `[n]` integers from 0 that order the scores; equal scores, equal ranks.
        label: `[n]` integers, 0 or 1.
        num_groups: G.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.evaluation import pair_counts
        >>> user, rank = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 0])
        >>> click = np.array([0, 1, 1, 0, 1])
        >>> pair_counts(user, rank, click, num_groups=2).auc()  # a tie is one half
        array([1. , 0.5])
    """
    zeros = [np.zeros(num_groups, np.int64) for _ in range(3)]
    if len(group) == 0:
        return PairCounts(*zeros)
    width = int(rank.max()) + 1
    key = (group.astype(np.int64) * width + rank) * 2 + label
    key.sort()
    cell, is_positive = key >> 1, key & 1
    tie_start = _starts(cell)
    positives = np.add.reduceat(is_positive, tie_start)
    negatives = np.diff(tie_start, append=len(cell)) - positives
    owner = cell[tie_start] // width
    group_start = _starts(owner)
    below = np.cumsum(negatives) - negatives
    ties = np.diff(group_start, append=len(owner))
    below -= np.repeat(below[group_start], ties)
    won_twice = positives * (2 * below + negatives)
    for total, part in zip(zeros, (positives, negatives, won_twice), strict=True):
        total[owner[group_start]] = np.add.reduceat(part, group_start)
    return PairCounts(*zeros)


def dense_rank(ascending: np.ndarray) -> np.ndarray:
    """Ranks from 0 of values already sorted; equal values share one."""
    rank = np.zeros(len(ascending), np.int64)
    np.cumsum(ascending[1:] != ascending[:-1], out=rank[1:])
    return rank


def _starts(ascending: np.ndarray) -> np.ndarray:
    changes = np.flatnonzero(ascending[1:] != ascending[:-1]) + 1
    return np.concatenate([np.zeros(1, changes.dtype), changes])


class StreamedPairs:
    """Pair counts of a stream that arrives in ascending order of score, in blocks.

    A block's clicked candidates also win against everything that came before it. Where
    a tie goes on from one block to the next, the pairs across the border are halves.

    Args:
        num_groups: G.
    """

    def __init__(self, num_groups: int):
        self._num_groups = num_groups
        self.counts = self._count(np.zeros(0), np.zeros(0), np.zeros(0))
        self._tie_score = None
        self._tie = self.counts

    def _count(
        self, group: np.ndarray, rank: np.ndarray, label: np.ndarray
    ) -> PairCounts:
        return pair_counts(group, rank, label, self._num_groups)

    def add(self, group: np.ndarray, score: np.ndarray, label: np.ndarray) -> None:
        """Adds a block.

        Args:
            group: `[n]` integers, 0 … num_groups - 1.
            score: `[n]`, ascending, none below an earlier block's.
            label: `[n]` integers, 0 or 1.
        """
        if len(score) == 0:
            return
        seen, block = self.counts, self._count(group, dense_rank(score), label)
        won = seen.won_twice + block.won_twice + 2 * block.positives * seen.negatives
        if score[0] == self._tie_score:
            head = self._count_equal(group, score, label, score[0])
            won += self._tie.positives * head.negatives
            won -= head.positives * self._tie.negatives
        self.counts = PairCounts(
            seen.positives + block.positives, seen.negatives + block.negatives, won
        )
        tail = self._count_equal(group, score, label, score[-1])
        if score[0] == score[-1] == self._tie_score:
            tail.positives += self._tie.positives
            tail.negatives += self._tie.negatives
        self._tie, self._tie_score = tail, score[-1]

    def _count_equal(
        self, group: np.ndarray, score: np.ndarray, label: np.ndarray, value: float
    ) -> PairCounts:
        low = np.searchsorted(score, value, "left")
        high = np.searchsorted(score, value, "right")
        rank = np.zeros(high - low, np.int64)
        return self._count(group[low:high], rank, label[low:high])
