"""What counts as an outlier, and what is left of the others."""

import numpy as np
import pytest

from ctr_tf.layers.number_statistics import measure


def test_ordinary_values_have_no_outliers():
    random = np.random.default_rng(0)
    for values in (
        random.normal(7, 3, 10_000),
        random.exponential(5, 10_000),
        random.lognormal(0, 1, 10_000),
        random.random(10_000),
        np.log1p(random.poisson(0.02, 10_000)),
    ):
        found = measure(values)
        assert found.outliers <= 2
        assert found.mean == pytest.approx(values.mean(), rel=1e-3)
        assert found.deviation == pytest.approx(values.std(), rel=1e-2)


@pytest.mark.parametrize("sign", [1, -1])
def test_one_outlier_leaves_the_others_as_they_are(sign):
    values = np.random.default_rng(0).lognormal(4, 0.5, 2_000) * sign
    with_outlier = np.append(values, sign * 1e9)
    found, without = measure(with_outlier), measure(values)
    assert found.outliers == 1
    assert found.mean == pytest.approx(without.mean, rel=0.01)
    # The outlier counts as the greatest value that is none.
    assert found.deviation == pytest.approx(without.deviation, rel=0.15)
    standardized = (np.clip(values, found.low, found.high) - found.mean) / (
        found.deviation
    )
    assert standardized.std() > 0.85


def test_a_few_larger_values_among_zeros_are_what_the_feature_tells():
    values = np.zeros(10_000)
    values[:20] = 3
    found = measure(values)
    assert found.outliers == 0 and found.high >= 3
    assert found.deviation == pytest.approx(values.std())


def test_values_that_do_not_vary_and_none_at_all():
    found = measure(np.array([5.0, np.nan, 5.0]))
    assert (found.mean, found.deviation, found.low, found.high) == (5, 1, 5, 5)
    found = measure(np.array([np.nan]))
    assert (found.mean, found.deviation) == (0, 1)
    assert (found.low, found.high) == (0, 0)
    assert found.is_constant and not measure(np.array([5.0, 6.0])).is_constant
