"""The signatures of an exported model: graphs from raw values to probabilities.

* `serving_default`: user, history and candidates → `probability`, `logit` `[B, C]`.
* `encode_user`: user and history → the user's state, packed: `state_<dtype>` each.
* `score_candidates`: a state and candidates → `probability`, `logit` `[B, C]`.
* `serialized_examples`: samples in the record format → `probability`, `logit` `[B, C]`.

Of a model with further tasks, each has its `probability_<task>` and `logit_<task>`.

The first equals the second and third one after the other. Hour, weekend and chunks
are computed here, by the functions that training's input uses; wrong times are refused,
and behaviors out of order or told twice are mended (`serving.guards`). `serving.inputs`
says what each input is, `serving.sizes` how requests are padded, `serving.state` what
the state is.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates.
"""

import collections
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from ctr_tf.computed.clock import CLOCKS
from ctr_tf.data.batches import BatchReader
from ctr_tf.data.encode import RequestEncoder
from ctr_tf.models.ranker import Ranker
from ctr_tf.schema import ITEM_KEY, MISSING, Feature
from ctr_tf.schema.texts import Texts
from ctr_tf.storage import as_path
from ctr_tf.tables.replicated import ReplicatedTables
from serving import inputs as names
from serving.guards import checked_user, first_of_equals, given_behaviors
from serving.inputs import Input, candidate_inputs, given, own_texts, user_inputs
from serving.item_vectors import ItemVectors
from serving.packed_state import pack, unpack
from serving.sized_ranker import TEXT_ROWS, SizedRanker
from serving.stacked import at_once, by_dtype
from serving.state import STATE_VERSION, StateLayout, StateTensor, make_layout
from serving.texts import ServedTexts


class ServingModule(tf.Module):
    """A ranker with the encoding of raw values in front, to be saved.

    Args:
        ranker: built and trained.
        vocabulary_folder: of its data, `<name>.txt` each.
        history_lengths: sizes N of histories, ascending; of a history longer than the
            last its latest behaviors count.
        slate_sizes: sizes C that slates are padded to, ascending.
        state_dtype: of the floating tensors of the state, `"float32"` or `"bfloat16"`.
        xla: whether XLA compiles the dense computation; stock TF Serving images do
            not run such graphs.
    """

    def __init__(
        self,
        ranker: Ranker,
        vocabulary_folder: str | Path,
        history_lengths: Sequence[int],
        slate_sizes: Sequence[int],
        state_dtype: str = "float32",
        xla: bool = False,
    ):
        super().__init__()
        self.encoder = RequestEncoder(ranker.schema, vocabulary_folder)
        folder = as_path(vocabulary_folder)
        texts = Texts.load(folder, ranker.schema)
        self.texts = self.item_vectors = None
        if texts is not None:
            self.texts = ServedTexts(ranker.schema, folder, texts)
            if ranker.reads_items_once:
                self.item_vectors = ItemVectors(ranker, texts)
        self.weights = [variable.value for variable in ranker.network]
        self.tables = ReplicatedTables(ranker.embedding.tables).export()
        sized = SizedRanker(
            ranker, history_lengths, slate_sizes, xla, self.item_vectors
        )
        # Behind a tuple, which nothing tracks: the model's Python must not be saved.
        self._hidden = (lambda: sized,)
        self._history_length = history_lengths[-1]
        self._state_dtype = tf.as_dtype(state_dtype)
        self.layout = self._layout(folder, texts)

    @property
    def _sized(self) -> SizedRanker:
        return self._hidden[0]()

    @property
    def _ranker(self) -> Ranker:
        return self._sized.ranker

    def _layout(self, vocabulary_folder: Path, texts: Texts | None) -> StateLayout:
        """The state's tensors, and the fingerprint of all that they depend on."""
        ranker = self._ranker
        config = {**ranker.get_config(), "history_length": self._history_length}
        del config["name"]  # Keras counts the models of a process
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
        for variable in ranker.variables:
            digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
        for name in sorted(ranker.schema.vocabularies()):
            digest.update((vocabulary_folder / f"{name}.txt").read_bytes())
        if texts is not None:
            digest.update(json.dumps(texts.digests, sort_keys=True).encode())
        tensors = [
            StateTensor(
                key,
                (self._state_dtype if spec.dtype.is_floating else spec.dtype).name,
                tuple(spec.shape[1:]),
            )
            for key, spec in self._sized.state_specs.items()
        ]
        return make_layout(tensors, digest.digest())

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Name → graph, for `tf.saved_model.save`."""
        schema = self._ranker.schema
        user, candidates = user_inputs(schema), candidate_inputs(schema)
        state = {
            tensor.name: tf.TensorSpec((None, *tensor.shape), tensor.dtype, tensor.name)
            for tensor in self.layout.packed
        }
        state[STATE_VERSION] = tf.TensorSpec([None], tf.int64, STATE_VERSION)
        serialized = {"examples": tf.TensorSpec([None], tf.string, "examples")}
        return {
            "serving_default": _concrete(self.score, _specs([*user, *candidates])),
            "encode_user": _concrete(self.encode_user, _specs(user)),
            "score_candidates": _concrete(
                self.score_candidates, state | _specs(candidates)
            ),
            "serialized_examples": _concrete(self.score_examples, serialized),
        }

    def score(self, **raw: tf.Tensor) -> dict:
        """User, history and candidates → probability and logit."""
        raw = self._checked(raw)
        state = self._sized.encode(self._user(raw) | self._behaviors(raw))
        return self._outputs(self._sized.score(state, self._candidates(raw)))

    def encode_user(self, **raw: tf.Tensor) -> dict:
        """User and history → state."""
        raw = self._checked(raw)
        state = self._sized.encode(self._user(raw) | self._behaviors(raw))
        version = tf.constant(self.layout.state_version, tf.int64)
        rows = tf.shape(raw[names.REQUEST_TIME])
        return pack(state, self.layout) | {STATE_VERSION: tf.fill(rows, version)}

    def score_candidates(self, **raw: tf.Tensor) -> dict:
        """State and candidates → probability and logit."""
        version = tf.constant(self.layout.state_version, tf.int64)
        packed = [tensor.name for tensor in self.layout.packed]
        check = tf.raw_ops.Assert(
            condition=tf.reduce_all(raw[STATE_VERSION] == version),
            data=[
                f"The state is not one of this model, {self.layout.fingerprint}: "
                f"encode the user again. `{STATE_VERSION}` expected and received:",
                version,
                raw[STATE_VERSION],
            ],
        )
        with tf.control_dependencies([check]):
            checked = tf.identity_n([raw[name] for name in packed])
        checked = dict(zip(packed, checked, strict=True))
        state = unpack(checked, self.layout, self._sized.state_specs)
        return self._outputs(self._sized.score(state, self._candidates(raw)))

    def score_examples(self, *, examples: tf.Tensor) -> dict:
        """Serialized samples → probability and logit."""
        ranker = self._ranker
        reader = BatchReader(
            ranker.schema, ranker.num_chunks, self._history_length, with_labels=False
        )
        (inputs,) = reader.read(examples)
        if self.item_vectors is not None:
            inputs[TEXT_ROWS] = inputs[f"candidate_{ranker.schema.texts[0].name}"]
        for text in ranker.schema.texts:
            for key in (f"behavior_{text.name}", f"candidate_{text.name}"):
                inputs[key] = self._served_texts.of_rows(text.name, inputs[key])
        candidates = {k: v for k, v in inputs.items() if k.startswith("candidate_")}
        others = {k: v for k, v in inputs.items() if k not in candidates}
        return self._outputs(self._sized.score(self._sized.encode(others), candidates))

    def _outputs(self, logits: tf.Tensor) -> dict:
        suffixes = ("", *(f"_{task}" for task in self._ranker.tasks))
        outputs = {}
        for suffix, logit in zip(suffixes, tf.unstack(logits, axis=-1), strict=True):
            outputs[f"probability{suffix}"] = tf.sigmoid(logit)
            outputs[f"logit{suffix}"] = logit
        return outputs

    def _inputs(self, group: str, given_features: Sequence[Feature], raw: dict) -> dict:
        """Encodes features `[B, …]`, those that are encoded alike as one."""
        alike = collections.defaultdict(list)
        for feature in given_features:
            alike[_encoding(feature)].append(feature)
        inputs: dict[str, tf.Tensor] = {}
        for features in alike.values():
            encode = functools.partial(self._encode, features[0])
            keys = [f"{group}_{feature.name}" for feature in features]
            inputs |= at_once(encode, {key: raw[key] for key in keys})
        for key, feature in ((f"{group}_{f.name}", f) for f in given_features):
            if feature.length > 1:
                valid = tf.sequence_mask(raw[f"{key}_length"], feature.length)
                padding = tf.constant(feature.input_padding, inputs[key].dtype)
                inputs[key] = tf.where(valid, inputs[key], padding)
        return inputs

    def _encode(self, feature: Feature, raw: tf.Tensor) -> tf.Tensor:
        return feature.to_input(feature.to_stored(raw, self.encoder))

    def _checked(self, raw: dict) -> dict:
        return checked_user(raw, self._ranker.schema.computed.slate_size)

    def _user(self, raw: dict) -> dict:
        schema = self._ranker.schema
        inputs = {names.REQUEST_TIME: raw[names.REQUEST_TIME]}
        for group in ("user", "context"):
            inputs |= self._inputs(group, given(schema, group), raw)
        computed = self._clocks(raw[names.REQUEST_TIME])
        computed[names.SLATE_SIZE] = raw.get(names.SLATE_SIZE)
        for feature in schema.context:
            if feature.computed:
                value = feature.to_input(computed[feature.name])
                inputs[f"context_{feature.name}"] = value[:, None]
        return inputs

    def _behaviors(self, raw: dict) -> dict:
        schema = self._ranker.schema
        time = raw[names.BEHAVIOR_TIME]
        valid = given_behaviors(raw)
        valid &= schema.in_history(time, raw[names.REQUEST_TIME][:, None])
        if not schema.history_may_tie:  # else equal seconds may be two moments
            time = tf.where(valid, time, 0)
            first = first_of_equals(time, self._identity(raw))
            valid &= first | self._unknown_items(raw)
        # Ascending and stable: padding first, then the behaviors by their times.
        time = tf.where(valid, time, 0)
        order = tf.argsort(time, axis=1, stable=True)

        def latest(value_BNF):
            value_BNF = tf.gather(value_BNF, order, batch_dims=1)
            value_BNF = _mask(
                value_BNF, tf.gather(valid, order, batch_dims=1)[..., None]
            )
            value_BNF = tf.pad(value_BNF, [[0, 0], [self._history_length, 0], [0, 0]])
            value_BNF = value_BNF[:, -self._history_length :]
            return tf.ensure_shape(value_BNF, [None, self._history_length, None])

        inputs = self._inputs("behavior", given(schema, "behavior"), raw)
        inputs |= self._text_inputs("behavior", raw, given_behaviors(raw))
        inputs = by_dtype(latest, inputs | {names.BEHAVIOR_TIME: time})
        time_BN = inputs[names.BEHAVIOR_TIME]
        clocks = self._clocks(time_BN)
        for feature in schema.behavior:
            if feature.computed:
                value = feature.to_input(clocks[feature.name])
                inputs[f"behavior_{feature.name}"] = _mask(value, time_BN > 0)
        return inputs

    def _identity(self, raw: dict) -> dict:
        """What tells behaviors of one time apart, padding of lists without content."""
        identity = {}
        for feature in given(self._ranker.schema, "behavior"):
            if feature.role != "behavior" and feature.name != ITEM_KEY:
                continue
            key = f"behavior_{feature.name}"
            identity[key] = value = raw[key]
            if feature.length > 1:
                length = identity[f"{key}_length"] = raw[f"{key}_length"]
                known = tf.sequence_mask(length, feature.length)
                identity[key] = tf.where(known, value, tf.zeros_like(value))
        return identity

    def _unknown_items(self, raw: dict) -> tf.Tensor:
        """Behaviors without an item, of which nobody can say that they are equal."""
        key = f"behavior_{ITEM_KEY}"
        return raw[key] == tf.constant(MISSING[raw[key].dtype.name], raw[key].dtype)

    def _candidates(self, raw: dict) -> dict:
        item = raw["candidate_item_id"]
        mask = tf.sequence_mask(raw[names.CANDIDATE_LENGTH], tf.shape(item)[1])
        schema = self._ranker.schema
        inputs = self._inputs("candidate", given(schema, "candidate"), raw)
        inputs |= self._text_inputs("candidate", raw, mask)
        if self.item_vectors is not None:
            inputs[TEXT_ROWS] = self._served_texts.rows(item)
        return {"candidate_mask": mask} | inputs

    @property
    def _served_texts(self) -> ServedTexts:
        assert self.texts is not None  # asked for texts of the schema alone
        return self.texts

    def _text_inputs(self, group: str, raw: dict, given_BN: tf.Tensor) -> dict:
        """Tokens of the items' texts."""
        item_BN = raw[f"{group}_{ITEM_KEY}"]
        inputs = {}
        for text in own_texts(self._ranker.schema, group):
            key = f"{group}_{text.name}"
            length_BN = raw[f"{key}_length"]
            length_BN = tf.where(given_BN, length_BN, tf.zeros_like(length_BN))
            inputs[key] = self._served_texts.of_items(key, item_BN, raw[key], length_BN)
        return inputs

    def _clocks(self, time: tf.Tensor) -> dict:
        return {c.name: c.graph(time, self._ranker.schema.zone) for c in CLOCKS}


def _specs(inputs: list[Input]) -> dict[str, tf.TensorSpec]:
    return {i.name: tf.TensorSpec(i.shape, i.dtype, i.name) for i in inputs}


def _concrete(
    function: Callable, specs: dict[str, tf.TensorSpec]
) -> tf.types.experimental.ConcreteFunction:
    return tf.function(function, autograph=False).get_concrete_function(**specs)


def _encoding(feature: Feature) -> Feature:
    """Equal for features whose values may be encoded together."""
    return dataclasses.replace(
        feature, name="any", role="item", embedding_dim=None, description=""
    )


def _mask(value: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    return tf.where(valid, value, tf.zeros_like(value))
