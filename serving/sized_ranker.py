"""A ranker's two halves in the chosen sizes, as the signatures use them.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates.
"""

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from ctr_tf.data.latest import latest_behaviors
from ctr_tf.layers.feature_embedding import ITEM_VECTORS
from ctr_tf.layers.state_spec import FLOAT, StateSpec, flatten, unflatten
from ctr_tf.models.ranker import Ranker
from ctr_tf.schema import Feature, Schema
from serving import inputs as names
from serving.item_vectors import ItemVectors
from serving.sizes import at_size, pad_left, pad_slate

TEXT_ROWS = "candidate_text_rows"  # where a table of the texts is read by them
_CHUNK = "behavior_chunk"
_MASK = "candidate_mask"


class SizedRanker:
    """Encodes histories and scores slates, each padded to the next size.

    Each size of a history is traced once, and so is scoring, whichever signatures use
    them. All sizes give the state of the largest: where it grows with the history, it
    is padded on the left, as histories are.

    Args:
        ranker: built and trained.
        history_lengths: sizes N, ascending.
        slate_sizes: sizes C, ascending.
        xla: whether XLA compiles the dense computation.
        item_vectors: of a ranker that reads items once.
    """

    def __init__(
        self,
        ranker: Ranker,
        history_lengths: Sequence[int],
        slate_sizes: Sequence[int],
        xla: bool = False,
        item_vectors: ItemVectors | None = None,
    ):
        self.ranker = ranker
        self._item_vectors = item_vectors
        self._slate_sizes = tuple(slate_sizes)
        self._dense_encode, self._dense_score = self._encode_dense, self._score_dense
        if xla:
            compiled = functools.partial(tf.function, autograph=False, jit_compile=True)
            self._dense_encode = compiled(self._encode_dense)
            self._dense_score = compiled(self._score_dense)
        largest = history_lengths[-1]
        signature = [_user_specs(ranker.schema, largest)]
        self._declared = ranker.state_spec()
        self.state_specs = {
            path: tf.TensorSpec([None, *spec.at(largest)], _dtype(spec, ranker))
            for path, spec in flatten(self._declared).items()
        }
        self._encoders = {
            size: tf.function(
                functools.partial(self._encode_at, size),
                input_signature=signature,
                autograph=False,
            )
            for size in history_lengths
        }
        self._scorer = tf.function(
            self._score_padded,
            input_signature=[
                self.state_specs,
                _candidate_specs(ranker.schema, item_vectors is not None),
            ],
            autograph=False,
        )

    def encode(self, inputs: dict) -> dict:
        """User, context and behaviors, encoded, `[B, N]` for the largest N → state.

        The state is flat, by the paths of `ctr_tf.layers.state_spec`.
        """
        inputs = {key: value for key, value in inputs.items() if key != _CHUNK}
        known_BN = tf.cast(inputs[names.BEHAVIOR_TIME] > 0, tf.int32)
        return at_size(
            {
                size: functools.partial(self._padded, encoder, inputs)
                for size, encoder in self._encoders.items()
            },
            tf.reduce_sum(known_BN, axis=1),
        )

    def score(self, state: dict, inputs: dict) -> tf.Tensor:
        """State and candidates, encoded, `[B, C]` → logits (see `Ranker.score`)."""
        return self._scorer(state, inputs)

    def _encode_at(self, size: int, inputs: dict) -> dict:
        inputs = latest_behaviors(inputs, size, self.ranker.num_chunks)
        return self._dense_encode(inputs, self.ranker.lookup(inputs))

    def _padded(self, encoder: Callable, inputs: dict) -> dict:
        state = encoder(inputs)
        return {
            path: pad_left(state[path], spec.shape)
            for path, spec in self.state_specs.items()
        }

    def _score_padded(self, state: dict, inputs: dict) -> tf.Tensor:
        inputs = dict(inputs)
        mask_BC = inputs.pop(_MASK)
        count = tf.shape(mask_BC)[1]
        inputs, mask_BC = pad_slate(inputs, mask_BC, self._slate_sizes)
        inputs[_MASK] = mask_BC
        if self._item_vectors is not None:
            texts = self.ranker.schema.texts
            tokens = {text.name: inputs[f"candidate_{text.name}"] for text in texts}
            inputs[ITEM_VECTORS] = self._item_vectors(inputs.pop(TEXT_ROWS), tokens)
        rows = self.ranker.lookup(inputs)
        return self._dense_score(state, inputs, rows)[:, :count]

    def _encode_dense(self, inputs: dict, rows: dict) -> dict:
        groups = self.ranker.embedding.assemble(inputs, rows)
        state = self.ranker.encode(
            groups["user"], groups["behaviors"], groups["context"], training=False
        )
        return flatten(state)

    def _score_dense(self, state: dict, inputs: dict, rows: dict) -> tf.Tensor:
        groups = self.ranker.embedding.assemble(inputs, rows)
        state = unflatten(state, self._declared)
        return self.ranker.score(state, groups["candidates"], training=False)


def _dtype(spec: StateSpec, ranker: Ranker) -> str:
    return ranker.compute_dtype if spec.dtype == FLOAT else spec.dtype


def _user_specs(schema: Schema, history_length: int) -> dict[str, tf.TensorSpec]:
    """What `ctr_tf.data` makes of a user, a request and a history."""
    specs = {
        names.REQUEST_TIME: tf.TensorSpec([None], tf.int64),
        names.BEHAVIOR_TIME: tf.TensorSpec([None, history_length], tf.int64),
    }
    for group in ("user", "context", "behavior"):
        for feature in schema.groups()[group]:
            places = [history_length] if group == "behavior" else None
            specs[f"{group}_{feature.name}"] = _feature_spec(feature, places)
    return specs


def _candidate_specs(schema: Schema, text_rows: bool) -> dict[str, tf.TensorSpec]:
    """What `ctr_tf.data` makes of candidates, and perhaps the rows of their texts."""
    specs = {"candidate_mask": tf.TensorSpec([None, None], tf.bool)}
    if text_rows:
        specs[TEXT_ROWS] = tf.TensorSpec([None, None], tf.int64)
    for feature in schema.candidate:
        specs[f"candidate_{feature.name}"] = _feature_spec(feature, [None])
    return specs


def _feature_spec(feature: Feature, places: list | None) -> tf.TensorSpec:
    """Of users and requests (`places` None) always lists, of others only some.

    Texts are lists of tokens here, of `ServedTexts`.
    """
    shape = places or []
    if places is None or feature.length > 1 or feature.is_text:
        shape = [*shape, feature.length]
    return tf.TensorSpec([None, *shape], feature.input_dtype)
