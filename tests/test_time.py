"""Time features: NumPy, the graph and plain Python agree."""

import datetime
import zoneinfo

import numpy as np
import pytest
import reference_sparse_ctr as reference
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ctr_tf import time as in_numpy
from ctr_tf import time_ops as in_graph

DAYS = st.integers(0, in_numpy.MAX_TIME)


def powers_of_two():
    values = [0, 1, np.iinfo(np.int64).max, np.iinfo(np.int64).min, -1]
    for k in range(63):
        values += [2**k - 1, 2**k, 2**k + 1]
    return np.array(values, np.int64)


@pytest.mark.parametrize("compiled", [False, True])
def test_log2_is_exact_at_every_power_of_two(compiled):
    values = powers_of_two()
    expected = [max(int(value), 1).bit_length() - 1 for value in values]
    np.testing.assert_array_equal(in_numpy.log2_bucket(values), expected)
    graph = tf.function(in_graph.log2_bucket, jit_compile=compiled)
    np.testing.assert_array_equal(graph(tf.constant(values)), expected)


@given(hnp.arrays(np.int64, 20, elements=st.integers(-(2**63), 2**63 - 1)))
def test_log2_is_exact_everywhere(values):
    expected = [max(int(value), 1).bit_length() - 1 for value in values]
    np.testing.assert_array_equal(in_numpy.log2_bucket(values), expected)
    np.testing.assert_array_equal(in_graph.log2_bucket(tf.constant(values)), expected)


def test_log2_takes_a_dtype():
    bucket = in_graph.log2_bucket(tf.constant([7, 8], tf.int64), dtype="float32")
    assert bucket.dtype == tf.float32
    np.testing.assert_array_equal(bucket, [2.0, 3.0])


@given(hnp.arrays(np.int64, 8, elements=DAYS), st.sampled_from([0, 28_800, -34_200]))
def test_hour_and_weekend_are_those_of_the_calendar(times, zone):
    epoch = datetime.datetime(1970, 1, 1)
    local = [epoch + datetime.timedelta(seconds=int(t) + zone) for t in times]
    hours = [moment.hour for moment in local]
    weekends = [int(moment.weekday() >= 5) for moment in local]
    tensor = tf.constant(times)
    for module, time in ((in_numpy, times), (in_graph, tensor)):
        np.testing.assert_array_equal(module.hour_of_day(time, zone), hours)
        np.testing.assert_array_equal(module.is_weekend(time, zone), weekends)


@st.composite
def histories(draw):
    length = draw(st.integers(1, 12))
    padding = draw(st.integers(0, length))
    gaps = draw(
        st.lists(
            st.one_of(st.integers(0, 3), st.integers(0, 2**31)),
            min_size=length,
            max_size=length,
        )
    )
    time = 1 + np.cumsum(np.array(gaps, np.int64))
    return np.where(np.arange(length) >= padding, time, 0)


@settings(deadline=None)
@given(histories(), st.integers(1, 14))
def test_chunks_are_cut_at_the_largest_gaps(time, num_chunks):
    valid = time > 0
    expected = reference.chunk_ids(time, valid, num_chunks)
    for left in (0, 5):
        padded = np.pad(time, (left, 0))[None]
        want = np.pad(expected, (left, 0))[None]
        np.testing.assert_array_equal(
            in_numpy.chunk_ids(padded, padded > 0, num_chunks), want
        )
        tensor = tf.constant(padded)
        np.testing.assert_array_equal(
            in_graph.chunk_ids(tensor, tensor > 0, num_chunks), want
        )


def test_chunks_by_hand():
    time = np.array([[0, 0, 10, 11, 50, 51, 90, 91]])
    # Two gaps of 39: with two chunks the later one cuts.
    np.testing.assert_array_equal(
        in_numpy.chunk_ids(time, time > 0, 2), [[0, 0, 1, 1, 1, 1, 2, 2]]
    )
    np.testing.assert_array_equal(
        in_numpy.chunk_ids(time, time > 0, 3), [[0, 0, 1, 1, 2, 2, 3, 3]]
    )
    np.testing.assert_array_equal(
        in_numpy.chunk_ids(time, time > 0, 9), [[0, 0, 1, 2, 3, 4, 5, 6]]
    )


@pytest.mark.parametrize("module", [in_numpy, in_graph])
def test_no_chunks_is_a_mistake(module):
    time = np.zeros((1, 3), np.int64)
    with pytest.raises(ValueError, match="Received: num_chunks=0"):
        module.chunk_ids(time, time > 0, 0)


ZONES = ("Europe/Copenhagen", "America/New_York", "Australia/Sydney", "Asia/Kolkata")


def calendar(zone, time):
    """Hour and weekend by the standard library's calendar."""
    local = datetime.datetime.fromtimestamp(int(time), zoneinfo.ZoneInfo(zone))
    return local.hour, int(local.weekday() >= 5)


@pytest.mark.parametrize("zone", ZONES)
def test_a_zone_is_exact_over_daylight_saving(zone):
    random = np.random.default_rng(0)
    starts, _ = in_numpy.transitions(zone)
    near = starts[(starts > 946_684_800) & (starts < 1_893_456_000)]
    changes = [near + d for d in (-3_601, -3_600, -1, 0, 1, 3_599, 3_600)]
    moments = np.concatenate(
        [random.integers(1, 4_000_000_000, 2_000), [1, in_numpy.DAY], *changes]
    )
    moments = moments[moments > 0]
    expected = np.array([calendar(zone, t) for t in moments])
    np.testing.assert_array_equal(in_numpy.hour_of_day(moments, zone), expected[:, 0])
    np.testing.assert_array_equal(in_numpy.is_weekend(moments, zone), expected[:, 1])
    for jit_compile in (False, True):
        clocks = tf.function(
            lambda t: (
                in_graph.hour_of_day(t, zone),
                in_graph.is_weekend(t, zone),
            ),
            jit_compile=jit_compile,
        )
        pairs = tf.constant(moments[: len(moments) // 2 * 2].reshape(-1, 2))
        hour, weekend = (np.ravel(value) for value in clocks(pairs))
        np.testing.assert_array_equal(hour, expected[: len(hour), 0])
        np.testing.assert_array_equal(weekend, expected[: len(hour), 1])


def test_copenhagen_changes_when_everybody_knows():
    # 2023-03-26: at 01:00 UTC the clock goes from 02:00 to 03:00.
    change = 1_679_792_400
    hours = in_numpy.hour_of_day(np.array([change - 1, change]), "Europe/Copenhagen")
    assert hours.tolist() == [1, 3]


def test_an_unknown_zone_is_told():
    with pytest.raises(ValueError, match="Unknown time zone 'Europe/Kopenhagen'. Did"):
        in_numpy.local_time(np.array([1]), "Europe/Kopenhagen")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 m"),
        (3_601, "1 h"),
        (3_661, "1 h 1 m"),
        (10 * in_numpy.DAY + 7_200, "10 d 2 h"),
        (400 * in_numpy.DAY, "400 d"),
    ],
)
def test_durations(seconds, text):
    assert in_numpy.duration(seconds) == text
