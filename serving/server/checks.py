"""A request held against the signature that it asks for, in TF Serving's words."""

import numpy as np
from grpc import StatusCode

from serving.server.errors import ServingError, invalid
from serving.server.protos import PredictRequest
from serving.server.tensorflow_c import SavedModel, Signature
from serving.server.tensors import enum_of, from_proto, type_name

DEFAULT_SIGNATURE = "serving_default"


def find_signature(model: SavedModel, name: str) -> Signature:
    """A signature of a model; the default one for an empty name.

    Raises:
        ServingError: FAILED_PRECONDITION, as in TF Serving.
    """
    name = name or DEFAULT_SIGNATURE
    if name not in model.signatures:
        raise ServingError(
            StatusCode.FAILED_PRECONDITION,
            f'Serving signature key "{name}" not found. '
            f"Known: {', '.join(sorted(model.signatures))}",
        )
    return model.signatures[name]


def read_inputs(
    request: PredictRequest, signature: Signature, max_bytes: int
) -> dict[str, np.ndarray]:
    """The tensors of a request.

    Raises:
        ServingError: INVALID_ARGUMENT, names the input.
    """
    _check_names(request.inputs, signature)
    return {
        name: from_proto(name, request.inputs[name], max_bytes)
        for name in signature.input_names
    }


def _check_names(given, signature: Signature) -> None:
    needed = set(signature.input_names)
    if needed != set(given):
        extra, missing = sorted(set(given) - needed), sorted(needed - set(given))
        raise invalid(
            f"input size does not match signature: {len(given)}!={len(needed)} "
            f"len({{{','.join(sorted(given))}}}) != "
            f"len({{{','.join(signature.input_names)}}}). "
            f"Sent extra: {{{','.join(extra)}}}. "
            f"Missing but required: {{{','.join(missing)}}}."
        )


def check_inputs(inputs: dict[str, np.ndarray], signature: Signature) -> None:
    """Holds tensors against the signature.

    Raises:
        ServingError: INVALID_ARGUMENT, names the input.
    """
    for name, array in inputs.items():
        if array.dtype != signature.dtypes[name]:
            wanted = type_name(signature.proto.inputs[name].dtype)
            raise invalid(
                f'Input "{name}" must be {wanted}. '
                f"Received: {type_name(enum_of(array))}"
            )
        shape = signature.shapes[name]
        if shape is not None and (
            len(shape) != array.ndim
            or any(a not in (-1, b) for a, b in zip(shape, array.shape, strict=True))
        ):
            raise invalid(
                f'Input "{name}" must have the shape {list(shape)}, where -1 is open. '
                f"Received: {list(array.shape)}"
            )
    if not signature.batchable or not inputs:
        return
    rows = {name: len(array) for name, array in inputs.items() if array.ndim}
    if len(rows) < len(inputs) or len(set(rows.values())) > 1 or 0 in rows.values():
        raise invalid(
            "All inputs must have the same first dimension, at least 1. Received: "
            + ", ".join(f"{name}: {n}" for name, n in sorted(rows.items()))
        )


def output_names(signature: Signature, output_filter: list[str]) -> list[str]:
    """The outputs that a request wants; all, where it names none.

    Raises:
        ServingError: INVALID_ARGUMENT, names the output.
    """
    for i, name in enumerate(output_filter):
        if name not in signature.proto.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name} Outputs expected "
                f"to be in the set {{{','.join(signature.output_names)}}}."
            )
        if name in output_filter[:i]:
            raise invalid(f"duplicate output tensor alias: {name}")
    return list(output_filter) or signature.output_names
