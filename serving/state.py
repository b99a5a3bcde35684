"""The state of a user: the tensors that travel, and bytes for a feature store.

A model's state has a dozen tensors or more. `encode_user` gives them packed, the
tensors of each dtype side by side in one, `state_<dtype>` `[batch, columns]`, and
`score_candidates` takes these: what a call costs beside its arithmetic is mostly a
matter of how many tensors it has. A `StateLayout` says where in them each tensor
stands, and turns a user's row into bytes of a fixed size:

    offset  size  content, little-endian
    0       8     b"CTRSTATE"
    8       4     uint32: version of this layout, 2
    12      8     uint64: fingerprint of the model that made the state
    20      4     uint32: bytes of the payload
    24      4     uint32: CRC-32 of the payload
    28      …     the row of each packed tensor, by name: the tensors of the layout in
                  their order, one after the other, raw

The fingerprint covers all that a state depends on: weights, vocabularies, schema, the
longest history, names, shapes and dtypes of the tensors. Two exports of one trained
model have the same; any other model refuses the state. It also travels with the tensors
as `state_version`, so that a served model refuses the tensors of another one, too.

Floating tensors are float32, or bfloat16 for half the size; masks are bool, times
int64.

This module needs neither TensorFlow nor Keras.
"""

import collections
import dataclasses
import functools
import hashlib
import math
import struct
import zlib
from collections.abc import Mapping, Sequence

import ml_dtypes
import numpy as np

from ctr_tf.errors import UserError

STATE = "state_"
STATE_VERSION = STATE + "version"
LAYOUT_VERSION = 2
_MAGIC = b"CTRSTATE"
_HEADER = struct.Struct("<8sIQII")


class StateMismatchError(UserError):
    """The state was made by another model or in another layout: encode it anew."""


@dataclasses.dataclass(frozen=True)
class StateTensor:
    """One tensor of the state, batch left out.

    Args:
        name: as the model calls it, or `state_<dtype>` of a packed one.
        dtype: as it travels, `"float32"`, `"bfloat16"`, `"int64"` or `"bool"`.
        shape: of one user's.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def numpy_dtype(self) -> np.dtype:
        """Little-endian, as it is stored."""
        if self.dtype == "bfloat16":
            return np.dtype(ml_dtypes.bfloat16)
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def size(self) -> int:
        """One user's values."""
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """Of one user's values."""
        return self.size * self.numpy_dtype.itemsize


@dataclasses.dataclass(frozen=True)
class StateLayout:
    """Which tensors the state of a model has, and their place in its bytes.

    Args:
        fingerprint: of the model, 16 hexadecimal digits.
        tensors: in the order of the payload, those of one dtype together.
        version: of the layout.
    """

    fingerprint: str
    tensors: tuple[StateTensor, ...]
    version: int = LAYOUT_VERSION

    @property
    def state_version(self) -> int:
        """The fingerprint as the value of the tensor `state_version`."""
        return int(self.fingerprint, 16)

    @functools.cached_property
    def packed(self) -> tuple[StateTensor, ...]:
        """What travels beside `state_version`: one tensor a dtype, by name."""
        sizes: collections.Counter[str] = collections.Counter()
        for tensor in self.tensors:
            sizes[tensor.dtype] += tensor.size
        return tuple(
            StateTensor(STATE + dtype, dtype, (size,)) for dtype, size in sizes.items()
        )

    @property
    def payload_bytes(self) -> int:
        """Bytes of one user's tensors."""
        return sum(tensor.num_bytes for tensor in self.packed)

    @property
    def num_bytes(self) -> int:
        """Bytes of one serialized state."""
        return _HEADER.size + self.payload_bytes

    def serialize(self, state: Mapping[str, np.ndarray], row: int = 0) -> bytes:
        """One user's state as bytes.

        Args:
            state: outputs of `encode_user`, as arrays.
            row: of the user in the batch.

        Raises:
            StateMismatchError: if another model made it.
            UserError: names the tensor that is missing or does not fit.
        """
        if STATE_VERSION in state:
            self._check_fingerprint(int(state[STATE_VERSION][row]), self.version)
        parts = []
        for tensor in self.packed:
            if tensor.name not in state:
                raise UserError(
                    f"The state lacks the tensor '{tensor.name}'. "
                    f"Received: {sorted(state)}"
                )
            value = np.asarray(state[tensor.name])
            shape, dtype = value.shape[1:], value.dtype.name
            if shape != tensor.shape or dtype != tensor.dtype:
                raise UserError(
                    f"`{tensor.name}` must be {tensor.dtype} of shape "
                    f"(batch, {tensor.size}). Received: {dtype} {value.shape}"
                )
            parts.append(value[row].astype(tensor.numpy_dtype, copy=False).tobytes())
        payload = b"".join(parts)
        return (
            _HEADER.pack(
                _MAGIC,
                self.version,
                self.state_version,
                len(payload),
                zlib.crc32(payload),
            )
            + payload
        )

    def deserialize(self, *serialized: bytes) -> dict[str, np.ndarray]:
        """States as the inputs of `score_candidates`, one user a row.

        Raises:
            StateMismatchError: names both models, or both layouts.
            UserError: if the bytes are no state, or not whole.
        """
        payloads = [self._payload(value) for value in serialized]
        rows = len(payloads)
        state = {STATE_VERSION: np.full(rows, self.state_version, np.int64)}
        offset = 0
        for tensor in self.packed:
            end = offset + tensor.num_bytes
            content = b"".join(payload[offset:end] for payload in payloads)
            value = np.frombuffer(content, tensor.numpy_dtype)
            state[tensor.name] = value.reshape(rows, tensor.size)
            offset = end
        return state

    def _payload(self, serialized: bytes) -> memoryview:
        if len(serialized) < _HEADER.size or serialized[: len(_MAGIC)] != _MAGIC:
            raise UserError(
                "These bytes are not the state of a user: they do not begin with "
                f"{_MAGIC!r}. Received: {len(serialized)} bytes that begin with "
                f"{bytes(serialized[: len(_MAGIC)])!r}"
            )
        _, version, fingerprint, size, checksum = _HEADER.unpack_from(serialized)
        self._check_fingerprint(fingerprint, version)
        payload = memoryview(serialized)[_HEADER.size :]
        if not len(payload) == size == self.payload_bytes:
            raise UserError(
                f"A state has {self.num_bytes} bytes. Received: {len(serialized)} bytes"
            )
        if zlib.crc32(payload) != checksum:
            raise UserError(
                "The state is damaged: its checksum does not fit. "
                f"Received: {len(serialized)} bytes"
            )
        return payload

    def _check_fingerprint(self, fingerprint: int, version: int) -> None:
        if (version, fingerprint) != (self.version, self.state_version):
            raise StateMismatchError(
                f"This is model {self.fingerprint} with state layout {self.version}; "
                "it does not take the state of another one: encode the user again. "
                f"Received: a state of model {fingerprint:016x} with layout {version}"
            )

    def to_json(self) -> dict:
        """For `from_json`."""
        return dataclasses.asdict(self) | {"bytes": self.num_bytes}

    @classmethod
    def from_json(cls, value: Mapping) -> "StateLayout":
        """Inverse of `to_json`."""
        tensors = tuple(
            StateTensor(tensor["name"], tensor["dtype"], tuple(tensor["shape"]))
            for tensor in value["tensors"]
        )
        return cls(value["fingerprint"], tensors, value["version"])


def make_layout(tensors: Sequence[StateTensor], digest: bytes) -> StateLayout:
    """A layout whose fingerprint is made of a digest and of the tensors themselves.

    Args:
        tensors: of the state, in any order.
        digest: of everything else that a state depends on.
    """
    tensors = tuple(sorted(tensors, key=lambda tensor: (tensor.dtype, tensor.name)))
    described = repr((LAYOUT_VERSION, tensors)).encode()
    # 63 bits, for the tensor is int64 and positive.
    number = int.from_bytes(hashlib.sha256(digest + described).digest()[:8]) >> 1
    return StateLayout(f"{number:016x}", tensors)
