"""Dropout of whole embedding rows: a feature is missing now and then.

Who clicked what in the first days says little about the days after, but a network with
a user's profile and history before it can tell every user from all others, and learns
the labels by heart in its second pass over a small log. Whole rows are dropped, not
single channels, which the other channels of a row would give away.
"""

import dataclasses

import tensorflow as tf

from ctr_tf.training.group_rates import GroupRates, draw


@dataclasses.dataclass(frozen=True)
class RowDropoutConfig(GroupRates):
    """Share of the rows of a group's features that training drops; see `GroupRates`."""

    key = "training.row_dropout"


class RowDropout:
    """Sets dropped rows to 0 and scales the others up by 1 / (1 - rate).

    Args:
        config: rates.
        seed: of the training.
    """

    def __init__(self, config: RowDropoutConfig, seed: int = 0):
        self._rates = config
        self._seed = seed

    def __call__(self, rows: dict, step: tf.Tensor, keys: dict[str, str]) -> dict:
        """Drops rows.

        Args:
            rows: looked up, `{name: [..., width]}`.
            step: of the optimizer, integer scalar.
            keys: name of rows → input key, which begins with the name of its group.

        Returns:
            The rows that training goes on with.
        """
        dropped = {}
        for index, name in enumerate(sorted(rows)):
            values = rows[name]
            rate = self._rates.of(keys[name])
            if rate:
                shape = tf.concat([tf.shape(values)[:-1], [1]], axis=0)
                kept = draw(shape, self._seed * 1_000 + index, step) >= rate
                values = tf.where(kept, values / (1 - rate), 0.0)
            dropped[name] = values
        return dropped
