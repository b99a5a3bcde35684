"""The two halves that every model has: encode a user once, score any candidates.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `D` width.
"""

import keras

from ctr_tf.layers.feature_embedding import FeatureEmbedding
from ctr_tf.schema import Schema


class Ranker(keras.Model):
    """Base of all models: ``logits = score(encode(user, behaviors, context), candidates)``.

    Candidates enter only in `score`, and each sees the state and itself, so no score
    depends on another candidate of the slate, and a user's state can be computed once,
    kept, and scored against any number of candidates.

    A forward pass has two steps. `lookup` gathers the embedding rows; `forward` is the
    dense computation on them. Training runs the first outside and the second inside
    the compiled (XLA) cluster, so that a step costs the same whatever a table's size.

    A model implements `encode` and `score`; it gets groups of tensors as
    `FeatureEmbedding.assemble` makes them:

    * `user`: `{"embedding": [B, Du]}`
    * `context`: `{"embedding": [B, Dx], "time": [B] int64}` (the request time)
    * `behaviors`: `{"embedding": [B, N, Db], "time": [B, N] int64, "mask": [B, N] bool,
      "chunk": [B, N] int32}`, left-padded, oldest first
    * `candidates`: `{"embedding": [B, C, Dc], "mask": [B, C] bool}`

    Args:
        schema: of the data.
        table_sizes: embedding table name → rows (`Vocabularies.table_sizes`).
        embedding_dim: width of the rows of a feature that does not set its own.
    """

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        embedding_dim: int = 8,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.schema = schema
        self.table_sizes = dict(table_sizes)
        self.embedding_dim = embedding_dim
        self.embedding = FeatureEmbedding(
            schema, table_sizes, embedding_dim, dtype=self.dtype_policy
        )

    def lookup(self, inputs: dict) -> dict:
        """Embedding rows of the batch, `{input key: [..., width]}`; no XLA in here."""
        return self.embedding.lookup(inputs)

    def forward(self, inputs: dict, rows: dict, training: bool = False):
        """The dense computation: logits `[B, C]` float32 from inputs and their rows."""
        features = self.embedding.assemble(inputs, rows)
        state = self.encode(
            features["user"],
            features["behaviors"],
            features["context"],
            training=training,
        )
        return self.score(state, features["candidates"], training=training)

    def call(self, inputs: dict, training: bool = False):
        """Logits `[B, C]` float32; see `ctr_tf.data` for the inputs."""
        return self.forward(inputs, self.lookup(inputs), training=training)

    def encode(
        self, user: dict, behaviors: dict, context: dict, training=False
    ) -> dict:
        """The user's state, a flat dict of tensors whose first axis is the batch."""
        raise NotImplementedError(f"{type(self).__name__} lacks `encode`.")

    def score(self, state: dict, candidates: dict, training=False):
        """Logits `[B, C]` float32, each from the state and its own candidate alone."""
        raise NotImplementedError(f"{type(self).__name__} lacks `score`.")
