"""What the signatures take: every input's name, dtype, shape and meaning.

Raw values, as the log has them, in dense tensors. Rows of different length are padded
on the right with anything; a length vector says how many places count. A value that is
not known is written as `ctr_tf.schema.feature.MISSING`.

This module needs neither TensorFlow nor Keras.
"""

import dataclasses
import math
from typing import Any, Protocol

from ctr_tf.computed.declare import Computed
from ctr_tf.computed.slate import SLATE_SIZE as SLATE_SIZE_FEATURE
from ctr_tf.schema import MISSING, Feature
from ctr_tf.schema.nulls import NullValues, null_texts
from ctr_tf.time import MAX_TIME

REQUEST_TIME = "request_time"
SLATE_SIZE = SLATE_SIZE_FEATURE.name
_ONE_COUNTS = "of those equal in time, item_id and behavior features one counts; "
BEHAVIOR_TIME = "behavior_time"
BEHAVIOR_LENGTH = "behavior_length"
CANDIDATE_LENGTH = "candidate_length"


@dataclasses.dataclass(frozen=True)
class Input:
    """One input of a signature.

    Args:
        name: of the tensor.
        dtype: `"int64"`, `"string"` or `"float32"`.
        shape: axes; `None` is open, the batch among others.
        axes: the same axes, named for people.
        meaning: one line for people.
        feature: of the schema, where there is one.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    axes: tuple[str | int, ...]
    meaning: str
    feature: Feature | None = None

    def describe(self, schema: "RequestSchema") -> dict:
        """The input as JSON; `missing` stands for an unknown value.

        Nothing in the graph knows the log's `null_values`: whoever sends tensors writes
        `missing` for them.
        """
        result: dict[str, Any] = {
            "dtype": self.dtype,
            "shape": list(self.axes),
            "meaning": self.meaning,
        }
        if self.feature is not None:
            missing = MISSING[self.dtype]
            result["missing"] = (
                "NaN" if isinstance(missing, float) and math.isnan(missing) else missing
            )
            if nulls := schema.nulls_of(self.feature):
                result["null_values"] = sorted(null_texts(nulls))
        return result


class RequestSchema(Protocol):
    """What a request must fit: a `Schema`, or a signature that stands for one."""

    @property
    def time_unit(self) -> str:
        """See `Schema`."""

    @property
    def history_may_tie(self) -> bool:
        """See `Schema`."""

    @property
    def horizon(self) -> str | int | None:
        """See `Schema`."""

    @property
    def computed(self) -> Computed:
        """See `Schema`."""

    def groups(self) -> dict[str, tuple[Feature, ...]]:
        """See `Schema`."""

    def nulls_of(self, feature: Feature) -> NullValues:
        """See `Schema`."""


def _beyond(schema: RequestSchema) -> str:
    if schema.horizon is None:
        return ""
    return f", and those before the UTC day of request_time - {schema.horizon}"


def given(schema: RequestSchema, group: str) -> tuple[Feature, ...]:
    """Features of a group that a request gives; the graph computes the others.

    Those are hour and weekend. Slate size is an input of its own, and a candidate's
    counters and places are the caller's. Texts follow from the items; see `own_texts`.
    """
    features = tuple(f for f in schema.groups()[group] if not f.is_text)
    if group == "candidate":
        return features
    return tuple(feature for feature in features if not feature.computed)


def own_texts(schema: RequestSchema, group: str) -> tuple[Feature, ...]:
    """Texts that behaviors or candidates may bring, of items that are not known."""
    return tuple(f for f in schema.groups()[group] if f.is_text)


def user_inputs(schema: RequestSchema) -> list[Input]:
    """Inputs that describe the user and the request: what `encode_user` takes."""
    seconds = f"seconds since 1970-01-01 UTC, more than 0 and less than {MAX_TIME}"
    inputs = [_vector(REQUEST_TIME, seconds)]
    if schema.computed.slate_size:
        inputs.append(_vector(SLATE_SIZE, SLATE_SIZE_FEATURE.description))
    for group in ("user", "context"):
        for feature in given(schema, group):
            name = f"{group}_{feature.name}"
            inputs.append(_of_feature(name, feature, feature.length, feature.length))
            if feature.length > 1:
                inputs.append(_vector(f"{name}_length", f"values in {name}"))
    inputs += [
        _vector(BEHAVIOR_LENGTH, "behaviors in each row; the rest is padding"),
        Input(
            BEHAVIOR_TIME,
            "int64",
            (None, None),
            ("batch", "behaviors"),
            f"{seconds}; in any order, they are sorted, but of equal times as the log "
            f"has them in its own {schema.time_unit}, or else the smaller item_id "
            "first, then the smaller behavior features, clicks last; "
            f"{'' if schema.history_may_tie else _ONE_COUNTS}those "
            f"{'after' if schema.history_may_tie else 'not before'} request_time are "
            f"left out{_beyond(schema)}",
        ),
    ]
    for feature in given(schema, "behavior"):
        inputs += _of_places("behavior", feature)
    for text in own_texts(schema, "behavior"):
        inputs += _of_text("behavior", text)
    return inputs


def candidate_inputs(schema: RequestSchema) -> list[Input]:
    """Inputs that describe the candidates: what `score_candidates` adds."""
    inputs = [_vector(CANDIDATE_LENGTH, "candidates in each row; the rest is padding")]
    for feature in given(schema, "candidate"):
        inputs += _of_places("candidate", feature)
    for text in own_texts(schema, "candidate"):
        inputs += _of_text("candidate", text)
    return inputs


def _vector(name: str, meaning: str) -> Input:
    return Input(name, "int64", (None,), ("batch",), meaning)


def _of_places(group: str, feature: Feature) -> list[Input]:
    """A feature of behaviors or candidates, and how many values each has of it."""
    name, axis = f"{group}_{feature.name}", f"{group}s"
    if feature.length == 1:
        return [_of_feature(name, feature, None, axis)]
    shape, meaning = (None, None), f"values in {name}, of each of the {axis}"
    return [
        _of_feature(name, feature, None, axis, feature.length),
        Input(f"{name}_length", "int64", shape, ("batch", axis), meaning),
    ]


def _of_text(group: str, feature: Feature) -> list[Input]:
    """A text that an item may bring, and how many tokens it has."""
    name, axis = f"{group}_{feature.name}", f"{group}s"
    return [
        Input(
            name,
            "int64",
            (None, None, None),
            ("batch", axis, "tokens"),
            f"of an item that the model does not know, token ids of its "
            f"'{feature.name}' by the model's tokenizer, of which the first "
            f"{feature.length} count",
        ),
        Input(
            f"{name}_length",
            "int64",
            (None, None),
            ("batch", axis),
            f"tokens in {name}, of each of the {axis}; 0 where the model knows the "
            f"item, for its '{feature.name}' is in the model",
        ),
    ]


def _of_feature(
    name: str, feature: Feature, size: int | None, axis: str | int, *more: int
) -> Input:
    meaning = feature.description or f"{feature.kind} feature '{feature.name}'"
    shape, axes = (None, size, *more), ("batch", axis, *more)
    return Input(name, feature.dtype, shape, axes, meaning, feature)
