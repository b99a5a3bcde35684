"""Dropout of whole embedding rows: a feature is missing now and then.

Who clicked what in the first days says little about the days after, but a network with
a user's profile and history before it can tell every user from all others, and learns
the labels by heart in its second pass over a small log. Whole rows are dropped, not
single channels, which the other channels of a row would give away.
"""

import dataclasses

import tensorflow as tf

from ctr_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class RowDropoutConfig:
    """Share of the rows of a group's features that training drops.

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
                    f"`training.row_dropout.{field.name}` is at least 0 and less than "
                    f"1. Received: {rate!r}"
                )


class RowDropout:
    """Sets dropped rows to 0 and scales the others up by 1 / (1 - rate).

    What is dropped follows from the seed, the step and the replica alone, so a resumed
    training drops what an uninterrupted one does.

    Args:
        config: rates.
        seed: of the training.
    """

    def __init__(self, config: RowDropoutConfig, seed: int = 0):
        self._rates = dataclasses.asdict(config)
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
        context = tf.distribute.get_replica_context()
        step = tf.cast(step, tf.int32) * context.num_replicas_in_sync
        replica = tf.cast(context.replica_id_in_sync_group, tf.int32)
        dropped = {}
        for index, name in enumerate(sorted(rows)):
            values = rows[name]
            rate = self._rates[keys[name].split("_")[0]]
            if rate:
                seed = tf.stack([self._seed * 1_000 + index, step + replica])
                shape = tf.concat([tf.shape(values)[:-1], [1]], axis=0)
                kept = tf.random.stateless_uniform(shape, seed) >= rate
                values = tf.where(kept, values / (1 - rate), 0.0)
            dropped[name] = values
        return dropped
