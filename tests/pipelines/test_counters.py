"""Events of many groups by time, held against counting one by one."""

import numpy as np
import pytest

from ctr_tf.computed.event_index import EventIndex
from pipelines.arrow import order_by

# Of the wider two, group and time do not fit side by side into 63 bits.
WIDTHS = {
    "narrow": (5, 40),
    "many groups": (2**40, 2**30),
    "nanoseconds": (2**10, 2**61),
}


@pytest.mark.parametrize(("groups", "times"), WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("count", [0, 1, 60])
def test_places_and_times_of_events(groups, times, count):
    random = np.random.default_rng(count)
    for _ in range(30):
        some = random.integers(0, groups, 6)
        start = int(random.integers(-times, times)) // 2
        group = random.choice(some, count)
        time = start + random.integers(0, times, 8)[random.integers(0, 8, count)]
        index = EventIndex(group, time)
        asked = np.append(random.choice(some, 20), random.integers(0, groups, 5))
        near = random.choice(time, 25) if count else np.full(25, start)
        at = near + random.integers(-1, 2, 25)
        counts = index.before(asked, at) - index.before(asked, start)
        expected = [
            sum(g == mine and t < now for g, t in zip(group, time, strict=True))
            for mine, now in zip(asked, at, strict=True)
        ]
        np.testing.assert_array_equal(counts, expected)
        last = index.time_at(index.before(asked, at) - 1, asked)
        for mine, now, found in zip(asked, at, last, strict=True):
            earlier = time[(group == mine) & (time < now)]
            assert found == (earlier.max() if len(earlier) else -1)


@pytest.mark.parametrize("width", [10, 2**20, 2**40])
def test_rows_are_ordered_by_the_first_key_first(width):
    random = np.random.default_rng(0)
    keys = random.integers(-width, width, (3, 200)) // random.integers(1, width, (3, 1))
    rows = list(map(tuple, keys.T))
    assert [rows[i] for i in order_by(*keys)] == sorted(rows)
    assert not len(order_by(keys[0][:0]))
