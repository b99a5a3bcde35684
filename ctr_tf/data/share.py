"""Which samples a share of the training set is made of.

Record number g of a split, counted over its files in their order, has the place
``(g K mod M) / M`` between 0 and 1, and a share holds the records whose place is below
it. K / M is near the golden ratio, which spreads the places of any stretch of records
evenly. So a share is the same in every epoch, run and worker; a smaller one is part of
a larger one; it has its part of every file, and of early and late requests alike (files
are sorted by request time); and it is counted without reading a record.
"""

import numpy as np
import tensorflow as tf

_M = 1 << 20  # places; shares are told apart by a millionth
_K = 648_055  # odd, so that M records in a row have M different places


def places_below(share: float) -> int:
    """How many of the M places a share has, at least 1."""
    return max(round(share * _M), 1)


def in_share(number: tf.Tensor, share: float) -> tf.Tensor:
    """Whether a record belongs to a share, bool.

    Args:
        number: int64, of the record in its split.
        share: above 0, at most 1.
    """
    return number % _M * _K % _M < places_below(share)


def count_in_share(samples: int, share: float) -> int:
    """How many of the first records belong to a share, exactly.

    Args:
        samples: of the split.
        share: above 0, at most 1.
    """
    whole, rest = divmod(samples, _M)
    below = places_below(share)
    return whole * below + int((np.arange(rest) * _K % _M < below).sum())
