"""From serialized samples to a batch of tensors: one parse a batch, then padding.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `L` values of a feature.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from ctr_tf import time_ops
from ctr_tf.data.padding import left_index, pad, right_index
from ctr_tf.data.records import (
    BEHAVIORS,
    CANDIDATES,
    Field,
    label_key,
    label_keys,
    record_spec,
)
from ctr_tf.data.text_inputs import TextInputs
from ctr_tf.schema import ITEM_KEY, Schema

_DTYPES = {"bytes": tf.string, "int64": tf.int64, "float32": tf.float32}
_METADATA = ("request_id", "user_id", "true_probability")


@dataclasses.dataclass(frozen=True)
class BatchReader:
    """Parses whole batches of serialized samples.

    Args:
        schema: of the data.
        num_chunks: P, the model's.
        history_length: the largest N.
        label: of the schema; its first where None.
        tasks: further labels; `label` comes first in `[B, C, T]`.
        with_labels: whether to read labels.
        positions: whether to read where candidates were shown, for training.
        metadata: whether to read who and when, for evaluation.
        id_maps: record key → the id that stands for each stored one, where samples
            are read by other vocabularies than they were written by.
        texts: what the model takes of texts; of others batches have the rows.
    """

    schema: Schema
    num_chunks: int
    history_length: int
    label: str | None = None
    tasks: tuple[str, ...] = ()
    with_labels: bool = True
    positions: bool = False
    metadata: bool = False
    id_maps: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    texts: TextInputs = TextInputs()

    def read(
        self,
        serialized: tf.Tensor,
        history_length: int | tf.Tensor | None = None,
        slate_size: int | tf.Tensor | None = None,
        counted: tuple[tf.Tensor, tf.Tensor] | None = None,
    ) -> tuple:
        """Parses, pads and encodes a batch.

        Args:
            serialized: `[B]` samples.
            history_length: N; the reader's where None.
            slate_size: C; the batch's largest slate where None.
            counted: behaviors and candidates of each sample, `[B]` both, as they must
                be; None: unknown.

        Returns:
            `(inputs, labels, weights)` and, with `metadata`, a fourth element; see
            `ctr_tf.data.dataset`. Without labels only `(inputs,)`.

        Raises:
            tf.errors.InvalidArgumentError: while running, if a sample is bad;
                `ctr_tf.data.reading.diagnosed` finds out which.
        """
        fields = self._fields()
        parsed = tf.io.parse_example(
            serialized, {key: _parse_spec(field) for key, field in fields.items()}
        )
        for key in self.id_maps.keys() & parsed.keys():
            parsed[key] = _mapped(parsed[key], self.id_maps[key])
        behaviors = parsed["behavior_time"].row_splits
        candidates = parsed["candidate_" + ITEM_KEY].row_splits
        if history_length is None:
            history_length = self.history_length
        if slate_size is None:
            slate_size = tf.maximum(_max_length(candidates), 1)
        if counted is None:
            counted = _lengths(behaviors), _lengths(candidates)
        checks = [
            tf.debugging.Assert(ok, [f"A sample is bad: {message}"])
            for ok, message in (
                (
                    _max_length(candidates) <= tf.cast(slate_size, tf.int64),
                    "it has more candidates than the largest of `data.slate_sizes`.",
                ),
                (
                    _equal_lengths(fields, parsed, behaviors, candidates),
                    "its lists for behaviors or candidates differ in length.",
                ),
                (
                    tf.reduce_all(_lengths(behaviors) == counted[0])
                    & tf.reduce_all(_lengths(candidates) == counted[1]),
                    "the index says other numbers of behaviors or candidates.",
                ),
            )
        ]
        with tf.control_dependencies(checks):
            index_BN = left_index(behaviors, history_length)
            index_BC = right_index(candidates, slate_size)
        inputs = {
            key: self._input(field, parsed, {CANDIDATES: index_BC})
            for key, field in _without_lengths(fields).items()
            if not (
                key in _METADATA or key.startswith("label") or field.size == BEHAVIORS
            )
        }
        inputs |= self._history(fields, parsed, index_BN, history_length)
        inputs |= self.texts.of_rows(inputs)
        inputs["candidate_mask"] = index_BC < candidates[-1]
        if not self.with_labels:
            return (inputs,)
        labels = [pad(parsed[key].flat_values, index_BC) for key in self._label_keys]
        labels = tf.stack(labels, axis=-1)
        weights = tf.cast(inputs["candidate_mask"], tf.float32)
        if not self.metadata:
            return inputs, labels, weights
        known = parsed["true_probability"]  # no values where unknown
        true_probability = pad(
            known.flat_values, right_index(known.row_splits, slate_size), math.nan
        )
        if self._label_keys[0] != label_key(self.schema):
            true_probability *= math.nan
        metadata = {
            "request_id": parsed["request_id"],
            "user_id": parsed["user_id"],
            "request_time": inputs["request_time"],
            "history_length": _lengths(behaviors),
            "true_probability": true_probability,
        }
        return inputs, labels, weights, metadata

    def empty_history(self, history_length: int) -> dict[str, tf.Tensor]:
        """What `read` makes of the history of a sample without behaviors.

        Args:
            history_length: N.

        Returns:
            The inputs of behaviors, `[1, N]`, texts `[1, N, T]`, of padding alone.
        """
        fields = {k: f for k, f in self._fields().items() if f.size == BEHAVIORS}
        no_values = {
            key: tf.RaggedTensor.from_row_splits(
                tf.zeros([0], _DTYPES[field.dtype]), tf.constant([0, 0], tf.int64)
            )
            for key, field in fields.items()
        }
        index_BN = left_index(no_values["behavior_time"].row_splits, history_length)
        history = self._history(fields, no_values, index_BN, history_length)
        tokens = {k: t for k, t in self.texts.tokens.items() if k in history}
        return history | TextInputs(tokens).of_rows(history)

    @property
    def _spec(self) -> dict[str, Field]:
        return record_spec(self.schema)

    @property
    def _label_keys(self) -> list[str]:
        return label_keys(self.schema, self.label, self.tasks)

    def _fields(self) -> dict[str, Field]:
        wanted = set(self._label_keys) if self.with_labels else set()
        if self.metadata:
            wanted.update(_METADATA)
        fields = {
            key: field
            for key, field in self._spec.items()
            if key in wanted or not (key in _METADATA or key.startswith("label"))
        }
        if self.positions:
            return fields
        return {key: field for key, field in fields.items() if not field.is_position}

    def _input(self, field: Field, parsed: dict, index: dict) -> tf.Tensor:
        found, feature = parsed[field.key], field.feature
        if field.size in index:
            values = found.flat_values
            if feature is not None:
                values = feature.to_input(values)
            if field.length > 1:
                assert feature is not None  # nothing else holds lists
                splits = _list_splits(parsed[field.length_key])
                places = right_index(splits, field.length)
                values = pad(values, places, feature.input_padding)
            return pad(values, index[field.size])
        if feature is None:
            return found
        if not field.at_most:
            return feature.to_input(found)
        values = feature.to_input(found.flat_values)
        places = right_index(found.row_splits, field.size)
        return pad(values, places, feature.input_padding)

    def _history(
        self,
        fields: dict[str, Field],
        parsed: dict,
        index_BN: tf.Tensor,
        history_length: int | tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The inputs of behaviors, left-padded."""
        inputs = {
            key: self._input(field, parsed, {BEHAVIORS: index_BN})
            for key, field in _without_lengths(fields).items()
            if field.size == BEHAVIORS
        }
        if self._cuts_chunks:
            chunks = self._chunks(parsed["behavior_time"])
            inputs["behavior_chunk"] = chunks[:, -history_length:]
        inputs["behavior_chunk"] = tf.cast(inputs["behavior_chunk"], tf.int32)
        return inputs

    @property
    def _cuts_chunks(self) -> bool:
        """Whether the model's chunks differ from those of the records."""
        return (
            self.num_chunks != self.schema.num_chunks
            or self.history_length < self.schema.history_length
        )

    def _chunks(self, time: tf.RaggedTensor) -> tf.Tensor:
        index_BN = left_index(time.row_splits, self.history_length)
        time_BN = pad(time.flat_values, index_BN)
        return time_ops.chunk_ids(time_BN, time_BN > 0, self.num_chunks)


def _without_lengths(fields: dict[str, Field]) -> dict[str, Field]:
    lengths = {field.length_key for field in fields.values() if field.length > 1}
    return {key: field for key, field in fields.items() if key not in lengths}


def _parse_spec(field: Field) -> tf.io.RaggedFeature | tf.io.FixedLenFeature:
    dtype = _DTYPES[field.dtype]
    if isinstance(field.size, str) or field.at_most:
        return tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64)
    return tf.io.FixedLenFeature([] if field.feature is None else [field.size], dtype)


def _mapped(stored: tf.Tensor | tf.RaggedTensor, ids: np.ndarray) -> tf.RaggedTensor:
    table = tf.constant(ids, tf.int64)
    return tf.ragged.map_flat_values(lambda values: tf.gather(table, values), stored)


def _max_length(row_splits: tf.Tensor) -> tf.Tensor:
    # Of an empty batch: 0.
    return tf.reduce_max(tf.concat([_lengths(row_splits), [0]], axis=0))


def _lengths(row_splits: tf.Tensor) -> tf.Tensor:
    return row_splits[1:] - row_splits[:-1]


def _equal_lengths(
    fields: dict[str, Field], parsed: dict, behaviors: tf.Tensor, candidates: tf.Tensor
) -> tf.Tensor:
    groups = {BEHAVIORS: behaviors, CANDIDATES: candidates}
    splits: dict[str, list] = {size: [] for size in groups}
    equal = []
    for key, field in fields.items():
        if field.length > 1:
            lengths = parsed[field.length_key]
            ends = tf.gather(_list_splits(lengths), lengths.row_splits)
            equal.append(tf.reduce_all(ends == parsed[key].row_splits))
            most = tf.reduce_max(tf.concat([lengths.flat_values, [0]], axis=0))
            equal.append(most <= field.length)
        elif field.size in groups and not field.optional:
            splits[field.size].append(parsed[key].row_splits)
    for size, others in splits.items():
        equal.append(tf.reduce_all(tf.stack(others) == groups[size]))
    return tf.reduce_all(tf.stack(equal))


def _list_splits(lengths: tf.RaggedTensor) -> tf.Tensor:
    """Row splits of the values of all behaviors or candidates of a batch."""
    return tf.concat([[0], tf.cumsum(lengths.flat_values)], axis=0)
