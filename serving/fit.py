"""Whether what a client would send fits what a server says that it takes."""

from collections.abc import Sequence
from typing import Any

from ctr_tf.computed.declare import Computed
from ctr_tf.computed.slate import Place
from ctr_tf.errors import UserError
from ctr_tf.schema import Categorical, Feature, Numeric, Text
from ctr_tf.schema.nulls import NullValues
from serving.inputs import (
    BEHAVIOR_LENGTH,
    BEHAVIOR_TIME,
    CANDIDATE_LENGTH,
    REQUEST_TIME,
    SLATE_SIZE,
    Input,
)
from serving.specs import Signature, Spec

_GROUPS = ("user", "context", "behavior", "candidate")
_NO_FEATURE = (
    REQUEST_TIME,
    SLATE_SIZE,
    BEHAVIOR_LENGTH,
    BEHAVIOR_TIME,
    CANDIDATE_LENGTH,
)


class SignatureSchema:
    """What `serving.request` needs of a schema, read from a signature.

    A signature does not say what a value means, only its type: every feature is one
    that the caller must give. Nor does it say how the log spells a missing value.

    Args:
        signature: with user, history and candidates, such as `serving_default`.
    """

    time_unit = "time unit"
    history_may_tie = True  # it may; the server leaves out what it must not see
    horizon = None  # nor what is too old

    def __init__(self, signature: Signature):
        self._groups = {
            group: tuple(
                _feature(group, name, spec)
                for name, spec in sorted(signature.inputs.items())
                if name.startswith(f"{group}_") and not _is_length(name, signature)
            )
            for group in _GROUPS
        }

        has_size = SLATE_SIZE in signature.inputs
        self.computed = Computed((), _places(self._groups["candidate"]), has_size)

    def groups(self) -> dict[str, tuple[Feature, ...]]:
        """Group → its features."""
        return self._groups

    def nulls_of(self, feature: Feature) -> NullValues:
        """None beside what is missing in every log."""
        return ()


def _places(candidate: tuple[Feature, ...]) -> tuple[Place, ...]:
    """Places within the slate, which follow from features of the candidates."""
    names = {feature.name for feature in candidate}
    places = (Place(name) for name in sorted(names))
    return tuple(p for p in places if names.issuperset(f.name for f in p.features))


def _is_length(name: str, signature: Signature) -> bool:
    owner = name.removesuffix("_length")
    return name in _NO_FEATURE or (owner != name and owner in signature.inputs)


def _feature(group: str, name: str, spec: Spec) -> Feature:
    if spec.shape is not None and len(spec.shape) == 3 and spec.shape[2] is None:
        return Text(name.removeprefix(f"{group}_"), "item")
    kind = Numeric if spec.dtype == "float32" else Categorical
    axis = 1 if group in ("user", "context") else 2
    shape = spec.shape or ()
    length: Any = shape[axis] if len(shape) > axis else 1
    return kind(name.removeprefix(f"{group}_"), group, spec.dtype, length)


def check_signature(inputs: Sequence[Input], signature: Signature) -> None:
    """Checks that a server takes these inputs, and no others.

    Raises:
        UserError: names the first input in which the two differ.
    """
    expected = {i.name: i for i in inputs}
    for name in sorted(expected.keys() | signature.inputs.keys()):
        if name not in signature.inputs:
            raise UserError(
                f"The server's model does not take `{name}`. "
                f"Received: {', '.join(sorted(signature.inputs))}"
            )
        received = signature.inputs[name]
        if name not in expected:
            raise UserError(
                f"The server's model needs `{name}`, which the schema does not have. "
                f"Received: {received}"
            )
        wanted = Spec(expected[name].dtype, expected[name].shape)
        if received != wanted:
            raise UserError(
                f"`{name}` must be {wanted} for the server's model. "
                f"Received: {received}"
            )
