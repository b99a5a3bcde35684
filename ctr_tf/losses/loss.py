"""What all terms of an objective have in common.

Shape suffixes: `B` batch, `C` candidates, `T` labels.
"""

from collections.abc import Mapping
from typing import Any

from keras import ops

from ctr_tf.losses.outputs import Outputs
from ctr_tf.tensors import Tensor

MAIN = "main"  # the ranker that is trained for, and the only one as a rule
TEACHER = "teacher"  # that which it learns from, if there is one


class Loss:
    """A mean over the global batch, given as its two sums over one replica's share.

    Where the batch is split over replicas, each adds up its own share, the counts are
    added over all of them, and the mean is right whatever each has got.

    A subclass sets `name`, by which recipes weigh it and reports call it; `weight`,
    what it weighs where a recipe does not say; and `trains_scores`, False where it
    trains something else.

    Args:
        ranker: name of the one, of those that are trained together, whose outputs it
            looks at.
    """

    name: str
    weight: float = 0.0
    trains_scores: bool = True

    def __init__(self, ranker: str = MAIN):
        self.ranker = ranker

    @property
    def rankers(self) -> tuple[str, ...]:
        """Names of all whose outputs it looks at."""
        return (self.ranker,)

    def count(self, labels: Tensor, weights: Tensor) -> Tensor:
        """What the total is divided by, a float32 scalar: the weight of all candidates.

        Args:
            labels: `[B, C, T]` float32, 0 … 1.
            weights: `[B, C]` float32, 0 on padding.
        """
        return ops.sum(weights)

    def total(
        self, outputs: Mapping[str, Outputs], labels: Tensor, weights: Tensor
    ) -> Tensor:
        """The sum over the share, a float32 scalar.

        Args:
            outputs: of each ranker, by its name.
            labels: `[B, C, T]` float32, 0 … 1.
            weights: `[B, C]` float32, 0 on padding.
        """
        raise NotImplementedError(f"{type(self).__name__} lacks `total`.")

    def applies_to(self, ranker: Any) -> bool:
        """Whether a ranker has what the term looks at."""
        return True
