"""A tower over what is known of a candidate, and nothing of the history."""

import dataclasses
from typing import Any

import keras

from ctr_tf.layers.tower_head import TowerHead
from ctr_tf.models.config_checks import check_positive, check_units
from ctr_tf.models.ranker import Ranker
from ctr_tf.schema import Schema
from ctr_tf.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class TowerConfig:
    """Sizes of `TowerRanker`.

    Args:
        name: of the model, for the registry.
        embedding_dim: width of the rows of a feature that does not set its own.
        head_units: hidden widths of the towers.
        tasks: further labels of the schema to predict, each by a tower of its own.
    """

    name: str = "tower"
    embedding_dim: int = 8
    head_units: tuple[int, ...] = (64, 32)
    tasks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_positive(self, "embedding_dim")
        check_units(self, "head_units")
        object.__setattr__(self, "tasks", tuple(self.tasks))


@keras.saving.register_keras_serializable(package="ctr_tf")
class TowerRanker(Ranker):
    """User, context and candidate side by side, and a tower: the line to beat.

    It is the `candidate_tower` of the other rankers alone. What they are better by is
    what they make of the history.

    Reference:
        Ours; a plain deep model without the sequence.
    """

    config_class = TowerConfig

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        config: TowerConfig | None = None,
        **kwargs: Any,
    ):
        super().__init__(schema, table_sizes, config, **kwargs)
        self.head = TowerHead(
            self.config.head_units, self.tasks, dtype=self.dtype_policy, name="head"
        )

    def build_parts(self) -> None:
        """Builds the head."""
        self.head.build_for(self.embedding, self.embedding.width("candidate"))

    def state_spec(self) -> dict:
        """User and request."""
        return self.request_spec()

    def encode(
        self, user: dict, behaviors: dict, context: dict, training: bool = False
    ) -> dict:
        """Keeps user and request."""
        return self.request_state(user, context)

    def history_logits(
        self, state: dict, candidates: dict, training: bool = False
    ) -> Tensor:
        """Logits `[B, C, T]` float32, of no history."""
        return self.head(
            candidates["embedding"],
            state["user"],
            state["context"],
            candidate_mask=candidates["mask"],
            training=training,
        )
