"""A JSON request ⇄ the tensors of the signatures; every mistake is told by its place.

    {"request_time": 1700000000,
     "user": {"age": 34, "tags": ["a", "b"]},
     "context": {"device": "phone"},
     "behaviors": [{"time": 1699990000, "item_id": 7, "action": "click"}, …],
     "candidates": [{"item_id": 9, "position": 0}, …]}

Times are seconds since 1970-01-01 UTC, behaviors oldest first and before the request.
Every feature must be given, `null` where its value is unknown; only the counters of a
candidate may be left out and then count nothing. `slate_size` may say that the request
has more candidates than these.

This module needs neither TensorFlow nor Keras.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ctr_tf.data.missing import MISSING
from ctr_tf.errors import unknown_name
from ctr_tf.schema import FIRST_ID, Feature, Schema
from ctr_tf.time import MAX_TIME
from ctr_tf.vocabulary import Vocabularies
from serving import inputs as names
from serving.inputs import given

_KEYS = ("request_time", "slate_size", "user", "context", "behaviors", "candidates")
_NUMPY = {"int64": np.int64, "float32": np.float32, "string": object}
_WORDS = {"int64": "a whole number", "float32": "a number", "string": "a string"}
_NEVER = -1


def request_to_tensors(request: object, schema: Schema) -> dict[str, np.ndarray]:
    """Turns a request into the inputs of `serving_default`, a batch of one.

    Args:
        request: as read from JSON.
        schema: of the model.

    Returns:
        Input name → array.

    Raises:
        ValueError: names the place in the request and the value received.
    """
    _check_object("the request", request, _KEYS)
    for key in ("request_time", "candidates"):
        if key not in request:
            raise ValueError(f"The request lacks '{key}'.")
    time = _time("request_time", request["request_time"])
    candidates = _list("candidates", request["candidates"])
    if not candidates:
        raise ValueError("`candidates` must hold at least one. Received: []")
    size = request.get("slate_size", len(candidates))
    if not _is_whole(size) or size < len(candidates):
        raise ValueError(
            f"`slate_size` must be at least the {len(candidates)} candidates given. "
            f"Received: {size!r}"
        )
    tensors = {
        names.REQUEST_TIME: np.array([time]),
        names.SLATE_SIZE: np.array([size]),
        names.CANDIDATE_LENGTH: np.array([len(candidates)]),
    }
    for group in ("user", "context"):
        tensors.update(_profile(group, request.get(group, {}), given(schema, group)))
    behaviors = _list("behaviors", request.get("behaviors", []))
    tensors.update(_behaviors(behaviors, given(schema, "behavior"), time))
    columns = _columns("candidates", candidates, given(schema, "candidate"))
    tensors.update({f"candidate_{key}": value for key, value in columns.items()})
    return tensors


def _profile(group: str, values: object, features: Sequence[Feature]) -> dict:
    _check_object(f"`{group}`", values, [f.name for f in features], "feature")
    tensors = {}
    for feature in features:
        place = f"{group}.{feature.name}"
        if feature.name not in values:
            raise ValueError(_lacks(group, feature))
        value = values[feature.name]
        name = f"{group}_{feature.name}"
        row = [value]
        if feature.length > 1:
            row = [] if value is None else _list(place, value)
            row = row[: feature.length]
            tensors[f"{name}_length"] = np.array([len(row)])
        row = [_value(place, feature, v) for v in row]
        row += [MISSING[feature.dtype]] * (feature.length - len(row))
        tensors[name] = np.array([row], _NUMPY[feature.dtype])
    return tensors


def _behaviors(behaviors: list, features: Sequence[Feature], request_time: int) -> dict:
    times = []
    for i, behavior in enumerate(behaviors):
        place = f"behaviors[{i}]"
        _check_object(f"`{place}`", behavior, ["time", *(f.name for f in features)])
        if "time" not in behavior:
            raise ValueError(f"`{place}` lacks 'time'.")
        time = _time(f"{place}.time", behavior["time"])
        if time >= request_time:
            raise ValueError(
                f"`{place}.time` must be before request_time={request_time}. "
                f"Received: {time}"
            )
        if times and time < times[-1]:
            raise ValueError(
                f"`behaviors` must be sorted by time, oldest first: `{place}.time` is "
                f"before the {times[-1]} of the one before it. Received: {time}"
            )
        times.append(time)
    columns = _columns("behaviors", behaviors, features, ("time",))
    if not behaviors:  # servers that pad, and JSON, know no tensor without a place
        times = [0]
        columns = {
            feature.name: np.array([[MISSING[feature.dtype]]], _NUMPY[feature.dtype])
            for feature in features
        }
    return {
        names.BEHAVIOR_LENGTH: np.array([len(behaviors)]),
        names.BEHAVIOR_TIME: np.array([times], np.int64),
        **{f"behavior_{key}": value for key, value in columns.items()},
    }


def _columns(
    what: str, rows: list, features: Sequence[Feature], others: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    columns = {feature.name: [] for feature in features}
    for i, row in enumerate(rows):
        place = f"{what}[{i}]"
        _check_object(f"`{place}`", row, [*others, *columns], "feature")
        for feature in features:
            if feature.name not in row:
                if not feature.computed:
                    raise ValueError(_lacks(place, feature))
                value = _NEVER if feature.log2 else 0
            else:
                value = row[feature.name]
            value = _value(f"{place}.{feature.name}", feature, value)
            columns[feature.name].append(value)
    return {
        feature.name: np.array([columns[feature.name]], _NUMPY[feature.dtype])
        for feature in features
    }


def _lacks(place: str, feature: Feature) -> str:
    return (
        f"`{place}` lacks the feature '{feature.name}'; give null where it is unknown."
    )


def _check_object(place: str, value: object, known: Sequence[str], what="key"):
    if not isinstance(value, Mapping):
        raise ValueError(f"{place} must be an object {{…}}. Received: {value!r}")
    for key in value:
        if key not in known:
            raise ValueError(f"{place}: {unknown_name(what, key, known)}")


def _list(place: str, value: object) -> list:
    if not isinstance(value, list):
        raise ValueError(f"`{place}` must be a list […]. Received: {value!r}")
    return value


def _is_whole(value: object) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _time(place: str, value: object) -> int:
    if not _is_whole(value) or value <= 0:
        raise ValueError(
            f"`{place}` must be whole seconds since 1970-01-01 UTC. Received: {value!r}"
        )
    if value >= MAX_TIME:
        raise ValueError(
            f"`{place}` must be seconds since 1970-01-01 UTC, not milliseconds. "
            f"Received: {value}"
        )
    return value


def _value(place: str, feature: Feature, value: object):
    """The value as the tensor holds it."""
    if value is None:
        return MISSING[feature.dtype]
    fits = {
        "int64": _is_whole(value),
        "float32": type(value) in (int, float) and math.isfinite(value),
        "string": isinstance(value, str),
    }[feature.dtype]
    if not fits:
        raise ValueError(
            f"`{place}` must be {_WORDS[feature.dtype]}, or null where it is unknown. "
            f"Received: {value!r}"
        )
    return value


def request_from_sample(
    sample: Mapping[str, np.ndarray], schema: Schema, vocabularies: Vocabularies
) -> dict:
    """Turns a sample of a prepared data set back into a JSON request.

    Ids become raw values again, by the vocabularies. Unknown ids and those of hashed
    features, which cannot be undone, become null.

    Args:
        sample: record key → values (`ctr_tf.data.records.check_example`).
        schema: of the data.
        vocabularies: of the data.
    """

    def raw(group: str, feature: Feature) -> list:
        values = sample[f"{group}_{feature.name}"].tolist()
        return [_raw_value(feature, value, vocabularies) for value in values]

    def profile(group: str) -> dict:
        return {
            f.name: raw(group, f) if f.length > 1 else raw(group, f)[0]
            for f in given(schema, group)
        }

    def rows(group: str, first: dict[str, list]) -> list[dict]:
        columns = first | {f.name: raw(group, f) for f in given(schema, group)}
        return [
            dict(zip(columns, row, strict=True))
            for row in zip(*columns.values(), strict=True)
        ]

    return {
        "request_time": int(sample["request_time"][0]),
        "user": profile("user"),
        "context": profile("context"),
        "behaviors": rows("behavior", {"time": sample["behavior_time"].tolist()}),
        "candidates": rows("candidate", {}),
    }


def _raw_value(feature: Feature, stored, vocabularies: Vocabularies):
    if feature.kind != "categorical":
        return None if isinstance(stored, float) and math.isnan(stored) else stored
    if feature.hash_buckets is not None or stored < FIRST_ID:
        return None
    (word,) = vocabularies.decode(feature, [stored])
    return int(word) if feature.dtype == "int64" else word
