"""The signatures of an exported model: plain graphs from raw values to probabilities.

* `serving_default`: user, history and candidates → `probability`, `logit` `[B, C]`.
* `encode_user`: user and history → the user's state, `state_<key>` each.
* `score_candidates`: a state and candidates → `probability`, `logit` `[B, C]`.
* `serialized_examples`: samples in the record format → `probability`, `logit` `[B, C]`.

The first equals the second and third one after the other. Hour, weekend, chunks and
slate size are computed here, by the functions that training's input uses.
`serving.inputs` says what each input is.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates.
"""

from pathlib import Path

import tensorflow as tf

from ctr_tf import time_ops
from ctr_tf.data.batches import BatchReader
from ctr_tf.data.encode import RequestEncoder, to_input
from ctr_tf.models.ranker import Ranker
from ctr_tf.schema import Feature
from serving import inputs as names
from serving.inputs import Input, candidate_inputs, given, user_inputs

STATE = "state_"
_CLOCKS = {"hour": time_ops.hour_of_day, "weekend": time_ops.is_weekend}


class ServingModule(tf.Module):
    """A ranker with the encoding of raw values in front, to be saved.

    Args:
        ranker: built and trained.
        vocabulary_folder: of its data, `<name>.txt` each.
        history_length: N; of a longer history the latest N behaviors count.
    """

    def __init__(
        self, ranker: Ranker, vocabulary_folder: str | Path, history_length: int
    ):
        super().__init__()
        self.encoder = RequestEncoder(ranker.schema, vocabulary_folder)
        self.weights = [variable.value for variable in ranker.variables]
        # Behind a tuple, which nothing tracks: the model's Python must not be saved.
        self._hidden = (lambda: ranker,)
        self._history_length = history_length

    @property
    def _ranker(self) -> Ranker:
        return self._hidden[0]()

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Name → graph, for `tf.saved_model.save`."""
        schema = self._ranker.schema
        user, candidates = user_inputs(schema), candidate_inputs(schema)
        encode = _concrete(self.encode_user, _specs(user))
        state = {
            name: tf.TensorSpec(value.shape, value.dtype, name)
            for name, value in encode.structured_outputs.items()
        }
        serialized = {"examples": tf.TensorSpec([None], tf.string, "examples")}
        return {
            "serving_default": _concrete(self.score, _specs([*user, *candidates])),
            "encode_user": encode,
            "score_candidates": _concrete(
                self.score_candidates, state | _specs(candidates)
            ),
            "serialized_examples": _concrete(self.score_examples, serialized),
        }

    def score(self, **raw) -> dict:
        """User, history and candidates → probability and logit."""
        size = raw[names.SLATE_SIZE]
        size = tf.where(size > 0, size, raw[names.CANDIDATE_LENGTH])
        state = self._encode(raw | {names.SLATE_SIZE: size})
        return self._score(state, raw)

    def encode_user(self, **raw) -> dict:
        """User and history → state."""
        return {
            STATE + key: _on_the_wire(value) for key, value in self._encode(raw).items()
        }

    def score_candidates(self, **raw) -> dict:
        """State and candidates → probability and logit."""
        state = {
            key.removeprefix(STATE): value
            for key, value in raw.items()
            if key.startswith(STATE)
        }
        return self._score(state, raw)

    def score_examples(self, *, examples) -> dict:
        """Serialized samples → probability and logit."""
        ranker = self._ranker
        reader = BatchReader(
            ranker.schema, ranker.num_chunks, self._history_length, with_labels=False
        )
        (inputs,) = reader.read(examples)
        return _outputs(ranker(inputs, training=False))

    def _encode(self, raw: dict) -> dict:
        ranker = self._ranker
        inputs = self._user(raw) | self._behaviors(raw)
        features = ranker.embedding.assemble(inputs, ranker.lookup(inputs))
        return ranker.encode(
            features["user"], features["behaviors"], features["context"], training=False
        )

    def _score(self, state: dict, raw: dict) -> dict:
        ranker = self._ranker
        inputs = self._candidates(raw)
        features = ranker.embedding.assemble(inputs, ranker.lookup(inputs))
        return _outputs(ranker.score(state, features["candidates"], training=False))

    def _input(self, feature: Feature, raw: tf.Tensor, valid=None) -> tf.Tensor:
        value = to_input(feature, self.encoder.to_stored(feature, raw))
        return value if valid is None else _mask(value, valid)

    def _user(self, raw: dict) -> dict:
        schema = self._ranker.schema
        inputs = {names.REQUEST_TIME: raw[names.REQUEST_TIME]}
        for group in ("user", "context"):
            for feature in given(schema, group):
                name = f"{group}_{feature.name}"
                valid = None
                if feature.length > 1:
                    valid = tf.sequence_mask(raw[f"{name}_length"], feature.length)
                inputs[name] = self._input(feature, raw[name], valid)
        computed = self._clocks(raw[names.REQUEST_TIME])
        computed["slate_size"] = raw[names.SLATE_SIZE]
        for feature in schema.context:
            if feature.computed:
                value = to_input(feature, computed[feature.name])
                inputs[f"context_{feature.name}"] = value[:, None]
        return inputs

    def _behaviors(self, raw: dict) -> dict:
        schema = self._ranker.schema
        time = raw[names.BEHAVIOR_TIME]
        valid = tf.sequence_mask(raw[names.BEHAVIOR_LENGTH], tf.shape(time)[1])
        valid &= (time > 0) & (time < raw[names.REQUEST_TIME][:, None])
        # Ascending and stable: padding first, then the behaviors in their order.
        order = tf.argsort(tf.cast(valid, tf.int32), axis=1, stable=True)

        def latest(value):
            value_BN = tf.gather(_mask(value, valid), order, batch_dims=1)
            value_BN = tf.pad(value_BN, [[0, 0], [self._history_length, 0]])
            value_BN = value_BN[:, -self._history_length :]
            return tf.ensure_shape(value_BN, [None, self._history_length])

        time_BN = latest(time)
        valid_BN = time_BN > 0
        inputs = {
            names.BEHAVIOR_TIME: time_BN,
            "behavior_chunk": time_ops.chunk_ids(
                time_BN, valid_BN, self._ranker.num_chunks
            ),
        }
        clocks = self._clocks(time_BN)
        for feature in schema.behavior:
            name = f"behavior_{feature.name}"
            if feature.computed:
                value = to_input(feature, clocks[feature.name])
                inputs[name] = _mask(value, valid_BN)
            else:
                inputs[name] = latest(self._input(feature, raw[name]))
        return inputs

    def _candidates(self, raw: dict) -> dict:
        item = raw["candidate_item_id"]
        mask = tf.sequence_mask(raw[names.CANDIDATE_LENGTH], tf.shape(item)[1])
        inputs = {"candidate_mask": mask}
        for feature in self._ranker.schema.candidate:
            name = f"candidate_{feature.name}"
            inputs[name] = self._input(feature, raw[name], mask)
        return inputs

    def _clocks(self, time: tf.Tensor) -> dict:
        offset = self._ranker.schema.utc_offset
        return {name: clock(time, offset) for name, clock in _CLOCKS.items()}


def _specs(inputs: list[Input]) -> dict[str, tf.TensorSpec]:
    return {i.name: tf.TensorSpec(i.shape, i.dtype, i.name) for i in inputs}


def _concrete(function, specs: dict[str, tf.TensorSpec]):
    return tf.function(function, autograph=False).get_concrete_function(**specs)


def _mask(value: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    return tf.where(valid, value, tf.zeros_like(value))


def _on_the_wire(value: tf.Tensor) -> tf.Tensor:
    """Half precision as float32, which every client can hold; nothing is lost."""
    return tf.cast(value, tf.float32) if value.dtype.is_floating else value


def _outputs(logit: tf.Tensor) -> dict:
    return {"probability": tf.sigmoid(logit), "logit": logit}
