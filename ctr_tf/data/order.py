"""The order in which samples are read: a pure function of the step, without a past.

**Streams.** The records of a split that are read, in the order of its files, are cut
into S contiguous streams of equal size, give or take one. S is the recipe's, whatever
the number of workers; worker w of W reads the streams w S / W, … (w + 1) S / W - 1 and
nothing else. So global batches are the same for every number of workers that divides S.

**Epochs.** A stream is cut into runs, the records of one block of a file, which lie
side by side (`record_files.BLOCK`); each epoch permutes the runs anew. Epoch after
epoch they are an endless sequence of records, of which the steps to t take the first
t B / S, for global batches of B: an epoch has every record once, what does not fill its
last batch begins the first of the next, and t alone says where each stream stands.

**Groups.** The steps between the ends of two epochs are cut into groups of about
`shuffle_buffer` samples, of which each stream has an equal part and shuffles it. Where
batches are padded to one of several sizes, the group is sorted by size and then cut
into batches, whose steps are permuted: batches are of one size, but for those where a
size ends, and in no order of sizes. Of each size, each stream's samples are spread
evenly over it: so a worker has its share of every batch. That is the same number of
samples in each where there is one size, and else nearly.

Random numbers are raw bits of a counter-based generator keyed by seed, epoch or step,
and stream; they are sorted. So neither the past, nor the machine, nor the version of
NumPy has a say.
"""

import functools
import typing
from collections.abc import Iterator, Sequence

import numpy as np

from ctr_tf.data.record_files import BLOCK
from ctr_tf.data.share import Share

_RUNS, _SAMPLES, _BATCHES = range(3)  # what is permuted


class Order(typing.Protocol):
    """Which records a worker reads when."""

    def groups(self, step: int) -> Iterator[tuple[int, int]]:
        """First step and the one behind the last of each group, from that of a step."""
        ...

    def numbers(self, begin: int, end: int) -> np.ndarray:
        """Numbers in the split of a group's records, also of other workers'.

        Args:
            begin: first step of the group.
            end: the step behind its last.
        """
        ...

    def batches(self, begin: int, end: int, buckets: np.ndarray) -> list[np.ndarray]:
        """Places among `numbers` of this worker's samples of each of a group's batches.

        Args:
            begin: first step of the group.
            end: the step behind its last.
            buckets: size of each of `numbers`.
        """
        ...


class TrainingOrder:
    """An endless, shuffled order.

    Args:
        samples: of each file of the split.
        kept: those of them that are read.
        batch_size: B.
        streams: S; divides B, and is no more than there are samples.
        shuffle_buffer: samples that are shuffled among each other.
        seed: of all permutations.
        mine: the worker's streams.
    """

    def __init__(
        self,
        samples: Sequence[int],
        kept: Share,
        batch_size: int,
        streams: int,
        shuffle_buffer: int,
        seed: int,
        mine: range,
    ):
        self._starts = np.concatenate([[0], np.cumsum(samples, dtype=np.int64)])
        self._kept = kept
        self._total = int(kept.count(self._starts[-1]))
        assert batch_size % streams == 0 and self._total >= streams
        self._batch_size = batch_size
        self._streams = streams
        self._group_steps = max(shuffle_buffer // batch_size, 1)
        self._seed = seed % (1 << 64)
        self._mine = mine
        self._of_stream = batch_size // streams  # samples of a batch
        # Of two epochs, for a group may have records of both.
        self._epoch = functools.lru_cache(2 * streams)(self._epoch_runs)
        self._runs = functools.lru_cache(streams)(self._stream_runs)

    def groups(self, step: int) -> Iterator[tuple[int, int]]:
        """See `Order`; they are endless."""
        while True:
            begin, end = self._group(step)
            yield begin, end
            step = end

    def numbers(self, begin: int, end: int) -> np.ndarray:
        """See `Order`; those of one stream after those of another."""
        places = begin * self._of_stream, end * self._of_stream
        return np.concatenate(
            [self._sequence(stream, *places) for stream in range(self._streams)]
        )

    def batches(self, begin: int, end: int, buckets: np.ndarray) -> list[np.ndarray]:
        """See `Order`."""
        each = (end - begin) * self._of_stream  # samples of a stream
        place = np.empty(len(buckets))  # of a sample among those of its size, 0 to 1
        for stream in range(self._streams):
            order = self._permutation(each, _SAMPLES, begin, stream) + stream * each
            order = order[np.argsort(buckets[order], kind="stable")]
            _, first, count = np.unique(
                buckets[order], return_index=True, return_counts=True
            )
            rank = np.arange(each) - np.repeat(first, count)
            place[order] = (rank + 0.5) / np.repeat(count, count)
        order = np.lexsort((place, buckets)).reshape(end - begin, self._batch_size)
        order = order[self._permutation(end - begin, _BATCHES, begin)]
        first, last = self._mine.start * each, self._mine.stop * each
        mine = (np.sort(batch) for batch in order)
        return [batch[slice(*np.searchsorted(batch, [first, last]))] for batch in mine]

    def _group(self, step: int) -> tuple[int, int]:
        """The group of a step.

        The first steps that are not of epoch e - 1 are those from ``e total // B`` on.
        """
        epoch = ((step + 1) * self._batch_size - 1) // self._total
        first, last = (e * self._total // self._batch_size for e in (epoch, epoch + 1))
        steps = last - first
        groups = -(-steps // self._group_steps)
        group = ((step - first + 1) * groups - 1) // steps
        return first + group * steps // groups, first + (group + 1) * steps // groups

    def _sequence(self, stream: int, start: int, stop: int) -> np.ndarray:
        """Numbers of records at these places of a stream's endless sequence."""
        size = int(np.diff(self._bounds(stream))[0])
        parts = []
        while start < stop:
            epoch, first = divmod(start, size)
            last = min(first + stop - start, size)
            parts.append(self._of_epoch(stream, epoch, first, last))
            start += last - first
        return np.concatenate(parts)

    def _of_epoch(self, stream: int, epoch: int, start: int, stop: int) -> np.ndarray:
        """Numbers of records at these places of one epoch of a stream."""
        begins, ends = self._epoch(stream, epoch)
        first, last = np.searchsorted(ends, [start, stop - 1], side="right")
        counts = np.diff(
            ends[first : last + 1], prepend=ends[first - 1] if first else 0
        )
        # Places in what is kept, run by run.
        behind = np.repeat(np.cumsum(counts) - counts, counts)
        places = np.repeat(begins[first : last + 1], counts) - behind
        places += np.arange(len(places))
        skipped = start - (int(ends[first]) - int(counts[0]))
        return self._kept.number(places[skipped : skipped + stop - start])

    def _epoch_runs(self, stream: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """A stream's runs in the order of an epoch.

        Returns:
            First place of each in what is kept, and where in the epoch it ends.
        """
        begins, counts = self._runs(stream)
        order = self._permutation(len(begins), _RUNS, epoch, stream)
        return begins[order], np.cumsum(counts[order])

    def _stream_runs(self, stream: int) -> tuple[np.ndarray, np.ndarray]:
        """First place, in what is kept, and number of records, of a stream's runs."""
        bounds = self._bounds(stream)
        first = int(self._kept.number(bounds[0]))
        last = int(self._kept.number(bounds[1] - 1))
        files = np.searchsorted(self._starts, [first, last], side="right") - 1
        edges = [np.array([first])]
        for file in range(files[0], files[1] + 1):
            start, stop = self._starts[file], self._starts[file + 1]
            inside = max(start, first - (first - start) % BLOCK)
            edges.append(np.arange(inside, min(stop, last + 1), BLOCK))
        numbers = np.concatenate([*edges, np.array([last + 1])])
        places = self._kept.count(np.maximum(numbers, first))
        counts = np.diff(places)
        return places[:-1][counts > 0], counts[counts > 0]

    def _bounds(self, stream: int) -> tuple[int, int]:
        """Where a stream begins and ends, in what is kept."""
        start, stop = (s * self._total // self._streams for s in (stream, stream + 1))
        return start, stop

    def _permutation(self, count: int, *key: int) -> np.ndarray:
        bits = np.random.Philox(np.random.SeedSequence((self._seed, *key)))
        return np.argsort(bits.random_raw(count), kind="stable")


class PassOrder:
    """One pass in the order of the files.

    Each of several workers has a contiguous part, and all have equally many batches:
    the last one of some may be empty. Where there are several sizes, the samples of a
    group are sorted by size.

    Args:
        samples: of the split that are read.
        kept: which these are.
        batch_size: B.
        shuffle_buffer: samples of a group, of all workers.
        worker: this one.
        workers: all; their number divides B.
    """

    def __init__(
        self,
        samples: int,
        kept: Share,
        batch_size: int,
        shuffle_buffer: int,
        worker: int,
        workers: int,
    ):
        assert batch_size % workers == 0
        self._kept = kept
        self._part = worker * samples // workers, (worker + 1) * samples // workers
        self._group_steps = max(shuffle_buffer // batch_size, 1)
        self._share = batch_size // workers
        self._steps = -(-samples // batch_size)

    def groups(self, step: int) -> Iterator[tuple[int, int]]:
        """See `Order`."""
        step -= step % self._group_steps
        for begin in range(step, self._steps, self._group_steps):
            yield begin, min(begin + self._group_steps, self._steps)

    def numbers(self, begin: int, end: int) -> np.ndarray:
        """See `Order`; none of others."""
        start, stop = self._part
        begin, end = (min(start + step * self._share, stop) for step in (begin, end))
        return self._kept.number(np.arange(begin, end))

    def batches(self, begin: int, end: int, buckets: np.ndarray) -> list[np.ndarray]:
        """See `Order`."""
        order = np.argsort(buckets, kind="stable")
        ends = np.arange(1, end - begin) * self._share
        return np.split(order, ends)
