"""Hour and weekend, local time, of behaviors and requests."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ctr_tf import time as times
from ctr_tf.schema.feature import Feature
from ctr_tf.schema.kinds.bucketized import Bucketized

if TYPE_CHECKING:
    import tensorflow as tf

_OF = {"behavior": "behavior", "context": "request"}


@dataclasses.dataclass(frozen=True)
class Clock:
    """What the local clock shows; follows from a time alone.

    Args:
        name: of the feature, and of the function in `ctr_tf.time_ops`.
        function: of `ctr_tf.time`.
        num_values: how many there are.
        meaning: of the value, for its sentence.
    """

    name: str
    function: Callable
    num_values: int
    meaning: str

    def feature(self, role: str) -> Feature:
        """The declaration, for `"behavior"` or `"context"`."""
        return Bucketized(
            self.name,
            role,
            "int64",
            num_values=self.num_values,
            computed=True,
            description=f"{self.meaning} of the {_OF[role]}, local time",
        )

    def batch(self, time: np.ndarray, zone: int | str) -> np.ndarray:
        """Values of times in seconds, uint8; `zone` is `Schema.zone`."""
        return self.function(time, zone).astype(np.uint8)

    def graph(self, time: "tf.Tensor", zone: int | str) -> "tf.Tensor":
        """The same in the graph, int64; a test holds the two equal."""
        from ctr_tf import time_ops

        return getattr(time_ops, self.function.__name__)(time, zone)


CLOCKS = (
    Clock("hour", times.hour_of_day, 24, "hour, 0 to 23,"),
    Clock("weekend", times.is_weekend, 2, "1 on Saturday and Sunday, else 0,"),
)
