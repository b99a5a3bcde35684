"""Fits find what made the points; worlds are told apart; a bad law is refused."""

import numpy as np
import pytest

from ctr_tf.scaling.fit import fit_log, fit_power
from ctr_tf.scaling.grid import Cell, Grade
from ctr_tf.scaling.points import Point, seed_noise
from ctr_tf.scaling.statements import statements
from ctr_tf.scaling.study import study

X = np.geomspace(2e4, 5e7, 7)


def power(x, limit=0.89, amplitude=1.2, alpha=0.3):
    return limit - amplitude * x**-alpha


def make_points(aucs, seeds=3, noise=0.0, users=0.0, replicates=400):
    """Points of these mean AUCs: noise of seeds, and noise of the drawn users."""
    random = np.random.default_rng(0)
    shared = users * random.normal(size=replicates)
    points = []
    for x, auc in zip(X, aucs, strict=True):
        measured = auc + noise * random.normal(size=seeds)
        points.append(
            Point(
                Cell(Grade(4, 1, 8, 1), 1.0), 100, x, 1.0, 10, 20,
                measured.tolist(), measured[:, None] + shared, None,
            )
        )  # fmt: skip
    return points


@pytest.mark.parametrize("alpha", [0.02, 0.3, 1.7])
@pytest.mark.parametrize("limit", [0.7, 0.89, 0.999])
def test_exact_points_give_the_law_that_made_them(alpha, limit):
    amplitude = 0.2 * X[0] ** alpha
    y = power(X, limit, amplitude, alpha)
    law = fit_power(X, y[None], np.ones(7))
    assert law.alpha[0] == pytest.approx(alpha, rel=1e-5)
    assert law.limit[0] == pytest.approx(limit, abs=1e-5)
    assert law.amplitude[0] * law.scale**alpha == pytest.approx(amplitude, rel=1e-3)
    np.testing.assert_allclose(law.predict(X)[0], y, atol=1e-8)


def test_many_fits_at_once_are_each_their_own_and_weights_count():
    random = np.random.default_rng(1)
    y = power(X) + 0.002 * random.normal(size=(20, 7))
    weights = np.array([1, 1, 1, 1, 1, 1, 3.0])
    law = fit_power(X, y, weights)
    repeated = np.append(X, [X[-1]] * 2)  # a weight of 3 is a point told three times
    for row in range(20):
        more = np.append(y[row], [y[row, -1]] * 2)
        alone = fit_power(repeated, more[None], np.ones(9))
        assert law.limit[row] == pytest.approx(alone.limit[0], abs=1e-5)
        found = [law.limit[row], law.amplitude[row], law.alpha[row]]
        least = squared_error(found, law.scale, y[row], weights)
        for change in 1e-3 * random.normal(size=(50, 3)):
            near = np.add(found, change)
            assert least <= squared_error(near, law.scale, y[row], weights) + 1e-15


def squared_error(numbers, scale, y, weights):
    limit, amplitude, alpha = numbers
    return weights @ (limit - amplitude * (X / scale) ** -alpha - y) ** 2


def test_bounds_hold():
    above_one = fit_power(X, (power(X) + 0.2)[None], np.ones(7))
    assert above_one.limit[0] == 1.0
    falling = fit_power(X, power(X)[None, ::-1], np.ones(7))
    assert falling.amplitude[0] == 0.0
    log = fit_log(X, (0.3 + 0.02 * np.log(X))[None], np.ones(7))
    assert (log.intercept[0], log.slope[0]) == pytest.approx((0.3, 0.02))


def test_withheld_points_are_predicted_and_the_band_holds_the_truth():
    points = make_points(power(X), noise=3e-4, users=1e-3)
    result = study(points[::-1], "flops", "all", hold_out=2, known_limit=0.89)
    assert (result.fitted, result.faults) == (5, [])
    assert result.limit.low < 0.89 < result.limit.high
    assert result.alpha.low < 0.3 < result.alpha.high
    assert result.noise == pytest.approx(3e-4, rel=0.5) and result.r2 > 0.99
    for prediction, true in zip(result.predictions, power(X)[5:], strict=True):
        assert prediction.within_band
        assert prediction.law.value == pytest.approx(true, abs=2e-3)
    assert result.error() < result.error(of_rival=True)
    assert abs(result.limit_of_all.value - 0.89) < abs(result.limit.value - 0.89)
    assert result.faults_of_all == []
    text = " ".join(statements(result))
    assert "The power law predicts better" in text and "inside the band" in text
    assert "The limit is known, 0.8900: inside the band of E" in text


def test_a_logarithmic_world_is_told_from_a_power_law():
    points = make_points(0.4 + 0.02 * np.log(X), noise=1e-4)
    result = study(points, "flops", "all", hold_out=2)
    assert result.error(of_rival=True) < 1e-3
    assert result.error(of_rival=True) < result.error()
    assert "The rival without a limit predicts better" in " ".join(statements(result))
    exact = study(make_points(power(X)), "flops", "all", hold_out=2)
    assert exact.error(of_rival=True) > 10 * max(exact.error(), 1e-6)


def test_a_limit_below_what_was_measured_is_refused():
    """The pilot: R2 of .987 with E below the largest measured."""
    aucs = np.array([0.7822, 0.8221, 0.8455, 0.8488, 0.8616])
    points = make_points([*aucs[:4], 0.850, 0.8616, 0.87])
    result = study(points, "flops", "all", hold_out=2)
    assert result.r2 > 0.98 and result.limit.value < 0.87
    assert any("is below the largest measured, 0.8700" in f for f in result.faults)
    assert "**Refused as a law**: E = 0.8" in " ".join(statements(result))
    assert "a failure: not within the noise of seeds" in " ".join(statements(result))


def test_what_does_not_grow_is_refused():
    result = study(make_points(power(X)[::-1]), "flops", "all", hold_out=1)
    assert result.faults == ["AUC does not grow along the axis"]


def test_one_seed_tells_no_noise():
    points = make_points(power(X), seeds=1)
    assert seed_noise(points) is None
    result = study(points, "flops", "all", hold_out=1)
    assert result.predictions[0].within_noise is None
    assert "one seed tells no noise" in " ".join(statements(result))


def test_too_few_points_are_told():
    points = make_points(power(X))
    with pytest.raises(ValueError, match="at least 3 different ones.*Received: 2"):
        study(points[:4], "flops", "all", hold_out=2)
    with pytest.raises(ValueError, match="Received: 1"):
        study(points, "samples", "all", hold_out=2)


def test_the_band_of_a_mean_is_as_wide_as_seeds_make_it():
    """Of three seeds drawn with replacement it would be a fifth too narrow."""
    random = np.random.default_rng(0)
    errors = []
    for point in make_points(np.full(7, 0.8), noise=1e-3, replicates=20_000):
        drawn = point.resampled(random)
        errors.append(drawn.std() / (point.spread / 3**0.5))
    np.testing.assert_allclose(errors, 1, rtol=0.02)
