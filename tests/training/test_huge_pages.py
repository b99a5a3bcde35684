"""Huge pages: nothing changes but where the memory lies."""

import sys

import keras
import numpy as np
import pytest

from ctr_tf.training.huge_pages import use_huge_pages


def variable(rows):
    return keras.Variable(
        (np.arange(rows * 32) % 1_009).astype(np.float32).reshape(rows, 32)
    )


def test_values_stay_and_updates_go_on():
    large = variable(1 << 20)  # 128 MiB
    moved = use_huge_pages([large])
    assert moved <= 1 << 27
    if moved:  # all but the ends that fill no huge page
        assert moved > (1 << 27) - (1 << 22)
    large.value.scatter_nd_update([[5]], np.full((1, 32), -1.0, np.float32))
    values = np.array(large)
    np.testing.assert_array_equal(values[5], -1)
    expected = np.arange(6 * 32, 32 << 20) % 1_009
    np.testing.assert_array_equal(values[6:].ravel(), expected)


@pytest.mark.parametrize("rows", [0, 1, 1_000])
def test_small_variables_are_left_alone(rows):
    assert use_huge_pages([variable(rows)]) == 0


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert use_huge_pages([variable(1 << 20)]) == 0
