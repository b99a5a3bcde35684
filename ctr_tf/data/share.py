"""Which samples a share of the training set is made of.

Record number g of a split, counted over its files in their order, has the place
``(g K mod M) / M`` between 0 and 1, and a share holds the records whose place is below
it. K / M is near the golden ratio, which spreads the places of any stretch of records
evenly. So a share is the same in every epoch, run and worker; a smaller one is part of
a larger one; it has its part of every file, and of early and late requests alike (files
are sorted by request time); and it is counted, and its records are found, without
reading one.
"""

import dataclasses
import functools

import numpy as np

_M = 1 << 20  # places; shares are told apart by a millionth
_K = 648_055  # odd, so that M records in a row have M different places


@dataclasses.dataclass(frozen=True)
class Share:
    """The records of a share.

    Args:
        of_all: above 0, at most 1.
    """

    of_all: float

    def has(self, number: np.ndarray) -> np.ndarray:
        """Whether records belong to it, bool.

        Args:
            number: int64, of the records in their split.
        """
        return number % _M * _K % _M < self._places

    def count(self, records: np.ndarray | int) -> np.ndarray:
        """How many of the first records of a split belong to it, exactly.

        Args:
            records: how many are the first.
        """
        whole, rest = np.divmod(np.asarray(records, np.int64), _M)
        return whole * self._places + np.searchsorted(self._first, rest)

    def number(self, place: np.ndarray | int) -> np.ndarray:
        """Number in the split of the records of the share, counted from 0.

        Args:
            place: of the records in the share.
        """
        whole, rest = np.divmod(np.asarray(place, np.int64), self._places)
        return whole * _M + self._first[rest]

    @property
    def _places(self) -> int:
        """How many of the M places it has, at least 1."""
        return max(round(self.of_all * _M), 1)

    @property
    def _first(self) -> np.ndarray:
        return _first_numbers(self._places)


@functools.lru_cache(maxsize=2)
def _first_numbers(places: int) -> np.ndarray:
    """Numbers below M of the records of a share; the same follow behind each M."""
    return np.flatnonzero(np.arange(_M) * _K % _M < places)
