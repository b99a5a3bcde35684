"""The record of a sample: every key with its shape and dtype, and what a bad one is.

A sample is one `tf.train.Example`, unpadded, oldest behavior first. `record_spec` is
the one place that says which keys it has; the job's writer, the input, the inspector
and the serving signatures ask it. Records are written by `ctr_tf.data.writing` and
read by `ctr_tf.data.reading`; this module needs no TensorFlow.
"""

import dataclasses
import functools
import typing

import numpy as np

from ctr_tf.errors import UserError
from ctr_tf.schema import Feature, Schema

if typing.TYPE_CHECKING:
    import tensorflow as tf

BEHAVIORS = "behaviors"
CANDIDATES = "candidates"
_LISTS = {"bytes": "bytes_list", "int64": "int64_list", "float32": "float_list"}


@dataclasses.dataclass(frozen=True)
class Field:
    """One key of the record.

    Args:
        key: in the record.
        dtype: `"bytes"`, `"int64"` or `"float32"`.
        size: how many values it has: exactly so many; or at most so many (`at_most`);
            or as many as the sample has `"behaviors"` or `"candidates"`.
        at_most: whether an integer `size` is a limit.
        length: most values that each behavior or candidate has. Where it is not 1, the
            key has the values of all of them, one after another, and
            `<key>_length` has how many each has.
        optional: whether the key may be absent.
        feature: the schema's feature behind the key, where there is one.
    """

    key: str
    dtype: str
    size: int | str
    at_most: bool = False
    optional: bool = False
    feature: Feature | None = None
    length: int = 1

    @property
    def shape(self) -> str:
        """The size as a person reads it, such as ``[behaviors]`` or ``[<=5]``."""
        if self.length > 1:
            return f"[{self.size}, <={self.length}]"
        return f"[{'<=' if self.at_most else ''}{self.size}]"

    @property
    def is_position(self) -> bool:
        """Whether it says where candidates were shown, which training alone reads."""
        return self.feature is not None and self.feature.role == "position"

    @property
    def length_key(self) -> str:
        """Key of how many values each behavior or candidate has."""
        return f"{self.key}_length"


@functools.cache
def record_spec(schema: Schema) -> dict[str, Field]:
    """Key → field, for every key that a sample of this schema has."""
    fields = [
        Field("request_id", "bytes", 1),
        Field("user_id", "bytes", 1),
        Field("request_time", "int64", 1),
    ]
    for group in ("user", "context"):
        for feature in schema.groups()[group]:
            fields.append(
                Field(
                    f"{group}_{feature.name}",
                    feature.stored_dtype,
                    feature.max_values,
                    at_most=feature.max_values > 1,
                    feature=feature,
                )
            )
    fields.append(Field("behavior_time", "int64", BEHAVIORS))
    sizes = {"behavior": BEHAVIORS, "candidate": CANDIDATES, "position": CANDIDATES}
    for group, features in schema.record_groups().items():
        if group not in sizes:
            continue
        size = sizes[group]
        for feature in features:
            field = Field(
                f"{group}_{feature.name}",
                feature.stored_dtype,
                size,
                feature=feature,
                length=feature.max_values,
            )
            fields.append(field)
            if field.length > 1:
                fields.append(Field(field.length_key, "int64", size))
    fields.append(Field("behavior_chunk", "int64", BEHAVIORS))
    fields.append(Field("label", "float32", CANDIDATES))
    for name in schema.labels[1:]:
        fields.append(Field(f"label_{name}", "float32", CANDIDATES))
    fields.append(Field("true_probability", "float32", CANDIDATES, optional=True))
    return {field.key: field for field in fields}


def label_keys(
    schema: Schema, label: str | None = None, tasks: tuple[str, ...] = ()
) -> list[str]:
    """Record keys of a label, as `label_key`, and of the further ones in `tasks`."""
    keys = [label_key(schema, name) for name in (label, *tasks)]
    if keys[0] in keys[1:]:
        raise UserError(
            "`model.tasks` are further labels: `data.label`, the first one of the "
            f"schema by default, is none of them. Received: {list(tasks)}"
        )
    return keys


def label_key(schema: Schema, label: str | None = None) -> str:
    """Record key of a label, of the first one where `label` is None."""
    if label is None or label == schema.labels[0]:
        return "label"
    if label not in schema.labels:
        raise UserError(
            f"Unknown `data.label`. Known: {', '.join(schema.labels)}. "
            f"Received: {label!r}"
        )
    return f"label_{label}"


def example_values(example: "tf.train.Example", field: Field) -> np.ndarray | None:
    """The values of one key, None where it is absent.

    Raises:
        UserError: names the key, the dtype expected and the one found.
    """
    feature = example.features.feature.get(field.key)
    kind = feature.WhichOneof("kind") if feature is not None else None
    if kind is None:
        return None
    if kind != _LISTS[field.dtype]:
        found = next(dtype for dtype, name in _LISTS.items() if name == kind)
        raise UserError(f"'{field.key}' must be {field.dtype}. Received: {found}")
    dtype = object if field.dtype == "bytes" else field.dtype
    return np.array(list(getattr(feature, kind).value), dtype)


def check_example(example: "tf.train.Example", schema: Schema) -> dict[str, np.ndarray]:
    """Reads one sample and checks it against the schema.

    Returns:
        Key → values, of the keys that are there.

    Raises:
        UserError: names the key and what is wrong with it.
    """
    values = {}
    counts: dict[str, int] = {}
    for key, field in record_spec(schema).items():
        value = example_values(example, field)
        if value is None:
            if field.optional:
                continue
            if not (
                field.at_most or field.size == BEHAVIORS and not counts.get(BEHAVIORS)
            ):
                raise UserError(f"'{key}' is missing.")
            value = np.zeros(0, field.dtype)
        if field.length > 1:
            values[key] = value  # held against its lengths below
            continue
        if isinstance(field.size, str):
            expected = counts.setdefault(field.size, len(value))
            if len(value) != expected:
                raise UserError(
                    f"'{key}' must have as many values as the sample has {field.size}, "
                    f"{expected}. Received: {len(value)}"
                )
        elif len(value) > field.size or (len(value) < field.size and not field.at_most):
            raise UserError(
                f"'{key}' must have {'at most ' if field.at_most else ''}{field.size} "
                f"values. Received: {len(value)}"
            )
        values[key] = value
    for key, field in record_spec(schema).items():
        if field.length > 1:
            _check_lists(field, values[key], values[field.length_key])
    for key in (label_key(schema, name) for name in schema.labels):
        wrong = values[key][~np.isin(values[key], (0, 1))]
        if len(wrong):
            raise UserError(f"'{key}' must be 0 or 1. Received: {wrong[0]:g}")
    return values


def _check_lists(field: Field, values: np.ndarray, lengths: np.ndarray) -> None:
    if len(lengths) and not 0 <= lengths.min() <= lengths.max() <= field.length:
        raise UserError(
            f"'{field.length_key}' must be from 0 to {field.length}. "
            f"Received: {lengths.tolist()}"
        )
    if lengths.sum() != len(values):
        raise UserError(
            f"'{field.key}' must have as many values as '{field.length_key}' counts, "
            f"{lengths.sum()}. Received: {len(values)}"
        )


def places(sample: dict[str, np.ndarray], field: Field) -> list[np.ndarray]:
    """The values of each behavior or candidate, of a sample from `check_example`."""
    if field.length == 1:
        return list(sample[field.key][:, None])
    ends = np.cumsum(sample[field.length_key])
    return np.split(sample[field.key], ends[:-1]) if len(ends) else []


def take(
    sample: dict[str, np.ndarray], schema: Schema, size: str, index: np.ndarray
) -> dict[str, np.ndarray]:
    """A sample with some of its behaviors or candidates, in the order of `index`.

    Args:
        sample: from `check_example`.
        schema: of the data.
        size: `BEHAVIORS` or `CANDIDATES`.
        index: int64, those to take; may repeat.
    """
    result = dict(sample)
    for key, field in record_spec(schema).items():
        if field.size != size or not len(sample.get(key, ())):
            continue
        if field.length == 1:
            result[key] = sample[key][index]
        else:
            lists = places(sample, field)
            result[key] = np.concatenate([lists[i] for i in index] or [sample[key][:0]])
    return result
