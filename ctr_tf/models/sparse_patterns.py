"""The self-attentions that SparseCTR can have: one pattern each.

A pattern says which keys there are, and makes the two layers that belong together: the
one that finds the keys and relates them (the plan), and the attention of a block. It
also declares what of them is part of the user's state. `PATTERNS` has them by name.

Shapes: `P` chunks or blocks, `W` window, `D` model width.
"""

import dataclasses
from typing import Any, ClassVar, Self

import keras

from ctr_tf.layers.dilated_attention import DilatedAttention
from ctr_tf.layers.dilated_keys import DilatedKeys, count_keys
from ctr_tf.layers.evo_attention import EvoAttention
from ctr_tf.layers.evo_keys import EvoKeys
from ctr_tf.layers.full_attention import FullAttention
from ctr_tf.layers.full_keys import FullKeys
from ctr_tf.layers.kernel_attention import KernelAttention
from ctr_tf.layers.kernel_keys import KernelKeys
from ctr_tf.layers.native_sparse_attention import NativeSparseAttention
from ctr_tf.layers.native_sparse_keys import NativeSparseKeys
from ctr_tf.layers.relative_encoding import RelativeEncoding
from ctr_tf.layers.state_spec import Axis, StateSpec, history


@dataclasses.dataclass(frozen=True)
class Pattern:
    """Base of the patterns.

    Args:
        num_heads: H.
        dim: D.
        zone: of local time; see `ctr_tf.time.local_time`.
        history_length: the longest.

    Class attribute: `encodes`, False where relative encodings have no effect.
    """

    encodes: ClassVar[bool] = True
    num_heads: int
    dim: int
    zone: int | str
    history_length: int

    @property
    def sees_user(self) -> bool:
        """Whether behaviors and candidates attend to the user, too."""
        return False

    @classmethod
    def of(cls, config: Any, schema: Any) -> Self:
        """The pattern of a `SparseCTRConfig`, for the data of a schema.

        Subclasses take from both what they need, by the names of their fields.
        """
        length = schema.history_length
        known = {
            "num_heads": config.num_heads,
            "dim": config.dim,
            "zone": schema.zone,
            "history_length": length,
            "num_chunks": config.num_chunks_for(length),
            "transition": config.transition,
            "window": config.window,
            "branches": config.branches,
        }
        return cls(
            **{field.name: known[field.name] for field in dataclasses.fields(cls)}
        )

    def keys(self, relations: tuple[str, ...]) -> keras.layers.Layer:
        """The layer that finds the keys, which all blocks share.

        Args:
            relations: those that the blocks' encoding takes.
        """
        raise NotImplementedError(f"{type(self).__name__} lacks `keys`.")

    def attention(self, encoding: RelativeEncoding, dtype: Any) -> keras.layers.Layer:
        """The attention of one block.

        Args:
            encoding: of relative times and positions, the block's own.
            dtype: precision policy.
        """
        raise NotImplementedError(f"{type(self).__name__} lacks `attention`.")

    def keys_spec(self, relations: tuple[str, ...]) -> dict[str, StateSpec]:
        """What the keys keep of a user, declared."""
        return {}

    def block_spec(self) -> dict[str, StateSpec]:
        """What each block keeps of a user, declared."""
        raise NotImplementedError(f"{type(self).__name__} lacks `block_spec`.")

    def _rows(self, *axes: tuple[str, Axis]) -> dict[str, StateSpec]:
        """Keys and values of these prefixes and numbers."""
        return {
            f"{prefix}{kind}": StateSpec((axis, self.dim))
            for prefix, axis in axes
            for kind in ("key", "value")
        }


@dataclasses.dataclass(frozen=True)
class EvoPattern(Pattern):
    """Pooled chunks, transitions and a window: SparseCTR's own; see `EvoAttention`.

    Args:
        num_chunks: P.
        transition: m.
        window: w.
        branches: of `BRANCHES`.
    """

    num_chunks: int
    transition: int
    window: int
    branches: tuple[str, ...]

    @property
    def sees_user(self) -> bool:
        """Whether behaviors and candidates attend to the user, too."""
        return "local" in self.branches

    def keys(self, relations: tuple[str, ...]) -> EvoKeys:
        """See `EvoKeys`."""
        return EvoKeys(
            self.num_chunks,
            self.transition,
            self.window,
            self.branches,
            relations,
            self.zone,
            name="keys",
        )

    def attention(self, encoding: RelativeEncoding, dtype: Any) -> EvoAttention:
        """See `EvoAttention`."""
        return EvoAttention(
            self.num_heads,
            self.window,
            self.branches,
            encoding,
            dtype=dtype,
            name="attention",
        )

    def _sizes(self) -> dict[str, int]:
        """Behaviors among the keys of each branch."""
        chunks, window = self.num_chunks, self.window
        sizes = {"global": chunks, "transition": self.transition * chunks}
        return {b: (sizes | {"local": window})[b] for b in self.branches}

    def keys_spec(self, relations: tuple[str, ...]) -> dict[str, StateSpec]:
        """Times and masks of each branch, and positions where relations need them."""
        spec = {}
        for branch, size in self._sizes().items():
            spec[f"{branch}_time"] = StateSpec((size,), "int64")
            spec[f"{branch}_mask"] = StateSpec((size,), "bool")
            if "distance" in relations and branch != "local":
                spec[f"{branch}_position"] = StateSpec((size,), "int64")
        return spec

    def block_spec(self) -> dict[str, StateSpec]:
        """Keys and values of each branch; the user last among local ones."""
        sizes = self._sizes()
        if "local" in sizes:
            sizes["local"] += 1
        return self._rows(*((f"{branch}_", size) for branch, size in sizes.items()))


@dataclasses.dataclass(frozen=True)
class FullPattern(Pattern):
    """Every behavior (variant A1); see `FullAttention`."""

    def keys(self, relations: tuple[str, ...]) -> FullKeys:
        """See `FullKeys`."""
        return FullKeys(relations, self.zone, name="keys")

    def attention(self, encoding: RelativeEncoding, dtype: Any) -> FullAttention:
        """See `FullAttention`."""
        return FullAttention(self.num_heads, encoding, dtype=dtype, name="attention")

    def keys_spec(self, relations: tuple[str, ...]) -> dict[str, StateSpec]:
        """Time and mask of all behaviors."""
        return _times(history)

    def block_spec(self) -> dict[str, StateSpec]:
        """Key and value of all behaviors."""
        return self._rows(("", history))


@dataclasses.dataclass(frozen=True)
class DilatedPattern(Pattern):
    """A window, and every r-th behavior before it; see `DilatedAttention`.

    Args:
        num_chunks: P.
        transition: m; there are about m P keys before the window.
        window: w.
    """

    num_chunks: int
    transition: int
    window: int

    @property
    def dilation(self) -> int:
        """The r for as many keys as `EvoPattern` has transition ones."""
        return max(1, self.history_length // (self.transition * self.num_chunks))

    def keys(self, relations: tuple[str, ...]) -> DilatedKeys:
        """See `DilatedKeys`."""
        window, zone = self.window, self.zone
        return DilatedKeys(window, self.dilation, relations, zone, name="keys")

    def attention(self, encoding: RelativeEncoding, dtype: Any) -> DilatedAttention:
        """See `DilatedAttention`."""
        return DilatedAttention(
            self.num_heads,
            self.window,
            self.dilation,
            encoding,
            dtype=dtype,
            name="attention",
        )

    def _count(self, history_length: int) -> int:
        """Keys of a candidate."""
        return count_keys(history_length, self.window, self.dilation)

    def keys_spec(self, relations: tuple[str, ...]) -> dict[str, StateSpec]:
        """Times and masks of a candidate's keys."""
        return _times(self._count)

    def block_spec(self) -> dict[str, StateSpec]:
        """A candidate's keys and values."""
        return self._rows(("", self._count))


@dataclasses.dataclass(frozen=True)
class NativeSparsePattern(Pattern):
    """Blocks compressed and selected, and a window; see `NativeSparseAttention`.

    Args:
        num_chunks: behaviors of a block.
        transition: blocks that are selected.
        window: w.
    """

    num_chunks: int
    transition: int
    window: int

    def keys(self, relations: tuple[str, ...]) -> NativeSparseKeys:
        """See `NativeSparseKeys`."""
        length, window = self.num_chunks, self.window
        return NativeSparseKeys(length, window, relations, self.zone, name="keys")

    def attention(
        self, encoding: RelativeEncoding, dtype: Any
    ) -> NativeSparseAttention:
        """See `NativeSparseAttention`."""
        return NativeSparseAttention(
            self.num_heads,
            self.num_chunks,
            self.transition,
            self.window,
            encoding,
            self.zone,
            dtype=dtype,
            name="attention",
        )

    def _blocks(self, history_length: int) -> int:
        return -(-history_length // self.num_chunks)

    def keys_spec(self, relations: tuple[str, ...]) -> dict[str, StateSpec]:
        """Time and mask of all behaviors."""
        return _times(history)

    def block_spec(self) -> dict[str, StateSpec]:
        """Keys and values of blocks, behaviors and window."""
        return self._rows(
            ("compressed_", self._blocks),
            ("selected_", history),
            ("local_", self.window),
        )


@dataclasses.dataclass(frozen=True)
class KernelPattern(Pattern):
    """Mixtures of all behaviors, without relative encoding; see `KernelAttention`.

    Args:
        num_chunks: how many mixtures.
    """

    encodes = False
    num_chunks: int

    def keys(self, relations: tuple[str, ...]) -> KernelKeys:
        """See `KernelKeys`."""
        return KernelKeys(name="keys")

    def attention(self, encoding: RelativeEncoding, dtype: Any) -> KernelAttention:
        """See `KernelAttention`; it has no use for an encoding."""
        return KernelAttention(
            self.num_heads,
            self.num_chunks,
            self.history_length,
            dtype=dtype,
            name="attention",
        )

    def block_spec(self) -> dict[str, StateSpec]:
        """The mixtures."""
        return self._rows(("", self.num_chunks))


PATTERNS: dict[str, type[Pattern]] = {
    "evo": EvoPattern,
    "full": FullPattern,
    "dilated": DilatedPattern,
    "nsa": NativeSparsePattern,
    "kernel": KernelPattern,
}


def _times(axis: Axis) -> dict[str, StateSpec]:
    return {"time": StateSpec((axis,), "int64"), "mask": StateSpec((axis,), "bool")}
