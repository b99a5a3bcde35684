"""What a numeric feature's values are like, whatever single ones there are among them.

One price of a billion among thousands of ordinary ones would, by mean and deviation
alone, make all others look the same.
"""

import dataclasses

import numpy as np

_TAIL = 0.005  # of the values on one side of the median, those farthest from it
_REACH = 4.0  # times as far as the others of that side, and a value is an outlier


@dataclasses.dataclass(frozen=True)
class NumberStatistics:
    """Bounds that values are clipped to, and mean and deviation of what is clipped.

    Args:
        low: least value that is no outlier.
        high: greatest one.
        mean: of the clipped values.
        deviation: of the clipped values; 1 where they do not vary, all bounds the mean.
        outliers: how many values lie outside the bounds.
    """

    low: float
    high: float
    mean: float
    deviation: float
    outliers: int

    @property
    def is_constant(self) -> bool:
        """Whether there is but one value: any other becomes that one, too."""
        return self.low == self.high


def measure(values: np.ndarray) -> NumberStatistics:
    """Measures values, NaN among them left out.

    A value is an outlier if it is more than four times as far from the median as all
    but 0.5 % of the values on its side. Zeros with few larger values among them are no
    reason to call those outliers: only they stand on their side.

    Args:
        values: any float, any number of them.
    """
    values = np.asarray(values, np.float64)
    values = np.sort(values[~np.isnan(values)])
    if not len(values):
        return NumberStatistics(0.0, 0.0, 0.0, 1.0, 0)
    median = values[(len(values) - 1) // 2]
    low = median - _reach(median - values[values < median])
    high = median + _reach(values[values > median] - median)
    clipped = np.clip(values, low, high)
    mean = clipped.mean()
    variance = clipped.var()
    if variance <= 1e-9 * max(mean**2, 1e-9):
        return NumberStatistics(float(mean), float(mean), float(mean), 1.0, 0)
    return NumberStatistics(
        float(low),
        float(high),
        float(mean),
        float(np.sqrt(variance)),
        int(((values < low) | (values > high)).sum()),
    )


def _reach(distances: np.ndarray) -> float:
    """How far values of one side may lie; at least as far as all but the farthest."""
    if not len(distances):
        return 0.0
    return _REACH * float(np.quantile(distances, 1 - _TAIL, method="lower"))
