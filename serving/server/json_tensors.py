"""Predict requests in TF Serving's JSON: rows (`instances`) and columns (`inputs`)."""

import base64
import binascii
import json

import numpy as np

from serving.server.errors import invalid
from serving.server.protos import types_pb2
from serving.server.tensorflow_c import Signature
from serving.server.tensors import numpy_dtype, type_name

_B64 = "b64"
_BYTES_SUFFIX = "_bytes"  # outputs of such a name are binary
_SHOWN = 100  # characters of a wrong value


def parse(body: bytes) -> dict:
    """Reads a request's body.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise invalid(f"JSON Parse error: {str(error)[:_SHOWN]}") from error
    if not isinstance(request, dict):
        raise invalid(f"JSON Value: {_show(request)} Is not object")
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid("'signature_name' key must be a string value.")
    if "instances" in request and "inputs" in request:
        raise invalid("Expecting only one of 'inputs' or 'instances' keys to exist")
    if "instances" in request:
        rows = request["instances"]
        if not isinstance(rows, list) or not rows:
            raise invalid("Expecting 'instances' to be a list that is not empty")
    elif "inputs" not in request:
        raise invalid("Missing 'inputs' or 'instances' key")
    return request


def read_inputs(request: dict, signature: Signature) -> dict[str, np.ndarray]:
    """The tensors of a parsed request.

    Raises:
        ServingError: INVALID_ARGUMENT, names the input.
    """
    if "instances" in request:
        columns = _columns(request["instances"], signature)
    else:
        columns = request["inputs"]
        if not isinstance(columns, dict) or _is_b64(columns):
            columns = {_only_input(signature, "inputs"): columns}
        for name in signature.input_names:
            if name not in columns:
                raise invalid(f"Missing named input: {name} in 'inputs' object.")
        for name in columns:
            if name not in signature.proto.inputs:
                raise invalid(f"JSON object: does not have named input: {name}")
    return {
        name: _to_array(name, columns[name], signature.proto.inputs[name].dtype)
        for name in signature.input_names
    }


def _columns(rows: list, signature: Signature) -> dict[str, list]:
    if not isinstance(rows[0], dict) or _is_b64(rows[0]):
        return {_only_input(signature, "instances"): rows}
    names = set(signature.input_names)
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise invalid(f"Expecting object but got list at item {i} of input list")
        if row.keys() != names:
            wrong = sorted(row.keys() ^ names)[:_SHOWN]
            raise invalid(
                f"Failed to process element: {i} of 'instances' list. JSON object: "
                f"keys must be equal to: {','.join(signature.input_names)}. "
                f"Missing or unknown: {','.join(wrong)[:_SHOWN]}"
            )
    return {name: [row[name] for row in rows] for name in names}


def _only_input(signature: Signature, key: str) -> str:
    if len(signature.input_names) != 1:
        raise invalid(
            f"{key} is a plain value/list, but expecting an object as multiple input "
            f"tensors required: {','.join(signature.input_names)}"
        )
    return signature.input_names[0]


def _to_array(name: str, value, enum: int) -> np.ndarray:
    """A value of nested lists; every list of a level must be equally long."""
    shape, level = [], [value]
    while level and isinstance(level[0], list):
        size = len(level[0])
        for row in level:
            if not isinstance(row, list) or len(row) != size:
                raise invalid(
                    f'Input "{name}": encountered list at unexpected size, or a value '
                    f"among lists, at level: {len(shape)} expected size: {size}. "
                    f"Received: {_show(row)}"
                )
        shape.append(size)
        level = [item for row in level for item in row]
    return _leaves(name, level, enum).reshape(shape)


def _leaves(name: str, values: list, enum: int) -> np.ndarray:
    dtype = numpy_dtype(enum)
    if dtype.kind == "O":
        array = np.empty(len(values), object)
        array[:] = [_to_bytes(name, value) for value in values]
        return array
    if dtype.kind == "b":
        accepted = (bool,)
    elif np.issubdtype(dtype, np.integer):
        accepted = (int,)
    else:
        accepted = (int, float)
    for value in values:
        if type(value) not in accepted:
            raise _type_error(name, value, enum)
    try:
        array = np.array(values, np.float64 if float in accepted else dtype)
    except OverflowError as error:
        raise _type_error(name, max(values, key=abs), enum) from error
    if float in accepted:
        with np.errstate(over="ignore"):
            narrow = array.astype(dtype)
        lost = np.isfinite(array) & ~np.isfinite(narrow.astype(np.float64))
        if lost.any():
            raise invalid(
                f'Input "{name}": cannot convert JSON value: {array[lost][0]} to '
                f"{type_name(enum)} without loss of precision."
            )
        return narrow
    return array


def _to_bytes(name: str, value) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise invalid(f'Input "{name}" has a string that is no Unicode.') from error
    if not _is_b64(value):
        raise _type_error(name, value, types_pb2.DT_STRING)
    try:
        return base64.b64decode(value[_B64], validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f'Input "{name}": unable to base64 decode.') from error


def _is_b64(value) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {_B64}
        and isinstance(value[_B64], str)
    )


def _type_error(name: str, value, enum: int):
    return invalid(
        f'Input "{name}": JSON Value: {_show(value)} Type: {type(value).__name__} '
        f"is not of expected type: {type_name(enum)}"
    )


def _show(value) -> str:
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def to_json(outputs: dict[str, np.ndarray], rows: bool) -> dict:
    """The answer: `predictions` for a request by rows, else `outputs`.

    Raises:
        ServingError: INVALID_ARGUMENT, if an output has no rows.
    """
    values = {name: _to_lists(name, array) for name, array in outputs.items()}
    if not rows:
        if len(values) == 1:
            (values,) = values.values()
        return {"outputs": values}
    counts = {len(v) if isinstance(v, list) else None for v in values.values()}
    if len(counts) > 1 or None in counts:
        raise invalid(
            "The outputs have different numbers of rows; use the columnar 'inputs'."
        )
    if len(values) == 1:
        return {"predictions": next(iter(values.values()))}
    names = list(values)
    return {
        "predictions": [
            dict(zip(names, row, strict=True))
            for row in zip(*values.values(), strict=True)
        ]
    }


def _to_lists(name: str, array: np.ndarray):
    if array.dtype.kind == "O":
        convert = _b64 if name.endswith(_BYTES_SUFFIX) else _text
        flat = np.empty(array.size, object)
        flat[:] = [convert(value) for value in array.ravel()]
    elif array.dtype.kind in "iub":
        return array.tolist()
    elif array.dtype == np.float64:
        return array.tolist()
    else:  # the shortest decimal that is this float32, not the float64 beside it
        single = array.astype(np.float32)
        flat = np.empty(array.size, object)
        flat[:] = [float(str(value)) for value in single.ravel()]
    return flat.reshape(array.shape).tolist()


def _b64(value: bytes) -> dict:
    return {_B64: base64.b64encode(value).decode()}


def _text(value: bytes):
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _b64(value)
