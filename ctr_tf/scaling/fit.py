"""The two laws: a power law with a limit, and its rival without one.

``E - A x^(-alpha)`` and ``a + b ln x``, by least squares. For a given alpha the first
is linear in E and A, too, so that only alpha is searched for, on a grid that closes in
on the best: no start can be a bad one, and a thousand replicates are fitted at once.

Shapes: `n` points, `R` sets of values, `G` places of the grid.
"""

import dataclasses

import numpy as np

ALPHA_RANGE = (1e-3, 10.0)  # of x in units of its geometric mean
_GRID = 65
_ZOOMS = 14


@dataclasses.dataclass(frozen=True)
class PowerLaw:
    """``E - A x^(-alpha)``, R of them.

    Args:
        limit: E `[R]`.
        amplitude: A `[R]`, of x in units of `scale`.
        alpha: `[R]`.
        scale: unit of x.
    """

    limit: np.ndarray
    amplitude: np.ndarray
    alpha: np.ndarray
    scale: float

    def predict(self, x: np.ndarray) -> np.ndarray:
        """`[R, len(x)]`."""
        falling = (np.asarray(x) / self.scale) ** -self.alpha[:, None]
        return self.limit[:, None] - self.amplitude[:, None] * falling


@dataclasses.dataclass(frozen=True)
class LogLaw:
    """``a + b ln x``, R of them.

    Args:
        intercept: a `[R]`.
        slope: b `[R]`.
    """

    intercept: np.ndarray
    slope: np.ndarray

    def predict(self, x: np.ndarray) -> np.ndarray:
        """`[R, len(x)]`."""
        return self.intercept[:, None] + self.slope[:, None] * np.log(x)


def fit_power(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> PowerLaw:
    """Fits R power laws with E <= 1, A >= 0 and alpha within `ALPHA_RANGE`.

    Args:
        x: `[n]`, positive.
        y: `[R, n]`.
        weights: `[n]` of the squared errors.
    """
    scale = float(np.exp(np.log(x).mean()))
    low, high = (np.full(len(y), np.log(end)) for end in ALPHA_RANGE)
    steps = np.linspace(0, 1, _GRID)
    for _ in range(_ZOOMS):
        grid_RG = low[:, None] + (high - low)[:, None] * steps
        error_RG = _given_alpha(x / scale, y, weights, np.exp(grid_RG))[2]
        best = error_RG.argmin(1)[:, None]
        ends = np.clip(best - 1, 0, None), np.clip(best + 1, None, _GRID - 1)
        low, high = (np.take_along_axis(grid_RG, end, 1)[:, 0] for end in ends)
    alpha = np.exp(np.take_along_axis(grid_RG, best, 1))
    limit, amplitude, _ = _given_alpha(x / scale, y, weights, alpha)
    return PowerLaw(limit[:, 0], amplitude[:, 0], alpha[:, 0], scale)


def _given_alpha(x, y, weights, alpha_RG):
    """E, A and the weighted squared error, `[R, G]` each."""
    weights = weights / weights.sum()
    falling_RGn = x ** -alpha_RG[..., None]
    mean_RG, mean_R1 = falling_RGn @ weights, (y @ weights)[:, None]
    falling_RGn -= mean_RG[..., None]
    centered_R1n = (y - mean_R1)[:, None]
    variance_RG = falling_RGn**2 @ weights
    covariance_RG = (falling_RGn * centered_R1n) @ weights
    amplitude_RG = np.maximum(-covariance_RG / np.maximum(variance_RG, 1e-300), 0)
    limit_RG = mean_R1 + amplitude_RG * mean_RG
    # E at its bound: A is then that of a line through 1.
    falling_RGn += mean_RG[..., None]
    square_RG = falling_RGn**2 @ weights
    through_RG = (falling_RGn * (1 - y)[:, None]) @ weights / square_RG
    bounded_RG = limit_RG > 1
    amplitude_RG = np.where(bounded_RG, np.maximum(through_RG, 0), amplitude_RG)
    limit_RG = np.minimum(limit_RG, 1.0)
    fitted_RGn = limit_RG[..., None] - amplitude_RG[..., None] * falling_RGn
    return limit_RG, amplitude_RG, (fitted_RGn - y[:, None]) ** 2 @ weights


def fit_log(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> LogLaw:
    """Fits R logarithmic laws; see `fit_power`."""
    weights = weights / weights.sum()
    log_x = np.log(x)
    centered = log_x - log_x @ weights
    slope = y @ (weights * centered) / (weights @ centered**2)
    return LogLaw(y @ weights - slope * (log_x @ weights), slope)
