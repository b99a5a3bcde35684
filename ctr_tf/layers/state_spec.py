"""The state of a user, declared: names, shapes, and which axes grow with the history.

A state is a nested dict or list of tensors, batch first. Its declaration has the same
structure, with a `StateSpec` in the place of each tensor.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from keras import tree

Axis = int | Callable[[int], int]
FLOAT = "float"


@dataclasses.dataclass(frozen=True)
class StateSpec:
    """A tensor of the state.

    Args:
        shape: batch left out; an axis that grows with the history is a function of the
            history's length. What grows has the newest last, and is padded on the left.
        dtype: `FLOAT` for the model's compute dtype, or a dtype's name.
    """

    shape: tuple[Axis, ...]
    dtype: str = FLOAT

    def at(self, history_length: int) -> tuple[int, ...]:
        """The shape for histories of a length."""
        return tuple(
            axis(history_length) if callable(axis) else axis for axis in self.shape
        )

    @property
    def grows(self) -> tuple[int, ...]:
        """The axes that grow, batch left out."""
        return tuple(i for i, axis in enumerate(self.shape) if callable(axis))


def history(length: int) -> int:
    """The axis of the behaviors."""
    return length


def flatten(state: Any) -> dict[str, Any]:
    """A state's, or a declaration's, leaves by their paths, such as `blocks/0/key`."""
    return {
        "/".join(map(str, path)): leaf for path, leaf in tree.flatten_with_path(state)
    }


def unflatten(leaves: dict[str, Any], like: Any) -> Any:
    """Inverse of `flatten`, in the structure of a declaration."""
    paths = flatten(like)
    return tree.pack_sequence_as(like, [leaves[path] for path in paths])
