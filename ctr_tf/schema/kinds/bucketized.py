"""A number that becomes a small id: its bucket."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ctr_tf.schema.feature import FIRST_ID, MISSING, OUT_OF_VOCABULARY_ID, Feature
from ctr_tf.schema.kinds.numeric import negative, random_numbers
from ctr_tf.time import duration

if TYPE_CHECKING:
    import pyarrow as pa
    import tensorflow as tf

    from ctr_tf.schema.vocabulary import Vocabularies

NUM_LOG2_BUCKETS = 64
_MAX_FLOAT_AS_INT64 = float(2**62)


@dataclasses.dataclass(frozen=True)
class Bucketized(Feature):
    """A number that becomes a small id, by exactly one of three rules.

    Args:
        boundaries: ascending; bucket k holds `boundaries[k-1] <= value <
            boundaries[k]`. Values may be negative.
        num_values: whole numbers 0 … num_values - 1 as they are; others are unknown.
        log2: bucket `floor(log2(max(value, 1)))`, exact for int64; no value may be
            negative.
    """

    boundaries: tuple[int | float, ...] | None = None
    num_values: int | None = None
    log2: bool = False

    kind: ClassVar[str] = "bucketized"
    DTYPES: ClassVar[tuple[str, ...]] = ("float32", "int64")

    def __post_init__(self) -> None:
        super().__post_init__()
        rules = {
            "boundaries": self.boundaries is not None,
            "num_values": self.num_values is not None,
            "log2": self.log2,
        }
        given = [rule for rule, is_given in rules.items() if is_given]
        if len(given) != 1:
            self._fail(
                "A bucketized feature has exactly one of `boundaries`, `num_values` "
                f"and `log2`. Received: {given or 'none of them'}"
            )
        self._check_positive("num_values")
        if self.boundaries is not None:
            self._check_boundaries()

    def _check_boundaries(self):
        bounds = tuple(self.boundaries or ())
        numbers = all(
            type(bound) in (int, float) and math.isfinite(bound) for bound in bounds
        )
        if (
            not bounds
            or not numbers
            or any(a >= b for a, b in zip(bounds, bounds[1:], strict=False))
        ):
            self._fail(
                "`boundaries` must be finite numbers, ascending and not empty. "
                f"Received: {list(bounds)}"
            )
        object.__setattr__(self, "boundaries", bounds)

    @property
    def num_ids(self) -> int:
        """See `Feature`."""
        if self.boundaries is not None:
            return FIRST_ID + len(self.boundaries) + 1
        return FIRST_ID + (self.num_values or NUM_LOG2_BUCKETS)

    @property
    def is_ordered(self) -> bool:
        """See `Feature`."""
        return self.num_values is None

    @property
    def is_age(self) -> bool:
        """See `Feature`: all that the jobs compute in logarithmic buckets."""
        return self.computed and self.log2

    def least_input(self, value: float) -> int:
        """See `Feature`: the first bucket above the boundary that `value` is."""
        if self.boundaries is None:
            self._fail(
                "Which values are at least so much is told by `boundaries`. Received: "
                f"{f'num_values={self.num_values}' if self.num_values else 'log2=True'}"
            )
        if value not in self.boundaries:
            self._fail(
                "Buckets tell only at their boundaries, "
                f"{', '.join(f'{bound:g}' for bound in self.boundaries)}, which values "
                f"are at least so much. Received: {value:g}"
            )
        return FIRST_ID + self.boundaries.index(value) + 1

    @property
    def wanted(self) -> str:
        """See `Feature`."""
        return f"{super().wanted}, not negative (log2)" if self.log2 else super().wanted

    def unfit(self, values: "pa.Array") -> np.ndarray | None:
        """Negative numbers, where buckets are logarithms."""
        return negative(values) if self.log2 else None

    def to_input(self, stored: "tf.Tensor") -> "tf.Tensor":
        """See `Feature`; 1 where missing, or no bucket is there for the value."""
        import tensorflow as tf

        from ctr_tf import time_ops

        missing = tf.constant(MISSING[self.stored_dtype], stored.dtype)
        known = (stored != missing) & (stored == stored)  # NaN is not itself
        if self.boundaries is not None:
            bucket = _count_boundaries(self.boundaries, stored)
            return tf.where(known, bucket + FIRST_ID, OUT_OF_VOCABULARY_ID)
        known &= stored >= 0
        if stored.dtype.is_floating:
            # NaN has no integer; `known` leaves it out below.
            stored = tf.where(known, stored, 0.0)
            stored = tf.clip_by_value(stored, 0.0, _MAX_FLOAT_AS_INT64)
        bucket = tf.cast(stored, tf.int64)
        if self.log2:
            bucket = time_ops.log2_bucket(bucket)
        else:
            known &= bucket < self.num_values
        return tf.where(known, bucket + FIRST_ID, OUT_OF_VOCABULARY_ID)

    def id_words(self, ids: Sequence[int], vocabularies: "Vocabularies") -> list[str]:
        """See `Feature`: the range of each bucket."""
        return [self._range(int(i) - FIRST_ID) for i in ids]

    def _range(self, bucket: int) -> str:
        if self.boundaries is not None:
            low, high = (
                f"{self.boundaries[place]:g}"
                if 0 <= place < len(self.boundaries)
                else ""
                for place in (bucket - 1, bucket)
            )
            if low and high:
                return f"{low} to < {high}"
            return f"< {high}" if high else f">= {low}"
        if self.is_age:
            low, high = (duration(2**b if b else 0) for b in (bucket, bucket + 1))
            return f"{low} to < {high}"
        if self.log2:
            return f"{2**bucket if bucket else 0:,} to {2 ** (bucket + 1) - 1:,}"
        return str(bucket)

    def fits_json(self, values: Sequence) -> bool:
        """See `Feature`."""
        return super().fits_json(values) and not (
            self.log2 and min(values, default=0) < 0
        )

    def random(
        self, generator: np.random.Generator, size: int, vocabularies: "Vocabularies"
    ) -> np.ndarray:
        """See `Feature`."""
        if self.num_values is None:
            return random_numbers(generator, size, self)
        values = generator.integers(-1, self.num_values, size)
        return values.astype(self.stored_dtype)


def _count_boundaries(boundaries: Sequence[float], stored: "tf.Tensor") -> "tf.Tensor":
    import tensorflow as tf

    if stored.dtype == tf.int64:  # value >= 1.5 is value >= 2, without a float
        boundaries = [math.ceil(boundary) for boundary in boundaries]
    sorted_boundaries = tf.constant(boundaries, stored.dtype)
    flat = tf.searchsorted(
        sorted_boundaries, tf.reshape(stored, [-1]), side="right", out_type=tf.int64
    )
    return tf.reshape(flat, tf.shape(stored))
