"""Known values that training takes for unknown, so that it learns what unknown means.

A vocabulary holds what the training split has seen, and nearly every id of the training
is in it; a week later, most of a news site's articles are not. The row that they fall
on would be as it began. So a share of the ids of the training is read as unknown.
"""

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from ctr_tf.schema import FIRST_ID, OUT_OF_VOCABULARY_ID, Feature
from ctr_tf.training.group_rates import GroupRates, draw


@dataclasses.dataclass(frozen=True)
class UnknownValuesConfig(GroupRates):
    """Share of a group's ids that training reads as unknown; see `GroupRates`."""

    key = "training.unknown_values"


class UnknownValues:
    """Replaces ids of features with a vocabulary by that of an unknown value.

    Padding stays padding, and the features of one behavior or candidate are replaced
    independently.

    Args:
        config: shares.
        seed: of the training.
    """

    def __init__(self, config: UnknownValuesConfig, seed: int = 0):
        self._rates = config
        self._seed = seed

    def __call__(
        self,
        lookups: Mapping[str, tuple[str, tf.Tensor]],
        step: tf.Tensor,
        features: Mapping[str, tuple[str, Feature]],
    ) -> dict[str, tuple[str, tf.Tensor]]:
        """Replaces ids.

        Args:
            lookups: name of rows → table, and ids.
            step: of the optimizer, integer scalar.
            features: name of rows → input key, and the feature whose ids they are.

        Returns:
            The lookups that training goes on with.
        """
        replaced = dict(lookups)
        for index, name in enumerate(sorted(lookups)):
            key, feature = features[name]
            rate = self._rates.of(key)
            if rate and feature.vocabulary_name is not None:
                table, ids = lookups[name]
                # Another sequence than that of `RowDropout`, which counts alike.
                number = self._seed * 1_000 + 500 + index
                drawn = draw(tf.shape(ids), number, step) < rate
                unknown = tf.cast(OUT_OF_VOCABULARY_ID, ids.dtype)
                ids = tf.where(drawn & (ids >= FIRST_ID), unknown, ids)
                replaced[name] = (table, ids)
        return replaced
