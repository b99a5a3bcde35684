"""The base of models whose candidates look at the user's behaviors.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `D` model width, `E` width of
a candidate's features, `I` width of the interest.
"""

import dataclasses

import keras
from keras import ops

from ctr_tf.layers.feature_embedding import ExtraTable
from ctr_tf.layers.tower import Tower
from ctr_tf.models.config_checks import (
    check_heads,
    check_positive,
    check_tasks,
    check_units,
)
from ctr_tf.models.ranker import Ranker
from ctr_tf.schema import Schema


@dataclasses.dataclass(frozen=True)
class TargetRankerConfig:
    """Sizes that all of these models have.

    Args:
        name: of the model, for the registry.
        embedding_dim: width of the rows of a feature that does not set its own.
        dim: D, width of projected behaviors and candidates.
        num_heads: H; divides `dim`.
        head_units: hidden widths of the tower.
        tasks: further labels of the schema to predict, each by a tower of its own.
    """

    name: str
    embedding_dim: int = 8
    dim: int = 32
    num_heads: int = 4
    head_units: tuple[int, ...] = (64, 32)
    tasks: tuple[str, ...] = ()

    def __post_init__(self):
        check_positive(self, "embedding_dim", "dim", "num_heads")
        check_heads(self)
        check_units(self, "head_units")
        object.__setattr__(self, "tasks", tuple(self.tasks))


class TargetRanker(Ranker):
    """Keeps the behaviors; each candidate looks at them; a tower scores.

    ``logit = Tower([interest, user, context, target])``, where target is the candidate
    projected to D as the behaviors are, and interest is what a subclass makes of both.
    Where `projects` is False, behaviors stay as they are embedded, which gives D, and
    targets have the same channels: the item's, and 0 where only behaviors have
    something. The tower then sees all features of the candidate, not the target.

    State, batch first: `request_time` `[B]`, `user` `[B, Du]`, `context` `[B, Dx]`,
    `time`, `mask` `[B, N]`, `behaviors` `[B, N, D]`, and what a subclass adds.

    A subclass sets `config_class` and implements `build_interest` and `interest`.

    Args:
        schema: of the data.
        table_sizes: embedding table name → rows.
        config: of the type `config_class`; its defaults where None.
    """

    config_class: type[TargetRankerConfig]
    projects = True

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        config: TargetRankerConfig | None = None,
        **kwargs,
    ):
        config = config or self.config_class()
        super().__init__(
            schema,
            table_sizes,
            config.embedding_dim,
            self.extra_tables(config),
            **kwargs,
        )
        self.config = config
        dense, policy = keras.layers.Dense, self.dtype_policy
        if self.projects:
            self.behavior_projection = dense(config.dim, dtype=policy, name="behavior")
            self.candidate_projection = dense(
                config.dim, dtype=policy, name="candidate"
            )
        self.tasks = check_tasks(config.tasks, schema)
        self.tower = Tower(config.head_units, dtype=policy, name="tower")
        self.task_towers = [
            Tower(config.head_units, dtype=policy, name=f"tower_{task}")
            for task in self.tasks
        ]

    @staticmethod
    def extra_tables(config) -> tuple[ExtraTable, ...]:
        """Tables that a subclass has beside those of the features."""
        return ()

    def build(self, input_shape=None):
        """Makes all weights; the schema alone decides their shapes."""
        if self.built:
            return
        width = self.embedding.width
        dim, shown = width("behavior"), width("candidate")
        self.embedding.build()
        if self.projects:
            self.behavior_projection.build((None, None, dim))
            self.candidate_projection.build((None, None, shown))
            dim = shown = self.config.dim
        interest = self.build_interest(dim)
        known = width("user") + width("context") + shown
        for tower in (self.tower, *self.task_towers):
            tower.build((None, None, interest + known))
        self.built = True

    def build_interest(self, dim: int) -> int:
        """Makes and builds the subclass' layers; returns I, the interest's width."""
        raise NotImplementedError(f"{type(self).__name__} lacks `build_interest`.")

    def interest(self, target_BCD, state: dict, training: bool = False):
        """What the history says about each candidate.

        Args:
            target_BCD: targets, see the class.
            state: from `encode`.
            training: whether the model is being trained.

        Returns:
            `[B, C, I]`.
        """
        raise NotImplementedError(f"{type(self).__name__} lacks `interest`.")

    def encode(self, user, behaviors, context, training=False) -> dict:
        """The user's state; see the class."""
        vectors_BND = behaviors["embedding"]
        if self.projects:
            vectors_BND = self.behavior_projection(vectors_BND)
        return {
            "request_time": context["time"],
            "user": user["embedding"],
            "context": context["embedding"],
            "time": behaviors["time"],
            "mask": behaviors["mask"],
            "behaviors": vectors_BND,
        }

    def score(self, state, candidates, training=False):
        """Logits `[B, C]` float32, with tasks `[B, C, T]`."""
        target_BCD, shown_BCE = self._targets(candidates["embedding"])
        interest_BCI = self.interest(target_BCD, state, training)
        batch, count = ops.shape(target_BCD)[:2]
        known = [
            ops.broadcast_to(
                ops.cast(state[key], target_BCD.dtype)[:, None],
                (batch, count, state[key].shape[-1]),
            )
            for key in ("user", "context")
        ]
        parts = [ops.cast(interest_BCI, target_BCD.dtype), *known, shown_BCE]
        rows = ops.concatenate(parts, axis=-1)
        towers = (self.tower, *self.task_towers)
        return self.join_tasks([tower(rows) for tower in towers])

    def _targets(self, embedding_BCE) -> tuple:
        """Targets, and what the tower sees of the candidates."""
        if self.projects:
            target_BCD = self.candidate_projection(embedding_BCE)
            return target_BCD, target_BCD
        common = self.embedding.item_dim
        lacking = self.embedding.width("behavior") - common
        items = embedding_BCE[..., :common]
        return ops.pad(items, ((0, 0), (0, 0), (0, lacking))), embedding_BCE
