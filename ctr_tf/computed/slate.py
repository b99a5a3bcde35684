"""What the slate says of a request and of a candidate: its size, and places in it."""

import dataclasses

import numpy as np

from ctr_tf.schema.feature import MISSING, Feature
from ctr_tf.schema.kinds.numeric import Numeric

SLATE_SIZE = Numeric(
    "slate_size",
    "context",
    "int64",
    transform="log1p",
    computed=True,
    description="how many candidates are shown to the user, however many are scored",
)
_FORMS = {
    "rank": "share of the slate's other candidates with a smaller {of}, ties half",
    "share": "{of} by the slate's largest, 0 where that is 0",
    "ratio": "log of 1 + {of} over 1 + its mean in the slate",
}


@dataclasses.dataclass(frozen=True)
class Place:
    """A candidate's place within its slate, by a counter.

    A candidate whose counter is missing has no place, and others do not see it.

    Args:
        of: name of the counter.
    """

    of: str

    @property
    def features(self) -> tuple[Feature, ...]:
        """The declarations, features of candidates."""
        return tuple(
            Numeric(
                f"{self.of}_{form}",
                "candidate",
                computed=True,
                description=sentence.format(of=self.of)
                + "; belongs to the whole slate",
            )
            for form, sentence in _FORMS.items()
        )

    def values(self, value: np.ndarray, start: np.ndarray) -> dict[str, np.ndarray]:
        """Places of all candidates; the batch form and the online form in one.

        Args:
            value: the counter, int64, slate after slate.
            start: where each slate begins; none is empty.

        Returns:
            Feature name → float32, one a candidate.
        """
        known = value != MISSING["int64"]
        slate = np.repeat(np.arange(len(start)), np.diff(np.append(start, len(value))))
        number = np.where(known, value, 0).astype(np.float64)
        count = np.add.reduceat(known.astype(np.int64), start)
        largest = np.maximum.reduceat(number, start)[slate]
        mean = (np.add.reduceat(number, start) / np.maximum(count, 1))[slate]
        others = np.maximum(count - 1, 1)[slate]
        rank = _half_ranks(slate, np.where(known, number, np.inf), start) / others
        forms = {
            "rank": np.where(count[slate] > 1, rank, 0.5),
            "share": number / np.maximum(largest, 1),
            "ratio": np.log1p(number) - np.log1p(mean),
        }
        return {
            f"{self.of}_{form}": np.where(known, values, np.nan).astype(np.float32)
            for form, values in forms.items()
        }


def _half_ranks(slate: np.ndarray, value: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Smaller values in the slate, and half of the others that are equal."""
    order = np.lexsort((value, slate))
    slate, value = slate[order], value[order]
    begins = np.ones(len(order), bool)
    begins[1:] = (np.diff(slate) != 0) | (value[1:] != value[:-1])
    first = np.flatnonzero(begins)
    run = np.cumsum(begins) - 1
    equal = np.diff(np.append(first, len(order)))
    rank = np.empty(len(order))
    rank[order] = first[run] - start[slate] + (equal[run] - 1) / 2
    return rank
