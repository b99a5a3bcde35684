"""A JSON request ⇄ the tensors of the signatures; every mistake is told by its place.

    {"request_time": 1700000000,
     "user": {"age": 34, "tags": ["a", "b"]},
     "context": {"device": "phone"},
     "behaviors": [{"time": 1699990000, "item_id": 7, "action": "click"}, …],
     "candidates": [{"item_id": 9, "position": 0}, …]}

Times are seconds since 1970-01-01 UTC, behaviors oldest first and before the request:
in an earlier second, or where the log counts finer than seconds also in the request's.
Every feature must be given, a candidate's counters too, `null` where its value is
unknown, or as the schema's `null_values` spell it; whoever has no counters asks by
`Client.rank`, which knows them from a store. Places within the slate are computed here,
by the candidates of the request. A model with the feature `slate_size` needs it beside
`candidates`: how many are shown.

Behaviors may also be one list a feature, `{"time": […], "item_id": […], …}`.

Of texts a request says nothing: the model knows them by the items. A behavior or
candidate whose item it does not know may bring token ids of the model's tokenizer, such
as `{"item_id": 99, "title": [7592, 2088], …}`; without them it has no text.

This module needs neither TensorFlow nor Keras.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.schema import Feature, Schema
from ctr_tf.schema.nulls import without_nulls
from ctr_tf.time import MAX_TIME
from serving import inputs as names
from serving.inputs import RequestSchema, given, own_texts

if TYPE_CHECKING:
    from ctr_tf.schema.vocabulary import Vocabularies

_KEYS = ("user", "context", "behaviors")


def request_to_tensors(request: object, schema: RequestSchema) -> dict[str, np.ndarray]:
    """Turns a request into the inputs of `serving_default`, a batch of one.

    Args:
        request: as read from JSON.
        schema: of the model.

    Returns:
        Input name → array.

    Raises:
        UserError: names the place in the request and the value received.
    """
    needed = ["request_time", "candidates"]
    if schema.computed.slate_size:
        needed.append(names.SLATE_SIZE)
    request = _check_object("the request", request, [*needed, *_KEYS])
    for key in needed:
        if key not in request:
            raise UserError(f"The request lacks '{key}'.")
    time = _time("request_time", request["request_time"])
    candidates = _list("candidates", request["candidates"])
    if not candidates:
        raise UserError("`candidates` must hold at least one. Received: []")
    tensors = {
        names.REQUEST_TIME: np.array([time]),
        names.CANDIDATE_LENGTH: np.array([len(candidates)]),
    }
    if schema.computed.slate_size:
        size = request[names.SLATE_SIZE]
        if not _is_whole(size) or size < 1:
            raise UserError(
                "`slate_size` must be how many candidates are shown, a positive whole "
                f"number. Received: {size!r}"
            )
        tensors[names.SLATE_SIZE] = np.array([size])
    for group in ("user", "context"):
        tensors.update(_profile(group, request.get(group, {}), schema))
    latest = time if schema.history_may_tie else time - 1
    behaviors = request.get("behaviors", [])
    tensors.update(_behaviors(behaviors, schema, latest))
    columns = _candidates(candidates, schema)
    tensors.update({f"candidate_{key}": value for key, value in columns.items()})
    return tensors


def _candidates(candidates: list, schema: RequestSchema) -> dict[str, np.ndarray]:
    """Features of the candidates, their places within the slate too."""
    placed = schema.computed.placed
    asked = [f for f in given(schema, "candidate") if f.name not in placed]
    texts = own_texts(schema, "candidate")
    rows = _row_columns("candidates", candidates, asked, texts=texts)
    columns = _columns("candidates", rows, asked, schema)
    columns |= _texts("candidates", rows, texts)
    for place in schema.computed.places:
        places = place.values(columns[place.of][0], np.zeros(1, np.int64))
        columns |= {name: values[None] for name, values in places.items()}
    return columns


def _profile(group: str, values: object, schema: RequestSchema) -> dict:
    features = given(schema, group)
    names = [f.name for f in features]
    values = _check_object(f"`{group}`", values, names, "feature")
    tensors: dict[str, np.ndarray] = {}
    for feature in features:
        name_place = functools.partial(_lone_place, f"{group}.{feature.name}")
        if feature.name not in values:
            raise UserError(_lacks(group, feature.name, features))
        name, value = f"{group}_{feature.name}", [values[feature.name]]
        if feature.length > 1:
            array, lengths = _lists(feature, value, name_place, schema)
            tensors |= {name: array, f"{name}_length": lengths}
        else:
            array = _array(feature, value, name_place, schema)
            tensors[name] = array[None]
    return tensors


def _lone_place(place: str, _: int) -> str:
    return place


def _behaviors(behaviors: object, schema: RequestSchema, latest: int) -> dict:
    """Tensors of behaviors, given one object each or one list a feature."""
    features, texts = given(schema, "behavior"), own_texts(schema, "behavior")
    if isinstance(behaviors, Mapping):
        values = _check_columns("behaviors", behaviors, features, texts)
    else:
        rows = _list("behaviors", behaviors)
        values = _row_columns("behaviors", rows, features, ("time",), texts)
    count = len(values["time"])
    times, columns = _times(values["time"], latest), {}
    if count:
        columns = _columns("behaviors", values, features, schema)
        columns |= _texts("behaviors", values, texts)
    else:  # servers that pad, and JSON, know no tensor without a place
        times = np.zeros(1, np.int64)
        for feature in features:
            columns |= _column(feature, [None], str, schema)
        columns |= _texts("behaviors", {text.name: [None] for text in texts}, texts)
    return {
        names.BEHAVIOR_LENGTH: np.array([count]),
        names.BEHAVIOR_TIME: times[None],
        **{f"behavior_{key}": value for key, value in columns.items()},
    }


def _times(times: list, latest: int) -> np.ndarray:
    """Times of behaviors, oldest first, none of them after `latest`."""
    if all(map(_is_whole, times)):
        array = np.array(times, np.int64)
        if (np.diff(array, prepend=1, append=latest) >= 0).all():
            return array
    before = 1
    for i, value in enumerate(times):
        place = f"behaviors[{i}].time"
        if _time(place, value) > latest:
            raise UserError(
                f"`{place}` must be before the request, at {latest} at the latest. "
                f"Received: {value}"
            )
        if value < before:
            break
        before = value
    raise UserError(
        f"`behaviors` must be sorted by time, oldest first: `{place}` is before the "
        f"{before} of the one before it. Received: {value}"
    )


def _row_columns(
    what: str,
    rows: list,
    features: Sequence[Feature],
    others: Sequence[str] = (),
    texts: Sequence[Feature] = (),
) -> dict[str, list]:
    """Rows as one list a feature; only texts may be absent.

    Column by column, for a history has a thousand rows and few columns.
    """
    wanted = [*others, *(feature.name for feature in features)]
    known = {*wanted, *(text.name for text in texts)}
    objects = all(issubclass(kind, Mapping) for kind in set(map(type, rows)))
    if not objects or not all(map(known.issuperset, rows)):
        for i, row in enumerate(rows):
            _check_object(f"`{what}[{i}]`", row, known, "feature")
    columns = {}
    for name in wanted:
        try:
            columns[name] = [row[name] for row in rows]
        except KeyError:
            i = next(i for i, row in enumerate(rows) if name not in row)
            raise UserError(_lacks(f"{what}[{i}]", name, features)) from None
    return columns | {text.name: [row.get(text.name) for row in rows] for text in texts}


def _check_columns(
    what: str, columns: Mapping, features: Sequence[Feature], texts: Sequence[Feature]
) -> Mapping[str, list]:
    wanted = ["time", *(feature.name for feature in features)]
    known = [*wanted, *(text.name for text in texts)]
    _check_object(f"`{what}`", columns, known, "feature")
    for name in [*wanted, *(name for name in known[len(wanted) :] if name in columns)]:
        if name not in columns:
            raise UserError(_lacks(what, name, features))
        count = len(_list(f"{what}.{name}", columns[name]))
        if count != len(columns["time"]):
            raise UserError(
                f"`{what}.{name}` must hold as many values as `{what}.time`, "
                f"{len(columns['time'])}. Received: {count}"
            )
    absent = [None] * len(columns["time"])
    return {**dict.fromkeys(known, absent), **columns}


def _columns(
    what: str,
    values: Mapping[str, list],
    features: Sequence[Feature],
    schema: RequestSchema,
) -> dict[str, np.ndarray]:
    """Feature → its values in all rows, `[1, rows]`."""
    columns: dict[str, np.ndarray] = {}
    for feature in features:
        name = feature.name
        columns |= _column(
            feature,
            values[name],
            lambda i, name=name: f"{what}[{i}].{name}",  # type: ignore[misc]
            schema,
        )
    return columns


def _column(
    feature: Feature, values: list, place: Callable[[int], str], schema: RequestSchema
) -> dict:
    """A feature of all behaviors or candidates of a request, as a batch of one."""
    if feature.length == 1:
        return {feature.name: _array(feature, values, place, schema)[None]}
    array, lengths = _lists(feature, values, place, schema)
    return {feature.name: array[None], f"{feature.name}_length": lengths[None]}


def _texts(
    what: str, values: Mapping[str, list], texts: Sequence[Feature]
) -> dict[str, np.ndarray]:
    """Text → token ids of the rows' own, `[1, rows, tokens]`, and how many each has."""
    columns = {}
    for text in texts:
        rows = [
            [] if value is None else _tokens(f"{what}[{i}].{text.name}", value)
            for i, value in enumerate(values[text.name])
        ]
        width = max(1, *map(len, rows))  # JSON knows no tensor without a place
        padded = [row + [0] * (width - len(row)) for row in rows]
        columns[text.name] = np.array(padded, np.int64)[None]
        columns[f"{text.name}_length"] = np.array([[len(row) for row in rows]])
    return columns


def _tokens(place: str, value: object) -> list[int]:
    tokens = _list(place, value)
    if not all(_is_whole(token) and token >= 0 for token in tokens):
        raise UserError(
            f"`{place}` must be token ids of the model's tokenizer, or null where the "
            f"model knows the item. Received: {value!r}"
        )
    return tokens


def _lists(
    feature: Feature, values: list, place: Callable[[int], str], schema: RequestSchema
) -> tuple[np.ndarray, np.ndarray]:
    """Lists as rows of `feature.length` places, and how many of each count."""
    rows = [
        [] if value is None else _list(place(i), value)[: feature.length]
        for i, value in enumerate(values)
    ]
    lengths = np.array([len(row) for row in rows])
    flat = [v for row in rows for v in row + [None] * (feature.length - len(row))]
    array = _array(feature, flat, lambda i: place(i // feature.length), schema)
    return array.reshape(len(rows), feature.length), lengths


def _array(
    feature: Feature, values: list, place: Callable[[int], str], schema: RequestSchema
) -> np.ndarray:
    """Values of a feature as a tensor holds them; see `known_values`."""
    return feature.array(known_values(feature, values, place, schema))


def known_values(
    feature: Feature, values: list, place: Callable[[int], str], schema: RequestSchema
) -> list:
    """Values of a feature from JSON, None where the value is missing.

    Args:
        feature: whose values they are.
        values: single ones.
        place: index of a value → where it stands in the request.
        schema: of the feature; says how a missing value is spelled.

    Raises:
        UserError: names the place of a value that is not of the feature's type.
    """
    known = without_nulls(values, schema.nulls_of(feature), feature.dtype)
    if not feature.fits_json([value for value in known if value is not None]):
        i = next(
            i
            for i, value in enumerate(known)
            if value is not None and not feature.fits_json([value])
        )
        raise UserError(
            f"`{place(i)}` must be {feature.wanted}, or null where it is "
            f"unknown. Received: {values[i]!r}"
        )
    return known


def known_list(
    feature: Feature, value: object, place: str, schema: RequestSchema
) -> list | None:
    """The values of a feature with several, see `known_values`; None without a list."""
    if value is None:
        return None
    return known_values(feature, _list(place, value), lambda _: place, schema)


def _lacks(place: str, name: str, features: Sequence[Feature]) -> str:
    feature = next((f for f in features if f.name == name), None)
    if feature is None:
        return f"`{place}` lacks '{name}'."
    if feature.computed:
        return (
            f"`{place}` lacks the counter '{name}', {feature.description}. Give it, or "
            "ask by `Client.rank`, which knows it from a store of events."
        )
    return f"`{place}` lacks the feature '{name}'; give null where it is unknown."


def _check_object(
    place: str, value: object, known: Collection[str], what: str = "key"
) -> Mapping:
    if not isinstance(value, Mapping):
        raise UserError(f"{place} must be an object {{…}}. Received: {value!r}")
    for key in value:
        if key not in known:
            raise UserError(f"{place}: {unknown_name(what, key, known)}")
    return value


def _list(place: str, value: object) -> list:
    if not isinstance(value, list):
        raise UserError(f"`{place}` must be a list […]. Received: {value!r}")
    return value


def _is_whole(value: object) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _time(place: str, value: Any) -> int:
    if not _is_whole(value) or value <= 0:
        raise UserError(
            f"`{place}` must be whole seconds since 1970-01-01 UTC. Received: {value!r}"
        )
    if value >= MAX_TIME:
        raise UserError(
            f"`{place}` must be seconds since 1970-01-01 UTC, not milliseconds. "
            f"Received: {value}"
        )
    return value


def request_from_sample(
    sample: Mapping[str, np.ndarray], schema: Schema, vocabularies: "Vocabularies"
) -> dict:
    """Turns a sample of a prepared data set back into a JSON request.

    Ids become raw values again, by the vocabularies; those of hashed features become
    made-up values of the same hash. Ids without a value become null.

    Args:
        sample: record key → values (`ctr_tf.data.records.check_example`).
        schema: of the data.
        vocabularies: of the data.
    """

    def raw(group: str, feature: Feature) -> list:
        key = f"{group}_{feature.name}"
        words = [feature.any_raw(v, vocabularies) for v in sample[key].tolist()]
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

    candidates = rows("candidate", {})
    for name in schema.computed.placed:
        for candidate in candidates:
            del candidate[name]
    request = {
        "request_time": int(sample["request_time"][0]),
        "user": profile("user"),
        "context": profile("context"),
        "behaviors": rows("behavior", {"time": sample["behavior_time"].tolist()}),
        "candidates": candidates,
    }
    if schema.computed.slate_size:
        request["slate_size"] = int(sample["context_slate_size"][0])
    return request
