"""Which behaviors say that a user liked something: the schema's line `positive`."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.schema.feature import Feature


@dataclasses.dataclass(frozen=True)
class Positive:
    """Of a log whose behaviors are not all liked: those that are.

    A behavior is positive where its value of `feature` is `at_least` so much; where the
    value is missing it is not.

    Args:
        feature: of role behavior, one number a behavior: numeric, or bucketized by
            boundaries, of which `at_least` is then one.
        at_least: the least value that is positive.
    """

    feature: str
    at_least: float

    # The least positive input, of a rule that is `bound`. No field: it is no key.
    _least: ClassVar[int | float | None] = None

    def bound(self, features: Sequence[Feature]) -> "Positive":
        """The rule of a schema, which knows what inputs of its feature mean.

        Args:
            features: those that the log carries.

        Raises:
            UserError: if none of them has the name and the role, or its inputs do not
                tell which values are at least `at_least`.
        """
        feature = self._find(features)
        if feature.length > 1:
            raise UserError(
                "`positive.feature` must have one value a behavior. "
                f"Received: '{self.feature}' of length={feature.length}"
            )
        if not math.isfinite(self.at_least):
            raise UserError(
                f"`positive.at_least` must be finite. Received: {self.at_least!r}"
            )
        rule = Positive(self.feature, float(self.at_least))
        object.__setattr__(rule, "_least", feature.least_input(rule.at_least))
        return rule

    def _find(self, features: Sequence[Feature]) -> Feature:
        named = {f.role: f for f in features if f.name == self.feature}
        if "behavior" in named:
            return named["behavior"]
        if named:
            raise UserError(
                "`positive.feature` must be of role behavior. "
                f"Received: '{self.feature}' of role '{next(iter(named))}'"
            )
        known = [f.name for f in features if f.role == "behavior"]
        unknown = unknown_name("behavior feature", self.feature, known)
        raise UserError(f"{unknown} Received: positive.feature={self.feature!r}")

    def mask(self, values: Any) -> Any:
        """Which behaviors are positive.

        Padding of a numeric feature is a number like any other: whoever has padding
        leaves it out.

        Args:
            values: the inputs `behavior_<feature>` of a batch, int64 ids or float32,
                any shape.

        Returns:
            bool, of the same shape.
        """
        from keras import ops

        if self._least is None:
            raise ValueError("The rule `positive` of no schema tells nothing.")
        return ops.greater_equal(values, self._least)
