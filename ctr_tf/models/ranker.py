"""The two halves that every model has: encode a user once, score any candidates.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `T` labels, `D` width.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import keras

from ctr_tf import config as configs
from ctr_tf.errors import UserError
from ctr_tf.layers.feature_embedding import ExtraTable, FeatureEmbedding
from ctr_tf.layers.position_bias import PositionBias
from ctr_tf.layers.state_spec import StateSpec
from ctr_tf.layers.tower_head import TowerHead
from ctr_tf.losses.outputs import Outputs
from ctr_tf.models.config_checks import check_tasks
from ctr_tf.schema import Schema
from ctr_tf.tensors import Shape, Tensor


class Ranker(keras.Model):
    """Base of all models: ``score(encode(user, behaviors, context), candidates)``.

    Candidates enter only in `score`, and each sees the state and itself, so no score
    depends on another candidate of the slate, and a user's state can be computed once,
    kept, and scored against any number of candidates.

    A forward pass has two steps: embedding rows are gathered (`lookup`), and `logits`
    is the dense computation on them. Training and serving run the first outside and
    the second inside the compiled (XLA) cluster, so that a step costs the same whatever
    a table's size.

    A model is composed of layers: it makes them in its constructor, builds them in
    `build_parts`, declares its state in `state_spec`, and implements `encode` and
    `history_logits`. These get groups of tensors as `FeatureEmbedding.assemble` makes
    them:

    * `user`: `{"embedding": [B, Du]}`
    * `context`: `{"embedding": [B, Dx], "time": [B] int64}` (the request time)
    * `behaviors`: `{"embedding": [B, N, Db], "time": [B, N] int64, "mask": [B, N] bool,
      "chunk": [B, N] int32, "ids": {feature: [B, N]}, "texts": {feature: [B, N]}}`,
      left-padded, oldest first
    * `candidates`: `{"embedding": [B, C, Dc], "mask": [B, C] bool,
      "ids": {feature: [B, C]}, "texts": {feature: [B, C]}}`

    Where the schema says which behaviors are positive, `behaviors` has `"positive"`,
    `[B, N] bool`, False on padding.

    Rows of `extra_tables` are among behaviors and candidates by their table's name.
    Texts are tokens, `[B, N, T]` and `[B, C, T]`, for a model that reads them
    (`reads_texts`); for others they may be anything. Where a model reads items once
    (`reads_items_once`), candidates may have `text_vectors` instead, `[B, C, V, W]`:
    what `read_items` made of them.

    In the training of a model whose `reads_progress` is True, `context` has `progress`,
    the share of the training's steps that is past, a float32 scalar.

    Logits are `[B, C, T]`: the label that the model is trained for, and then `tasks`,
    the further ones that it predicts.

    Where its config has `candidate_tower`, the widths of one, what is known of a
    candidate has a way of its own to the logit, past all that the model makes of the
    history (ours; the papers' models have none): ``logit = history_logits + tower``. A
    history that says nothing then costs nothing. Where a model's own head does not see
    user, request and candidate beside what the history says of the candidate, its tower
    sees that, too: `tower_interest` numbers, which `history_and_interest` gives.

    Where the schema has features of role `position`, training adds what the place at
    which a candidate was shown does to its clicks (`PositionBias`); no score has it.

    `num_chunks` is the P that `behaviors["chunk"]` must have been made for; the
    schema's unless the model sets its own.

    Class attributes of a model: `config_class`, the dataclass of its `config`;
    `auxiliary`, names of further logits that only training needs; `ablations` and
    `alternatives`, variants by name, each the keys of the config that it sets, for
    comparisons of the model with itself; `reads_texts`, whether it reads tokens. And
    of a class or an instance: `measured`, names of means that its forward pass takes
    along; `reads_items_once`, whether no training changes what `read_items` makes of
    an item's texts; `item_texts`, the text features that it reads for that;
    `tower_interest`, I, where its candidate's tower sees what the history says.

    Args:
        schema: of the data.
        table_sizes: embedding table name → rows (`Vocabularies.table_sizes`).
        config: of the type `config_class`; its defaults where None.
        extra_tables: see `FeatureEmbedding`.
    """

    built: bool
    config_class: ClassVar[type]
    auxiliary: tuple[str, ...] = ()
    ablations: ClassVar[dict[str, dict[str, Any]]] = {}
    alternatives: ClassVar[dict[str, dict[str, Any]]] = {}
    reads_texts: ClassVar[bool] = False
    reads_progress: bool = False
    reads_items_once: bool = False
    item_texts: tuple[str, ...] = ()
    tower_interest: int | None = None
    measured: tuple[str, ...] = ()

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        config: Any = None,
        extra_tables: Iterable[ExtraTable] = (),
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.config = config or self.config_class()
        self.schema = schema
        self.table_sizes = dict(table_sizes)
        self.embedding = self.make_embedding(extra_tables)
        self.tasks = check_tasks(self.config.tasks, schema)
        self.candidate_tower = self._make_candidate_tower()
        self.position_bias = self.make_position_bias()
        self.num_chunks = schema.num_chunks

    def make_embedding(self, extra_tables: Iterable[ExtraTable]) -> FeatureEmbedding:
        """What makes vectors of features."""
        return FeatureEmbedding(
            self.schema,
            self.table_sizes,
            self.config.embedding_dim,
            extra_tables,
            dtype=self.dtype_policy,
            name="feature_embedding",
        )

    def _make_candidate_tower(self) -> TowerHead | None:
        units = getattr(self.config, "candidate_tower", ())
        if not units:
            return None
        return TowerHead(
            units, self.tasks, dtype=self.dtype_policy, name="candidate_tower"
        )

    def make_position_bias(self) -> PositionBias | None:
        """What training adds for the place of a candidate, where places are known."""
        if not self.schema.position:
            return None
        sizes = {}
        for feature in self.schema.position:
            assert feature.num_ids is not None  # the schema has checked the kind
            sizes[feature.name] = feature.num_ids
        labels = 1 + len(self.tasks)
        return PositionBias(sizes, labels, name="position_bias")

    def dense(self, units: int, name: str, **options: Any) -> keras.layers.Dense:
        """A `Dense` of the model's precision."""
        return keras.layers.Dense(units, dtype=self.dtype_policy, name=name, **options)

    def build(self, input_shape: Shape | None = None) -> None:
        """Makes all weights; the schema alone decides their shapes."""
        if not self.built:
            if not self.embedding.built:
                self.embedding.build()
            self.build_parts()
            if self.candidate_tower is not None:
                shown = self.embedding.width("candidate")
                self.candidate_tower.build_for(
                    self.embedding, shown, self.tower_interest
                )
            if self.position_bias is not None and not self.position_bias.built:
                self.position_bias.build()
            self.built = True

    def build_parts(self) -> None:
        """Builds the model's layers beside the embedding."""
        raise NotImplementedError(f"{type(self).__name__} lacks `build_parts`.")

    @property
    def network(self) -> list[keras.Variable]:
        """All variables but the tables (`embedding.tables`)."""
        tables = {id(table.table) for table in self.embedding.tables.values()}
        return [variable for variable in self.variables if id(variable) not in tables]

    @property
    def language_model_weights(self) -> list[keras.Variable]:
        """Those of the `network` that are a language model's."""
        return []

    def count_weights(self) -> dict[str, int]:
        """Trainable numbers of the `network` and of the `tables`."""
        tables = self.embedding.tables.values()
        return {
            "network": sum(math.prod(v.shape) for v in self.network if v.trainable),
            "tables": sum(table.rows * table.width for table in tables),
        }

    def lookup(self, inputs: dict) -> dict:
        """Embedding rows of the batch, `{name: [..., width]}`; no XLA in here."""
        return self.embedding.lookup(inputs)

    def logits(self, inputs: dict, rows: dict, training: bool = False) -> Tensor:
        """The dense computation: logits `[B, C, T]` float32 from inputs and rows."""
        state, candidates, _ = self._encoded(inputs, rows, training)
        return self.score(state, candidates, training=training)

    def outputs(self, inputs: dict, rows: dict, training: bool = False) -> Outputs:
        """As `logits`, with the auxiliary logits, what was measured, and places."""
        state, candidates, measures = self._encoded(inputs, rows, training)
        logits = self.score(state, candidates, training=training)
        places = self._places(inputs) if training else None
        auxiliary = self.auxiliary_logits(state, candidates)
        if set(auxiliary) != set(self.auxiliary):
            raise UserError(
                f"`auxiliary` of {type(self).__name__} names its auxiliary logits, "
                f"{sorted(auxiliary)}. Received: {self.auxiliary}"
            )
        return Outputs(logits, auxiliary, measures, places)

    def _places(self, inputs: dict) -> Tensor | None:
        """What the places at which candidates were shown do to their clicks."""
        if self.position_bias is None:
            return None
        ids = {name: inputs[f"position_{name}"] for name in self.position_bias.sizes}
        return self.position_bias(ids, inputs["candidate_mask"])

    def _encoded(self, inputs: dict, rows: dict, training: bool) -> tuple:
        groups = self.embedding.assemble(inputs, rows)
        user, behaviors, context = (
            groups[name] for name in ("user", "behaviors", "context")
        )
        state, measures = self.encode_measured(user, behaviors, context, training)
        return state, groups["candidates"], measures

    def call(self, inputs: dict, training: bool = False) -> Tensor:
        """Logits `[B, C, T]` float32; see `ctr_tf.data` for the inputs."""
        return self.logits(inputs, self.lookup(inputs), training=training)

    def state_spec(self) -> dict:
        """What `encode` gives, with a `StateSpec` in the place of each tensor."""
        raise NotImplementedError(f"{type(self).__name__} lacks `state_spec`.")

    def encode(
        self, user: dict, behaviors: dict, context: dict, training: bool = False
    ) -> dict:
        """The user's state, as `state_spec` declares it."""
        raise NotImplementedError(f"{type(self).__name__} lacks `encode`.")

    def encode_measured(
        self, user: dict, behaviors: dict, context: dict, training: bool = False
    ) -> tuple[dict, dict]:
        """The state, and of each name in `measured` a total and its count, float32."""
        return self.encode(user, behaviors, context, training=training), {}

    def score(self, state: dict, candidates: dict, training: bool = False) -> Tensor:
        """Logits `[B, C, T]` float32, each from the state and its own candidate."""
        logits_BCT, interest_BCI = self.history_and_interest(
            state, candidates, training=training
        )
        if self.candidate_tower is None:
            return logits_BCT
        return logits_BCT + self.candidate_tower(
            candidates["embedding"],
            state["user"],
            state["context"],
            interest_BCI,
            candidate_mask=candidates["mask"],
            training=training,
        )

    def history_logits(
        self, state: dict, candidates: dict, training: bool = False
    ) -> Tensor:
        """The model's own part of the logits, `[B, C, T]` float32."""
        raise NotImplementedError(f"{type(self).__name__} lacks `history_logits`.")

    def history_and_interest(
        self, state: dict, candidates: dict, training: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """`history_logits`, and what the tower sees of the history, `[B, C, I]`."""
        return self.history_logits(state, candidates, training=training), None

    def auxiliary_logits(self, state: dict, candidates: dict) -> dict:
        """Further logits `[B, C, 1]` by name, those of `auxiliary`."""
        return {}

    def read_items(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """What a model that reads texts makes of candidates' tokens, `[B, C, …]`."""
        raise NotImplementedError(f"{type(self).__name__} lacks `read_items`.")

    def read_text(self, name: str, tokens: Tensor) -> Tensor:
        """What it makes of one text feature alone, `[rows, T]` → `[rows, W]`."""
        raise NotImplementedError(f"{type(self).__name__} lacks `read_text`.")

    def request_state(self, user: dict, context: dict) -> dict:
        """The part of the state that every model has: user and request."""
        return {
            "request_time": context["time"],
            "user": user["embedding"],
            "context": context["embedding"],
        }

    def request_spec(self) -> dict:
        """`request_state`, declared."""
        return {
            "request_time": StateSpec((), "int64"),
            "user": StateSpec((self.embedding.width("user"),)),
            "context": StateSpec((self.embedding.width("context"),)),
        }

    def get_config(self) -> dict[str, Any]:
        """Config with the schema as YAML."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "schema": self.schema.to_yaml(),
            "table_sizes": dict(self.table_sizes),
            "config": configs.to_mapping(self.config),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Self:
        """Inverse of `get_config`."""
        config = dict(config)
        config["schema"] = Schema.from_yaml(config["schema"])
        config["config"] = configs.parse(cls.config_class, config["config"])
        config["dtype"] = keras.saving.deserialize_keras_object(config["dtype"])
        return cls(**config)
