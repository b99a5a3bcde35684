"""The order of samples: equal to a slow one, whole epochs, the same for all workers."""

import collections
import itertools

import numpy as np
import pytest

from ctr_tf.data.order import PassOrder, TrainingOrder
from ctr_tf.data.share import Share

FILES = (130, 1, 67, 200, 64)
TOTAL = sum(FILES)


def training(mine=None, share=1.0, batch=12, streams=4, shuffle_buffer=48, seed=3):
    streams_of = range(streams) if mine is None else mine
    kept = Share(share)
    return TrainingOrder(FILES, kept, batch, streams, shuffle_buffer, seed, streams_of)


def batches(order, count, first=0, bucket=lambda numbers: numbers * 0):
    """Numbers of the records of each batch."""
    found = []
    for begin, end in order.groups(first):
        numbers = order.numbers(begin, end)
        batches = order.batches(begin, end, bucket(numbers))
        found += [numbers[batch].tolist() for batch in batches[max(first - begin, 0) :]]
        if len(found) >= count:
            return found[:count]


def kept_by(share):
    return [n for n in range(TOTAL) if Share(share).has(np.array(n))]


def slow_stream(share, streams, stream):
    """A stream's records, and the runs that they are cut into."""
    kept = kept_by(share)
    bounds = [s * len(kept) // streams for s in (stream, stream + 1)]
    files = [(f, n) for f, size in enumerate(FILES) for n in range(size)]
    own = kept[slice(*bounds)]
    runs = collections.defaultdict(list)
    for number in own:
        file, place = files[number]
        runs[file, place // 64].append(number)
    return own, list(runs.values())


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("streams", [1, 3, 4, 12])
def test_a_stream_has_whole_epochs_of_permuted_runs(share, streams):
    order = training(share=share, streams=streams)
    for stream in range(streams):
        own, runs = slow_stream(share, streams, stream)
        assert abs(len(own) - len(kept_by(share)) / streams) < 1
        whole = order._sequence(stream, 0, 3 * len(own))
        orders = set()
        for epoch in np.split(whole, 3):
            assert sorted(epoch) == own
            begins = [list(epoch).index(run[0]) for run in runs]
            for begin, run in zip(begins, runs, strict=True):
                assert list(epoch[begin : begin + len(run)]) == run
            orders.add(tuple(np.argsort(begins)))
        assert len(orders) > 1 or len(runs) < 3
        for start, stop in itertools.product((0, 5, len(own) - 1), (len(own) + 7,)):
            part = order._sequence(stream, start, stop)
            np.testing.assert_array_equal(part, whole[start:stop])


@pytest.mark.parametrize("batch, streams", [(12, 4), (12, 12), (60, 3), (300, 4)])
@pytest.mark.parametrize("shuffle_buffer", [1, 48, 10_000])
def test_groups_end_where_epochs_do(batch, streams, shuffle_buffer):
    order = training(batch=batch, streams=streams, shuffle_buffer=shuffle_buffer)
    steps = 5 * TOTAL // batch
    groups = list(itertools.takewhile(lambda g: g[0] < steps, order.groups(0)))
    assert [0, *(end for _, end in groups)] == [
        *(begin for begin, _ in groups),
        groups[-1][1],
    ]
    ends = {end for _, end in groups}
    assert {e * TOTAL // batch for e in range(1, 6)} - {0} <= ends
    most = max(shuffle_buffer // batch, 1)
    assert all(1 <= end - begin <= most for begin, end in groups)
    for step in range(steps):
        (group,) = (g for g in groups if g[0] <= step < g[1])
        assert next(order.groups(step)) == group


@pytest.mark.parametrize("bucket", [lambda n: n * 0, lambda n: n % 3])
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_epochs_have_every_record_once(share, bucket):
    order = training(share=share, batch=12, streams=4)
    kept = kept_by(share)
    first = np.array(batches(order, len(kept) // 12, bucket=bucket))
    assert len(np.unique(first)) == first.size
    seen = np.unique(batches(order, len(kept), bucket=bucket), return_counts=True)
    assert list(seen[0]) == kept
    assert seen[1].min() >= 11 and seen[1].max() <= 12 + 1


@pytest.mark.parametrize("bucket", [lambda n: n * 0, lambda n: n % 3])
def test_workers_read_their_parts_of_the_same_batches(bucket):
    whole = batches(training(), 100, bucket=bucket)
    assert {len(batch) for batch in whole} == {12}
    for workers in (2, 4):
        each = 4 // workers
        parts = [
            batches(training(range(w * each, (w + 1) * each)), 63, 37, bucket=bucket)
            for w in range(workers)
        ]
        if bucket(5) == 0:
            assert {len(b) for part in parts for b in part} == {12 // workers}
        assert [sum(shares, []) for shares in zip(*parts, strict=True)] == whole[37:]


def test_seeds_and_epochs_differ_and_nothing_else_does():
    one, other = batches(training(), 60), batches(training(seed=4), 60)
    assert one == batches(training(seed=3), 60) != other
    assert one[:10] != batches(training(), 10, TOTAL // 12)
    # A step's samples come from all over the streams, not from runs side by side.
    assert np.mean(np.diff(np.sort(one[5][:3])) > 1) > 0.5


def test_batches_are_of_one_size_in_no_order_and_shared_evenly():
    """Three sizes, one of them rare, and streams that have more or less of them."""

    def bucket(numbers):
        return np.where(numbers % 17 == 0, 2, (numbers * numbers % 1_000 < 400) * 1)

    options = {"batch": 24, "streams": 8, "shuffle_buffer": 480}
    whole = [bucket(np.array(b)) for b in batches(training(**options), 57, 0, bucket)]
    pure = [sizes[0] for sizes in whole if len(set(sizes)) == 1]
    assert len(pure) > 57 - 3 * 2 - 1 and set(pure) == {0, 1, 2}
    assert np.count_nonzero(np.diff(pure)) > 9
    half = batches(training(range(4), **options), 57, 0, bucket)
    shares = [len(b) for b, sizes in zip(half, whole, strict=True) if sizes[0] < 2]
    assert 5 <= min(shares) and max(shares) <= 19


def test_the_order_is_pinned():
    """A run goes on with the order that it began with, whatever is installed."""
    assert batches(training(), 2) == [
        [1, 2, 4, 115, 119, 121, 262, 265, 266, 390, 396, 397],
        [0, 3, 7, 117, 122, 123, 263, 264, 270, 393, 394, 398],
    ]


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_pass_has_every_record_once(share, workers):
    kept = kept_by(share)
    parts = [
        PassOrder(len(kept), Share(share), 12, 48, worker, workers)
        for worker in range(workers)
    ]
    steps = -(-len(kept) // 12)
    found = []
    for order in parts:
        groups = list(order.groups(0))
        assert [step for g in groups for step in range(*g)] == list(range(steps))
        for begin, end in groups:
            numbers = order.numbers(begin, end)
            found_in = order.batches(begin, end, numbers % 2)
            assert len(found_in) == end - begin
            assert {len(batch) for batch in found_in[:-1]} <= {12 // workers}
            arranged = numbers[np.concatenate(found_in)]
            assert list(arranged) == sorted(numbers, key=lambda n: n % 2)
            found += list(numbers)
        assert next(order.groups(5)) == groups[1]
    assert found == kept
