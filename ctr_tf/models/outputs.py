"""What a ranker puts out for a batch."""

from typing import Any, NamedTuple


class Outputs(NamedTuple):
    """Logits of a batch.

    Args:
        logits: `[B, C, T]` float32, one of T labels after the other.
        auxiliary: name → `[B, C, 1]` float32; see `Ranker.auxiliary`.
        measures: name → total and count, float32 scalars; see `Ranker.measured`.
    """

    logits: Any
    auxiliary: dict[str, Any]
    measures: dict[str, Any] = {}  # written by nobody
