"""A law over one axis: fitted to the smaller points, tried on the largest.

R2 proves nothing of a law with three numbers. So the largest points are withheld from
the fit and predicted, beside a rival that knows no limit; and bands come from a
bootstrap that draws users (the same for all points) and each point's seeds.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from ctr_tf.errors import UserError
from ctr_tf.scaling.fit import ALPHA_RANGE, LogLaw, PowerLaw, fit_log, fit_power
from ctr_tf.scaling.grid import MIN_FITTED
from ctr_tf.scaling.points import Point, seed_noise

AXES = {"flops": "FLOPs of a request", "samples": "training samples"}
NOISES = 1.96  # standard deviations of a mean that a prediction may be off
_BAND = (0.025, 0.975)


@dataclasses.dataclass
class Estimate:
    """A number with its band.

    Args:
        value: of the points as they were measured.
        low: lower end of the bootstrap's 95 % interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


@dataclasses.dataclass
class Prediction:
    """A withheld point; of several seeds, their mean.

    Args:
        name: of its cell.
        x: place on the axis.
        measured: mean AUC.
        law: what the power law predicted.
        rival: what the logarithmic law predicted.
        noise: standard deviation of the mean over its seeds; None where it is not
            known.
    """

    name: str
    x: float
    measured: float
    law: Estimate
    rival: float
    noise: float | None

    @property
    def error(self) -> float:
        """Measured minus predicted."""
        return self.measured - self.law.value

    @property
    def within_noise(self) -> bool | None:
        """Whether the error is one that seeds make; None where that is not known."""
        return None if self.noise is None else abs(self.error) <= NOISES * self.noise

    @property
    def within_band(self) -> bool:
        """Whether the measured lies in the prediction's band."""
        return self.law.low <= self.measured <= self.law.high


@dataclasses.dataclass
class Study:
    """What came out.

    Args:
        axis: a key of `AXES`.
        fixed: what all points have in common, in words.
        points: ascending by the axis.
        fitted: how many of them, the smallest, the law was fitted to.
        law: the power law, first of the points as they are, then of the replicates.
        rival: the logarithmic law of the points as they are.
        limit: the E.
        alpha: the exponent.
        r2: share of the fitted points' variance that the law tells.
        rival_r2: the rival's.
        predictions: of the withheld points.
        faults: why the fit is no law; none if it may be one.
        limit_of_all: the E where no point is withheld.
        alpha_of_all: the exponent where no point is withheld.
        faults_of_all: why that fit is no law.
        noise: standard deviation of one training, pooled over the withheld points.
        known_limit: that AUC cannot exceed; None where it is not known.
    """

    axis: str
    fixed: str
    points: list[Point]
    fitted: int
    law: PowerLaw
    rival: LogLaw
    limit: Estimate
    alpha: Estimate
    r2: float
    rival_r2: float
    predictions: list[Prediction]
    faults: list[str]
    limit_of_all: Estimate
    alpha_of_all: Estimate
    faults_of_all: list[str]
    noise: float | None
    known_limit: float | None

    @property
    def amplitude(self) -> float:
        """A, of x in its own unit."""
        return float(self.law.amplitude[0] * self.law.scale ** self.law.alpha[0])

    def error(self, of_rival: bool = False) -> float | None:
        """Mean absolute error on the withheld points; None if none was withheld."""
        errors = [
            abs(p.measured - (p.rival if of_rival else p.law.value))
            for p in self.predictions
        ]
        return float(np.mean(errors)) if errors else None


def study(
    points: Sequence[Point],
    axis: str,
    fixed: str,
    hold_out: int,
    known_limit: float | None = None,
    seed: int = 0,
) -> Study:
    """Fits and tries both laws.

    Args:
        points: at least `MIN_FITTED` more than are withheld.
        axis: a key of `AXES`.
        fixed: what all points have in common, in words.
        hold_out: how many of the largest are withheld.
        known_limit: of AUC, if there is one.
        seed: of drawing seeds.

    Raises:
        UserError: if there are too few points, or they stand at one place.
    """
    points = sorted(points, key=lambda point: getattr(point, axis))
    x = np.array([getattr(point, axis) for point in points], float)
    fitted = len(points) - hold_out
    places = len(set(x[: max(fitted, 0)].tolist()))
    if places < MIN_FITTED:
        raise UserError(
            f"A law over {AXES[axis]} is fitted to at least {MIN_FITTED} different "
            f"ones, beside {hold_out} withheld: add points, or withhold fewer by "
            f"`--hold_out`. Received: {places}"
        )
    random = np.random.default_rng(seed)
    measured = np.array([point.auc for point in points])
    drawn = np.stack([point.resampled(random) for point in points], axis=1)
    # A draw of users without a click, or without anything but, has no AUC.
    values = np.concatenate([measured[None], drawn[~np.isnan(drawn).any(1)]])
    # A mean is as sure as its seeds are many; the noise of one is pooled.
    weights = np.array([len(point.aucs) for point in points], float)
    # Small grades need not learn alike from each seed where large ones do.
    noise = seed_noise(points[fitted:] or points)
    law = fit_power(x[:fitted], values[:, :fitted], weights[:fitted])
    law_of_all = fit_power(x, values, weights)
    rival = fit_log(x[:fitted], values[:1, :fitted], weights[:fitted])
    smallest = x[:fitted], measured[:fitted], weights[:fitted]
    return Study(
        axis=axis,
        fixed=fixed,
        points=points,
        fitted=fitted,
        law=law,
        rival=rival,
        limit=_estimate(law.limit),
        alpha=_estimate(law.alpha),
        r2=_r2(law, *smallest),
        rival_r2=_r2(rival, *smallest),
        predictions=_predictions(points[fitted:], x[fitted:], law, rival, noise),
        faults=_faults(law, measured),
        limit_of_all=_estimate(law_of_all.limit),
        alpha_of_all=_estimate(law_of_all.alpha),
        faults_of_all=_faults(law_of_all, measured),
        noise=noise,
        known_limit=known_limit,
    )


def _predictions(
    points: Sequence[Point],
    x: np.ndarray,
    law: PowerLaw,
    rival: LogLaw,
    noise: float | None,
) -> list[Prediction]:
    by_law, by_rival = law.predict(x), rival.predict(x)[0].tolist()
    return [
        Prediction(
            str(point.cell),
            float(x[place]),
            point.auc,
            _estimate(by_law[:, place]),
            by_rival[place],
            None if noise is None else noise / math.sqrt(len(point.aucs)),
        )
        for place, point in enumerate(points)
    ]


def _estimate(values: np.ndarray) -> Estimate:
    """The first, and the quantiles of the others."""
    low, high = np.quantile(values[1:] if len(values) > 1 else values, _BAND)
    return Estimate(float(values[0]), float(low), float(high))


def _r2(
    law: PowerLaw | LogLaw, x: np.ndarray, measured: np.ndarray, weights: np.ndarray
) -> float:
    mean = np.average(measured, weights=weights)
    total = weights @ (measured - mean) ** 2
    error = weights @ (measured - law.predict(x)[0]) ** 2
    return float(1 - error / total) if total else 0.0


def _faults(law: PowerLaw, measured: np.ndarray) -> list[str]:
    limit, largest = float(law.limit[0]), float(measured.max())
    faults = []
    if not law.amplitude[0] > 0:
        return ["AUC does not grow along the axis"]
    if limit < largest:
        faults.append(f"E = {limit:.4f} is below the largest measured, {largest:.4f}")
    if limit >= 1:
        faults.append("E is at its bound of 1")
    low, high = ALPHA_RANGE
    if not 1.001 * low < law.alpha[0] < 0.999 * high:
        faults.append(f"alpha = {law.alpha[0]:.3g} is at an end of its range")
    return faults
