"""The two halves that every model has: encode a user once, score any candidates.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `D` width.
"""

import dataclasses
from collections.abc import Iterable

import keras
from keras import ops

from ctr_tf.layers.feature_embedding import ExtraTable, FeatureEmbedding
from ctr_tf.schema import Schema


class Ranker(keras.Model):
    """Base of all models: ``score(encode(user, behaviors, context), candidates)``.

    Candidates enter only in `score`, and each sees the state and itself, so no score
    depends on another candidate of the slate, and a user's state can be computed once,
    kept, and scored against any number of candidates.

    A forward pass has two steps. `lookup` gathers the embedding rows; `forward` is the
    dense computation on them. Training runs the first outside and the second inside
    the compiled (XLA) cluster, so that a step costs the same whatever a table's size.

    A model sets `config_class`, the dataclass of the `config` that it is made from, and
    implements `encode` and `score`; these get groups of tensors as
    `FeatureEmbedding.assemble` makes them:

    * `user`: `{"embedding": [B, Du]}`
    * `context`: `{"embedding": [B, Dx], "time": [B] int64}` (the request time)
    * `behaviors`: `{"embedding": [B, N, Db], "time": [B, N] int64, "mask": [B, N] bool,
      "chunk": [B, N] int32, "ids": {feature: [B, N]}}`, left-padded, oldest first
    * `candidates`: `{"embedding": [B, C, Dc], "mask": [B, C] bool,
      "ids": {feature: [B, C]}}`

    Rows of `extra_tables` are among behaviors and candidates by their table's name.

    `tasks` are the further labels that it predicts, beside the one it is trained for.
    Where there are any, logits and labels are `[B, C, T]`, one of T = 1 + len(tasks)
    after the other, that one first; `by_task` takes them apart.

    `num_chunks` is the P that `behaviors["chunk"]` must have been made for; the
    schema's unless the model sets its own.

    Args:
        schema: of the data.
        table_sizes: embedding table name → rows (`Vocabularies.table_sizes`).
        embedding_dim: width of the rows of a feature that does not set its own.
        extra_tables: see `FeatureEmbedding`.
    """

    config_class: type
    tasks: tuple[str, ...] = ()

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        embedding_dim: int = 8,
        extra_tables: Iterable[ExtraTable] = (),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.schema = schema
        self.table_sizes = dict(table_sizes)
        self.embedding_dim = embedding_dim
        self.embedding = FeatureEmbedding(
            schema, table_sizes, embedding_dim, extra_tables, dtype=self.dtype_policy
        )
        self.num_chunks = schema.num_chunks
        self.step = None

    def lookup(self, inputs: dict) -> dict:
        """Embedding rows of the batch, `{name: [..., width]}`; no XLA in here."""
        return self.embedding.lookup(inputs)

    def forward(self, inputs: dict, rows: dict, training: bool = False):
        """The dense computation: logits `[B, C]` float32 from inputs and their rows."""
        state, candidates = self._encoded(inputs, rows, training)
        return self.score(state, candidates, training=training)

    def forward_in_training(self, inputs: dict, rows: dict) -> tuple:
        """As `forward`, with the auxiliary logits as a second result."""
        state, candidates = self._encoded(inputs, rows, training=True)
        logits = self.score(state, candidates, training=True)
        return logits, self.auxiliary_logits(state, candidates)

    def _encoded(self, inputs: dict, rows: dict, training: bool) -> tuple[dict, dict]:
        groups = self.embedding.assemble(inputs, rows)
        user, behaviors, context = (
            groups[name] for name in ("user", "behaviors", "context")
        )
        state = self.encode(user, behaviors, context, training=training)
        return state, groups["candidates"]

    def call(self, inputs: dict, training: bool = False):
        """Logits `[B, C]` float32; see `ctr_tf.data` for the inputs."""
        return self.forward(inputs, self.lookup(inputs), training=training)

    def encode(
        self, user: dict, behaviors: dict, context: dict, training=False
    ) -> dict:
        """The user's state, a flat dict of tensors whose first axis is the batch."""
        raise NotImplementedError(f"{type(self).__name__} lacks `encode`.")

    def score(self, state: dict, candidates: dict, training=False):
        """Logits `[B, C]` float32, each from the state and its own candidate alone.

        With `tasks`, `[B, C, T]`.
        """
        raise NotImplementedError(f"{type(self).__name__} lacks `score`.")

    def by_task(self, values) -> list:
        """Logits or labels `[B, C]` of each task, the main one first."""
        return ops.unstack(values, axis=-1) if self.tasks else [values]

    def join_tasks(self, values: list):
        """Inverse of `by_task`."""
        return ops.stack(values, axis=-1) if self.tasks else values[0]

    def auxiliary_logits(self, state: dict, candidates: dict) -> dict:
        """Further logits `[B, C]` by name, which only training needs.

        Their cross-entropies are added to the loss, one to one. They are in no metric.
        """
        return {}

    def get_config(self):
        """Config with the schema as YAML."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "schema": self.schema.to_yaml(),
            "table_sizes": dict(self.table_sizes),
            "config": dataclasses.asdict(self.config),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Inverse of `get_config`."""
        config = dict(config)
        config["schema"] = Schema.from_yaml(config["schema"])
        config["config"] = cls.config_class(**config["config"])
        config["dtype"] = keras.saving.deserialize_keras_object(config["dtype"])
        return cls(**config)

    def compile(self, optimizer, jit_compile: bool = False, row_dropout=None, **kwargs):
        """Prepares for training with the loss of `ctr_tf.training.step`.

        Args:
            optimizer: one that takes a table's gradient as IndexedSlices
                (`ctr_tf.training.optimizers.make_optimizer`).
            jit_compile: whether XLA compiles the dense computation; the tables are
                never part of it.
            row_dropout: a `ctr_tf.training.row_dropout.RowDropout`, or None.
            **kwargs: of `keras.Model.compile`.
        """
        from ctr_tf.training.step import Step  # TensorFlow only

        if not self.built:
            self.build()
        optimizer.build(self.trainable_variables)
        super().compile(optimizer, jit_compile=False, auto_scale_loss=False, **kwargs)
        self.step = Step(self, jit_compile, row_dropout)

    @property
    def metrics(self):
        """Loss and AUC over real candidates, once the model is compiled."""
        return self.step.metrics if self.step else []

    def train_step(self, data):
        """Trains on a batch `(inputs, labels, weights)`."""
        return self.step.train(data)

    def test_step(self, data):
        """Evaluates a batch `(inputs, labels, weights)`."""
        return self.step.test(data)

    def predict_step(self, data):
        """Logits `[B, C]` of a batch."""
        return self.step.predict(data) if self.step else super().predict_step(data)

    def make_train_function(self, force=False):
        """Keras' hook; see `Step.make_function`."""
        if force or self.train_function is None:
            self.train_function = self.step.make_function(self.train_step)
        return self.train_function

    def make_test_function(self, force=False):
        """Keras' hook; see `Step.make_function`."""
        if force or self.test_function is None:
            self.test_function = self.step.make_function(self.test_step)
        return self.test_function

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Nothing to do: the schema decides all shapes. See `distribution`."""
