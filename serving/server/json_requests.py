"""Predict requests in TF Serving's JSON: rows (`instances`) and columns (`inputs`)."""

import json

import numpy as np
import tensorflow as tf

from serving.errors import invalid
from serving.json_tensors import from_json, is_encoded, show, to_json
from serving.specs import Signature

_SHOWN = 100  # characters of what is wrong


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
        raise invalid(f"JSON Value: {show(request)} Is not object")
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


def read_inputs(request: dict, signature: Signature) -> dict[str, tf.Tensor]:
    """The tensors of a parsed request.

    Raises:
        ServingError: INVALID_ARGUMENT, names the input.
    """
    if "instances" in request:
        columns = _columns(request["instances"], signature)
    else:
        columns = request["inputs"]
        if not isinstance(columns, dict) or is_encoded(columns):
            columns = {_only_input(signature, "inputs"): columns}
        for name in signature.inputs:
            if name not in columns:
                raise invalid(f"Missing named input: {name} in 'inputs' object.")
        for name in columns:
            if name not in signature.inputs:
                raise invalid(f"JSON object: does not have named input: {name}")
    return {
        name: tf.constant(from_json(name, columns[name], spec.dtype), spec.dtype)
        for name, spec in signature.inputs.items()
    }


def _columns(rows: list, signature: Signature) -> dict[str, list]:
    if not isinstance(rows[0], dict) or is_encoded(rows[0]):
        return {_only_input(signature, "instances"): rows}
    names = set(signature.inputs)
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise invalid(f"Expecting object but got list at item {i} of input list")
        if row.keys() != names:
            wrong = ",".join(sorted(row.keys() ^ names))
            raise invalid(
                f"Failed to process element: {i} of 'instances' list. JSON object: "
                f"keys must be equal to: {','.join(sorted(names))}. "
                f"Missing or unknown: {wrong[:_SHOWN]}"
            )
    return {name: [row[name] for row in rows] for name in names}


def _only_input(signature: Signature, key: str) -> str:
    if len(signature.inputs) != 1:
        raise invalid(
            f"{key} is a plain value/list, but expecting an object as multiple input "
            f"tensors required: {','.join(sorted(signature.inputs))}"
        )
    return next(iter(signature.inputs))


def answer(outputs: dict[str, np.ndarray], rows: bool) -> dict:
    """The answer: `predictions` for a request by rows, else `outputs`.

    Raises:
        ServingError: INVALID_ARGUMENT, if the outputs have no rows, or not as many.
    """
    values = {name: to_json(name, array) for name, array in outputs.items()}
    if not rows:
        if len(values) == 1:
            (lone,) = values.values()
            return {"outputs": lone}
        return {"outputs": values}
    counts = {len(v) if isinstance(v, list) else None for v in values.values()}
    if len(counts) > 1 or None in counts:
        raise invalid(
            "The outputs have different numbers of rows; use the columnar 'inputs'."
        )
    if len(values) == 1:
        return {"predictions": next(iter(values.values()))}
    return {
        "predictions": [
            dict(zip(values, row, strict=True))
            for row in zip(*values.values(), strict=True)
        ]
    }
