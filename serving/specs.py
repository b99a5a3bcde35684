"""A model's signatures as its SavedModel, and whoever serves it, describes them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from serving.dtypes import NAMES


@dataclasses.dataclass(frozen=True)
class Spec:
    """A tensor of a signature.

    Args:
        dtype: as TensorFlow names it, such as `"int64"`.
        shape: axes, `None` where open; None instead where even the rank is.
    """

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True)
class Signature:
    """A signature: name → spec, both ways."""

    inputs: dict[str, Spec]
    outputs: dict[str, Spec]


def read_signatures(definitions: Mapping[str, Any]) -> dict[str, Signature]:
    """Name → signature, of messages `SignatureDef`."""
    return {
        name: Signature(
            {key: _spec(info) for key, info in sorted(definition.inputs.items())},
            {key: _spec(info) for key, info in sorted(definition.outputs.items())},
        )
        for name, definition in definitions.items()
        if not name.startswith("__")  # SavedModel's own, such as its init op
    }


def _spec(info: Any) -> Spec:
    shape = None
    if not info.tensor_shape.unknown_rank:
        sizes = (dim.size for dim in info.tensor_shape.dim)
        shape = tuple(None if size < 0 else size for size in sizes)
    return Spec(NAMES.get(info.dtype, f"type {info.dtype}"), shape)
