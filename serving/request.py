"""A JSON request ⇄ the tensors of the signatures; every mistake is told by its place.

    {"request_time": 1700000000,
     "user": {"age": 34, "tags": ["a", "b"]},
     "context": {"device": "phone"},
     "behaviors": [{"time": 1699990000, "item_id": 7, "action": "click"}, …],
     "candidates": [{"item_id": 9, "position": 0}, …]}

Times are seconds since 1970-01-01 UTC, behaviors oldest first and before the request:
in an earlier second, or where the log counts finer than seconds also in the request's.
Every feature must be given, `null` where its value is unknown; only the counters of a
candidate may be left out and then count nothing. `slate_size` may say that the request
has more candidates than these.

This module needs neither TensorFlow nor Keras.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from ctr_tf.errors import unknown_name
from ctr_tf.schema import Feature, Schema
from ctr_tf.schema.vocabulary import Vocabularies
from ctr_tf.time import MAX_TIME
from serving import inputs as names
from serving.inputs import given

_KEYS = ("request_time", "slate_size", "user", "context", "behaviors", "candidates")


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
    latest = time if schema.history_may_tie else time - 1
    tensors.update(_behaviors(behaviors, given(schema, "behavior"), latest))
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
        name, value = f"{group}_{feature.name}", [values[feature.name]]
        if feature.length > 1:
            array, lengths = _lists(feature, value, lambda _, place=place: place)
            tensors |= {name: array, f"{name}_length": lengths}
        else:
            array = _array(feature, value, lambda _, place=place: place)
            tensors[name] = array[None]
    return tensors


def _behaviors(behaviors: list, features: Sequence[Feature], latest: int) -> dict:
    columns = _columns("behaviors", behaviors, features, ("time",))
    times = _times(behaviors, latest)
    if not behaviors:  # servers that pad, and JSON, know no tensor without a place
        times = np.zeros(1, np.int64)
        columns = {}
        for feature in features:
            columns |= _column(feature, [None], str)
    return {
        names.BEHAVIOR_LENGTH: np.array([len(behaviors)]),
        names.BEHAVIOR_TIME: times[None],
        **{f"behavior_{key}": value for key, value in columns.items()},
    }


def _times(behaviors: list, latest: int) -> np.ndarray:
    """Times of behaviors, oldest first, none of them after `latest`."""
    for i, behavior in enumerate(behaviors):
        if "time" not in behavior:
            raise ValueError(f"`behaviors[{i}]` lacks 'time'.")
    times = [behavior["time"] for behavior in behaviors]
    if all(map(_is_whole, times)):
        array = np.array(times, np.int64)
        if (np.diff(array, prepend=1, append=latest) >= 0).all():
            return array
    before = 1
    for i, value in enumerate(times):
        place = f"behaviors[{i}].time"
        if _time(place, value) > latest:
            raise ValueError(
                f"`{place}` must be before the request, at {latest} at the latest. "
                f"Received: {value}"
            )
        if value < before:
            break
        before = value
    raise ValueError(
        f"`behaviors` must be sorted by time, oldest first: `{place}` is before the "
        f"{before} of the one before it. Received: {value}"
    )


def _columns(
    what: str, rows: list, features: Sequence[Feature], others: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Feature → its values in all rows, `[1, rows]`.

    Column by column, for a history has a thousand rows and few columns.
    """
    known = {*others, *(feature.name for feature in features)}
    objects = all(issubclass(kind, Mapping) for kind in set(map(type, rows)))
    if not objects or not all(map(known.issuperset, rows)):
        for i, row in enumerate(rows):
            _check_object(f"`{what}[{i}]`", row, known, "feature")
    columns = {}
    for feature in features:
        name = feature.name
        if feature.computed:
            default = None if feature.is_embedded else 0  # it never was, or not once
            values = [row.get(name, default) for row in rows]
        else:
            for i, row in enumerate(rows):
                if name not in row:
                    raise ValueError(_lacks(f"{what}[{i}]", feature))
            values = [row[name] for row in rows]
        columns |= _column(feature, values, lambda i, name=name: f"{what}[{i}].{name}")
    return columns


def _column(feature: Feature, values: list, place: Callable[[int], str]) -> dict:
    """A feature of all behaviors or candidates of a request, as a batch of one."""
    if feature.length == 1:
        return {feature.name: _array(feature, values, place)[None]}
    array, lengths = _lists(feature, values, place)
    return {feature.name: array[None], f"{feature.name}_length": lengths[None]}


def _lists(
    feature: Feature, values: list, place: Callable[[int], str]
) -> tuple[np.ndarray, np.ndarray]:
    """Lists as rows of `feature.length` places, and how many of each count."""
    rows = [
        [] if value is None else _list(place(i), value)[: feature.length]
        for i, value in enumerate(values)
    ]
    lengths = np.array([len(row) for row in rows])
    flat = [v for row in rows for v in row + [None] * (feature.length - len(row))]
    array = _array(feature, flat, lambda i: place(i // feature.length))
    return array.reshape(len(rows), feature.length), lengths


def _array(feature: Feature, values: list, place: Callable[[int], str]) -> np.ndarray:
    """Values of a feature as a tensor holds them.

    Args:
        feature: whose values they are.
        values: from JSON.
        place: index of a value → where it stands in the request.
    """
    given = [value for value in values if value is not None]
    if not feature.fits_json(given):
        i = next(
            i
            for i, value in enumerate(values)
            if value is not None and not feature.fits_json([value])
        )
        raise ValueError(
            f"`{place(i)}` must be {feature.wanted}, or null where it is "
            f"unknown. Received: {values[i]!r}"
        )
    return feature.array(values)


def _lacks(place: str, feature: Feature) -> str:
    return (
        f"`{place}` lacks the feature '{feature.name}'; give null where it is unknown."
    )


def _check_object(place: str, value: object, known: Collection[str], what="key"):
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
        key = f"{group}_{feature.name}"
        words = [feature.from_stored(v, vocabularies) for v in sample[key].tolist()]
        if f"{key}_length" not in sample:
            return words
        ends = np.cumsum(sample[f"{key}_length"]).tolist()
        return [words[a:b] for a, b in zip([0, *ends], ends, strict=False)]

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
