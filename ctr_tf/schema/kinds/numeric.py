"""A number that enters the network as it is, standardized."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ctr_tf.errors import unknown_name
from ctr_tf.schema.feature import MISSING, Feature

if TYPE_CHECKING:
    import pyarrow as pa
    import tensorflow as tf

    from ctr_tf.schema.vocabulary import Vocabularies

TRANSFORMS = ("none", "log1p")
_EXACT_AS_FLOAT = 2**24  # up to here a float32 tells whole numbers apart


@dataclasses.dataclass(frozen=True)
class Numeric(Feature):
    """A number that enters the network, after `transform`.

    Args:
        transform: `"none"`, or `"log1p"`, which takes no negative value.
    """

    transform: str = "none"

    kind: ClassVar[str] = "numeric"
    DTYPES: ClassVar[tuple[str, ...]] = ("float32", "int64")
    is_embedded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.transform not in TRANSFORMS:
            self._fail(unknown_name("transform", self.transform, TRANSFORMS))

    def least_input(self, value: float) -> float:
        """See `Feature`: the value itself, as inputs are rounded; NaN is never more."""
        if self.transform != "none":
            self._fail(
                "Of a logarithm, which is rounded, nobody can tell exactly which "
                "values are at least so much: leave out `transform`. "
                f"Received: transform='{self.transform}'"
            )
        if self.dtype == "int64" and abs(value) > _EXACT_AS_FLOAT:
            self._fail(
                f"Whole numbers beyond {_EXACT_AS_FLOAT:,} are rounded in a numeric "
                f"feature. Received: {value:g}"
            )
        return float(np.float32(value))

    @property
    def wanted(self) -> str:
        """See `Feature`."""
        if self.transform == "log1p":
            return f"{super().wanted}, not negative (log1p)"
        return super().wanted

    def unfit(self, values: "pa.Array") -> np.ndarray | None:
        """Negative numbers, where the transform is a logarithm."""
        return negative(values) if self.transform == "log1p" else None

    def to_input(self, stored: "tf.Tensor") -> "tf.Tensor":
        """See `Feature`; NaN where missing, or negative where that has no logarithm."""
        import tensorflow as tf

        missing = tf.constant(MISSING[self.stored_dtype], stored.dtype)
        value = tf.cast(stored, tf.float32)
        known = tf.math.is_finite(value) & (stored != missing)
        if self.transform == "log1p":
            known &= value >= 0
            value = tf.math.log1p(tf.maximum(value, 0.0))
        return tf.where(known, value, np.float32(np.nan))

    def from_input(self, value: float) -> float:
        """See `Feature`."""
        return math.expm1(value) if self.transform == "log1p" else value

    def fits_json(self, values: Sequence) -> bool:
        """See `Feature`."""
        fits = super().fits_json(values)
        return fits and not (self.transform == "log1p" and min(values, default=0) < 0)

    def random(
        self, generator: np.random.Generator, size: int, vocabularies: "Vocabularies"
    ) -> np.ndarray:
        """See `Feature`."""
        values = random_numbers(generator, size, self)
        if self.computed:  # counts, which are never missing
            values = np.maximum(values, 0)
        return values


def negative(values: "pa.Array") -> np.ndarray | None:
    """Which of Arrow's numbers are negative, as `Feature.unfit` tells it."""
    import pyarrow.compute as pc

    below = pc.less(values, 0)
    if not pc.any(below).as_py():
        return None
    return pc.fill_null(below, False).to_numpy(zero_copy_only=False)


def random_numbers(
    generator: np.random.Generator, size: int, feature: Feature
) -> np.ndarray:
    """Positive stored values over six orders of magnitude, one in twenty missing."""
    values = 10.0 ** generator.uniform(-1, 5, size)
    values = values.astype(feature.stored_dtype)
    missing = generator.random(size) < 0.05
    values[missing] = feature.stored_missing
    return values
