"""What whoever asks the store says himself: user, candidates and context, checked.

Values are those of a raw log: of the schema's types, NumPy's too; NaN and what the
schema's `null_values` spell are missing.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ctr_tf.errors import UserError
from ctr_tf.schema import ITEM_KEY, USER_KEY, Categorical, Feature, Schema
from serving.inputs import given
from serving.request import known_list, known_values

_ANY_USER = Categorical(USER_KEY, "user")  # where the schema does not have it


def plain(value: Any) -> Any:
    """The value as JSON has it: Python's own of a NumPy value, None of NaN."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(single) for single in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def user_name(user: object, schema: Schema) -> str:
    """A user's id as the store has it.

    Raises:
        UserError: if it can be no user's.
    """
    feature = next((f for f in schema.user if f.name == USER_KEY), _ANY_USER)
    value, is_whole = plain(user), feature.dtype == "int64"
    if is_whole and type(value) is str and re.fullmatch("-?[0-9]+", value):
        value = int(value)
    elif not is_whole and type(value) is int:
        value = str(value)
    if not feature.fits_json([value]):
        wanted = "a whole number" if is_whole else "a string or a whole number"
        raise UserError(f"`user` must be {wanted}. Received: {user!r}")
    return str(value)


def asked_context(context: Mapping | None, schema: Schema) -> dict:
    """Features of the request, None where one is missing.

    Raises:
        UserError: names the place of a value that does not fit.
    """
    if not isinstance(context or {}, Mapping):
        raise UserError(f"`context` must be an object {{…}}. Received: {context!r}")
    features = given(schema, "context")
    return _known([dict(context or {})], features, lambda _: "context", schema)[0]


def asked_candidates(candidates: Sequence, schema: Schema) -> list[dict]:
    """Candidates as objects, features None where one is missing.

    Args:
        candidates: ids or objects.
        schema: of the store.

    Raises:
        UserError: names the place of a value that does not fit, or of an id that is
            missing.
    """
    rows = [dict(c) if isinstance(c, Mapping) else {ITEM_KEY: c} for c in candidates]
    features = [f for f in given(schema, "candidate") if not f.computed]
    rows = _known(rows, features, lambda i: f"candidates[{i}]", schema)
    for i, row in enumerate(rows):
        if row.get(ITEM_KEY) is None:
            raise UserError(f"`candidates[{i}]` lacks '{ITEM_KEY}'.")
    return rows


def _known(
    rows: list[dict],
    features: Sequence[Feature],
    place: Callable[[int], str],
    schema: Schema,
) -> list[dict]:
    """Rows with known values of those features that they have, column by column."""
    for feature in features:
        name = feature.name
        there = [i for i, row in enumerate(rows) if name in row]
        places = [f"{place(i)}.{name}" for i in there]
        values = [plain(rows[i][name]) for i in there]
        if feature.length == 1:
            known = known_values(feature, values, places.__getitem__, schema)
        else:
            known = [
                known_list(feature, value, where, schema)
                for value, where in zip(values, places, strict=True)
            ]
        for i, value in zip(there, known, strict=True):
            rows[i][name] = value
    return rows
