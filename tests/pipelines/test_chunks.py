"""Chunks of windows against `ctr_tf.time.chunk_ids` on padded histories."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctr_tf.time import chunk_ids
from pipelines.chunks import window_chunks


@given(
    gaps=st.lists(st.integers(0, 4), min_size=1, max_size=40),
    num_chunks=st.integers(1, 9),
    data=st.data(),
)
def test_windows_of_one_timeline(gaps, num_chunks, data):
    time = 1_000 + np.cumsum(gaps)
    place = st.integers(0, len(time))
    ends = data.draw(st.lists(st.tuples(place, place), min_size=1, max_size=6))
    start = np.array([min(pair) for pair in ends])
    stop = np.array([max(pair) for pair in ends])
    check(time, start, stop, num_chunks)


@pytest.mark.parametrize("num_chunks", [255, 256, 400])
def test_many_chunks(num_chunks):
    time = np.cumsum(np.random.default_rng(0).integers(1, 100, 600))
    check(time, np.array([0, 100]), np.array([600, 350]), num_chunks)


def check(time, start, stop, num_chunks):
    ids, begin, end = window_chunks(time, start, stop, num_chunks)
    width = int((stop - start).max()) or 1
    padded = np.zeros((len(start), width), np.int64)
    valid = np.zeros((len(start), width), bool)
    for row, (a, b) in enumerate(zip(start, stop, strict=True)):
        padded[row, width - (b - a) :] = time[a:b]
        valid[row, width - (b - a) :] = True
    expected = chunk_ids(padded, valid, num_chunks)
    for row in range(len(start)):
        found = ids[begin[row] : end[row]]
        assert found.tolist() == expected[row][valid[row]].tolist()
