"""A request held against the signature that it asks for, in TF Serving's words."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from serving.errors import ServingError, invalid
from serving.specs import Signature

_DEFAULT = "serving_default"


def find_signature(
    signatures: Mapping[str, Signature], name: str
) -> tuple[str, Signature]:
    """A signature and its name; the default one for an empty name.

    Raises:
        ServingError: FAILED_PRECONDITION, as in TF Serving.
    """
    name = name or _DEFAULT
    if name not in signatures:
        raise ServingError(
            "FAILED_PRECONDITION",
            f'Serving signature key "{name}" not found. '
            f"Known: {', '.join(sorted(signatures))}",
        )
    return name, signatures[name]


def check_inputs(inputs: Mapping[str, tf.Tensor], signature: Signature) -> None:
    """Holds tensors against the signature.

    Raises:
        ServingError: INVALID_ARGUMENT, names the input.
    """
    _check_names(inputs, signature)
    for name, tensor in inputs.items():
        spec = signature.inputs[name]
        if tensor.dtype.name != spec.dtype:
            raise invalid(
                f'Input "{name}" must be {spec.dtype}. Received: {tensor.dtype.name}'
            )
        if not tensor.shape.is_compatible_with(tf.TensorShape(spec.shape)):
            shape = [-1 if size is None else size for size in spec.shape or ()]
            raise invalid(
                f'Input "{name}" must have the shape {shape}, where -1 is open. '
                f"Received: {tensor.shape.as_list()}"
            )
    _check_rows(inputs, signature)


def _check_names(inputs: Mapping[str, tf.Tensor], signature: Signature) -> None:
    given, needed = set(inputs), set(signature.inputs)
    if needed != given:
        raise invalid(
            f"input size does not match signature: {len(given)}!={len(needed)}. "
            f"Sent extra: {{{','.join(sorted(given - needed))}}}. "
            f"Missing but required: {{{','.join(sorted(needed - given))}}}."
        )


def _check_rows(inputs: Mapping[str, tf.Tensor], signature: Signature) -> None:
    """Where all that goes in and comes out has rows, there must be as many of each."""
    specs = (*signature.inputs.values(), *signature.outputs.values())
    if any(spec.shape is None or spec.shape[:1] != (None,) for spec in specs):
        return
    rows = {name: tensor.shape[0] for name, tensor in inputs.items()}
    if len(set(rows.values())) > 1 or 0 in rows.values():
        raise invalid(
            "All inputs must have the same first dimension, at least 1. Received: "
            + ", ".join(f"{name}: {n}" for name, n in sorted(rows.items()))
        )


def output_names(signature: Signature, wanted: Sequence[str]) -> list[str]:
    """The outputs that a request wants; all, where it names none.

    Raises:
        ServingError: INVALID_ARGUMENT, names the output.
    """
    for i, name in enumerate(wanted):
        if name not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name} Outputs expected "
                f"to be in the set {{{','.join(sorted(signature.outputs))}}}."
            )
        if name in wanted[:i]:
            raise invalid(f"duplicate output tensor alias: {name}")
    return list(wanted) or sorted(signature.outputs)
