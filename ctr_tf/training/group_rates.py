"""Shares by group of features, and what is drawn by them in a training step."""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from ctr_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class GroupRates:
    """A share for each group of features, at least 0 and less than 1.

    Args:
        user: of the profile's features.
        context: of the request's features.
        behavior: of each behavior's features.
        candidate: of each candidate's features.
    """

    key: ClassVar[str]  # of the recipe

    user: float = 0.0
    context: float = 0.0
    behavior: float = 0.0
    candidate: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            rate = getattr(self, field.name)
            if not 0 <= rate < 1:
                raise UserError(
                    f"`{self.key}.{field.name}` is at least 0 and less than 1. "
                    f"Received: {rate!r}"
                )

    def of(self, key: str) -> float:
        """The share of an input key, which begins with the name of its group."""
        return getattr(self, key.split("_")[0])


def draw(shape: tf.Tensor, number: int, step: tf.Tensor) -> tf.Tensor:
    """Even numbers in [0, 1) that follow from their arguments and the replica alone.

    So a resumed training draws what an uninterrupted one does.

    Args:
        shape: of the result.
        number: of the sequence: another for each seed and each thing that is drawn for.
        step: of the optimizer, integer scalar.
    """
    context = tf.distribute.get_replica_context()
    step = tf.cast(step, tf.int32) * context.num_replicas_in_sync
    replica = tf.cast(context.replica_id_in_sync_group, tf.int32)
    return tf.random.stateless_uniform(shape, tf.stack([number, step + replica]))
