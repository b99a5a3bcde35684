"""What a ranker puts out for a batch, and losses look at."""

from typing import Any, NamedTuple


class Outputs(NamedTuple):
    """Logits of a batch.

    Args:
        logits: `[B, C, T]` float32, one of T labels after the other.
        auxiliary: name → `[B, C, 1]` float32; see `Ranker.auxiliary`.
        measures: name → total and count, float32 scalars; see `Ranker.measured`.
        places: `[B, C, T]` float32, what the places at which candidates were shown add
            while a model trains; None where nothing is known of them.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.losses import Outputs
        >>> Outputs(np.zeros((1, 3, 1))).auxiliary
        {}
    """

    logits: Any
    auxiliary: dict[str, Any] = {}  # this one and the next are written by nobody
    measures: dict[str, Any] = {}
    places: Any = None

    @property
    def as_shown(self) -> Any:
        """The logits of candidates where they were shown, which labels are of."""
        return self.logits if self.places is None else self.logits + self.places

    @property
    def auxiliary_as_shown(self) -> dict[str, Any]:
        """The same of the auxiliary logits, which predict the first label."""
        if self.places is None:
            return self.auxiliary
        first = self.places[..., :1]
        return {name: logits + first for name, logits in self.auxiliary.items()}
