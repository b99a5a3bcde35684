"""Sizes that requests are padded to: the choice and the padding."""

import numpy as np
import pytest
import tensorflow as tf

from serving.sizes import (
    at_size,
    check_sizes,
    default_history_lengths,
    export_history_lengths,
    pad_left,
    pad_slate,
)


@pytest.mark.parametrize(
    "longest, sizes",
    [
        (1, (1,)),
        (50, (50,)),
        (64, (32, 64)),
        (101, (51, 101)),
        (1024, (128, 256, 512, 1024)),
        (10_000, (1_250, 2_500, 5_000, 10_000)),
    ],
)
def test_history_sizes_are_halves(longest, sizes):
    assert default_history_lengths(longest) == sizes


def test_an_export_longer_than_its_training_is_told(caplog):
    assert export_history_lengths((), (64,)) == (32, 64)
    assert export_history_lengths((), (16, 64)) == (16, 64)
    assert export_history_lengths((8, 64), (16, 64)) == (8, 64)
    assert not caplog.messages
    assert export_history_lengths((64, 65), (64,)) == (64, 65)
    [told] = caplog.messages
    assert "up to 65 behaviors" in told and "trained on, 64:" in told


def test_the_smallest_size_that_holds_the_batch_runs():
    @tf.function
    def chosen(lengths):
        sizes = (4, 8, 16)
        return at_size({n: lambda n=n: {"n": tf.constant(n)} for n in sizes}, lengths)

    for lengths, size in (
        ([0], 4),
        ([4, 1], 4),
        ([1, 5, 2], 8),
        ([8], 8),
        ([9], 16),
        ([16, 99], 16),
    ):
        assert chosen(tf.constant(lengths))["n"] == size
    assert chosen(tf.zeros([0], tf.int32))["n"] == 4


def test_slates_are_padded_to_the_next_size():
    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64)])
    def pad(value):
        values = {"a": value, "b": tf.cast(value, tf.float32) / 2, "c": 3 * value}
        return pad_slate(values, value < 9, (3, 5))

    for count, size in ((0, 3), (1, 3), (3, 3), (4, 5), (5, 5), (7, 7)):
        value = np.ones((2, count), np.int64)
        value[1:, 1:] = 9  # not valid
        padded, valid = pad(value)
        expected = np.pad(value % 9, [(0, 0), (0, size - count)])
        np.testing.assert_array_equal(valid, expected > 0)
        for key, factor in {"a": 1, "b": 0.5, "c": 3}.items():
            np.testing.assert_array_equal(padded[key], factor * expected)


def test_states_are_padded_on_the_left():
    value = tf.ones([2, 3, 4])
    padded = pad_left(value, tf.TensorShape([None, 5, 4])).numpy()
    assert padded.shape == (2, 5, 4)
    assert not padded[:, :2].any() and padded[:, 2:].all()
    assert pad_left(value, tf.TensorShape([None, 3, 4])) is value


@pytest.mark.parametrize("sizes", [[], [0, 1], [2, 2], [3, 1]])
def test_sizes_must_ascend(sizes):
    with pytest.raises(ValueError, match="`slate_sizes` must be positive and asc"):
        check_sizes("slate_sizes", sizes)
