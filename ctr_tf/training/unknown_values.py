"""Known values that training takes for unknown, so that it learns what unknown means.

A vocabulary holds what the training split has seen, and nearly every id of the training
is in it; a week later, most of a news site's articles are not. The row that they fall
on would be as it began. So a share of the ids of the training is read as unknown.
"""

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from ctr_tf.errors import UserError
from ctr_tf.schema import FIRST_ID, OUT_OF_VOCABULARY_ID, Feature


@dataclasses.dataclass(frozen=True)
class UnknownValuesConfig:
    """Share of the ids of a group that training reads as unknown.

    Args:
        user: of the profile's features.
        context: of the request's features.
        behavior: of each behavior's features.
        candidate: of each candidate's features.
    """

    user: float = 0.0
    context: float = 0.0
    behavior: float = 0.0
    candidate: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            rate = getattr(self, field.name)
            if not 0 <= rate < 1:
                raise UserError(
                    f"`training.unknown_values.{field.name}` is at least 0 and less "
                    f"than 1. Received: {rate!r}"
                )


class UnknownValues:
    """Replaces ids of features with a vocabulary by that of an unknown value.

    Padding stays padding, and the features of one behavior or candidate are replaced
    independently. What is replaced follows from the seed, the step and the replica
    alone, so a resumed training replaces what an uninterrupted one does.

    Args:
        config: shares.
        seed: of the training.
    """

    def __init__(self, config: UnknownValuesConfig, seed: int = 0):
        self._rates = dataclasses.asdict(config)
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
            features: name of rows → group, and the feature whose ids they are.

        Returns:
            The lookups that training goes on with.
        """
        context = tf.distribute.get_replica_context()
        step = tf.cast(step, tf.int32) * context.num_replicas_in_sync
        replica = tf.cast(context.replica_id_in_sync_group, tf.int32)
        replaced = dict(lookups)
        for index, name in enumerate(sorted(lookups)):
            group, feature = features[name]
            rate = self._rates[group]
            if rate and feature.vocabulary_name is not None:
                table, ids = lookups[name]
                # Another sequence than that of `RowDropout`, which counts alike.
                seed = tf.stack([self._seed * 1_000 + 500 + index, step + replica])
                drawn = tf.random.stateless_uniform(tf.shape(ids), seed) < rate
                unknown = tf.cast(OUT_OF_VOCABULARY_ID, ids.dtype)
                ids = tf.where(drawn & (ids >= FIRST_ID), unknown, ids)
                replaced[name] = (table, ids)
        return replaced
