"""States as bytes: round trip, and what is refused."""

import json
import struct
import zlib

import ml_dtypes
import numpy as np
import pytest

from serving.state import StateLayout, StateMismatchError, StateTensor, make_layout

TENSORS = (
    StateTensor("key", "float32", (2, 3)),
    StateTensor("mask", "bool", (4,)),
    StateTensor("time", "int64", ()),
    StateTensor("user", "float32", (2,)),
    StateTensor("value", "bfloat16", (5,)),
)
LAYOUT = make_layout(TENSORS, b"weights")


def make_state(rows=2):
    random = np.random.default_rng(0)
    return {
        "state_version": np.full(rows, LAYOUT.state_version),
        "state_bfloat16": random.normal(size=(rows, 5)).astype(ml_dtypes.bfloat16),
        "state_bool": random.random((rows, 4)) < 0.5,
        "state_float32": random.normal(size=(rows, 8)).astype(np.float32),
        "state_int64": random.integers(-(2**62), 2**62, (rows, 1)),
    }


def test_the_bytes_are_as_documented():
    state = make_state()
    content = LAYOUT.serialize(state, 1)
    payload = (
        b"".join(
            struct.pack("<f", value)[2:]
            for value in state["state_bfloat16"][1].tolist()
        )
        + bytes(int(value) for value in state["state_bool"][1])
        + state["state_float32"][1].astype("<f4").tobytes()
        + struct.pack("<q", state["state_int64"][1, 0])
    )
    assert len(payload) == 10 + 4 + 32 + 8 == LAYOUT.payload_bytes
    assert content[28:] == payload and len(content) == LAYOUT.num_bytes
    fingerprint, checksum = int(LAYOUT.fingerprint, 16), zlib.crc32(payload)
    header = struct.pack("<IQII", 2, fingerprint, len(payload), checksum)
    assert content[:28] == b"CTRSTATE" + header


def test_tensors_of_a_dtype_stand_side_by_side_by_name():
    assert make_layout(TENSORS[::-1], b"weights") == LAYOUT
    order = ["value", "mask", "key", "user", "time"]
    assert [tensor.name for tensor in LAYOUT.tensors] == order
    assert [(t.name, t.shape) for t in LAYOUT.packed] == [
        ("state_bfloat16", (5,)),
        ("state_bool", (4,)),
        ("state_float32", (8,)),
        ("state_int64", (1,)),
    ]


def test_what_is_written_is_read():
    state = make_state(rows=3)
    content = [LAYOUT.serialize(state, row) for row in range(3)]
    read = LAYOUT.deserialize(*content)
    assert read.keys() == state.keys()
    for name, value in state.items():
        assert read[name].dtype == value.dtype and read[name].shape == value.shape
        np.testing.assert_array_equal(read[name], value)


def test_a_layout_survives_json():
    text = json.dumps(LAYOUT.to_json())
    assert StateLayout.from_json(json.loads(text)) == LAYOUT
    assert json.loads(text)["bytes"] == LAYOUT.num_bytes


def test_the_fingerprint_tells_models_and_layouts_apart():
    assert make_layout(TENSORS, b"weights") == LAYOUT
    others = [make_layout(TENSORS, b"others"), make_layout(TENSORS[:-1], b"weights")]
    assert len({LAYOUT.fingerprint, *(other.fingerprint for other in others)}) == 3
    assert 0 <= LAYOUT.state_version < 2**63


def test_the_state_of_another_model_is_refused():
    other = make_layout(TENSORS, b"others")
    content = LAYOUT.serialize(make_state())
    with pytest.raises(StateMismatchError) as error:
        other.deserialize(content)
    assert LAYOUT.fingerprint in str(error.value)
    assert other.fingerprint in str(error.value)
    with pytest.raises(StateMismatchError, match="encode the user again"):
        other.serialize(make_state())


def test_another_layout_is_refused():
    later = StateLayout(LAYOUT.fingerprint, LAYOUT.tensors, version=3)
    with pytest.raises(StateMismatchError, match="layout 3.* with layout 2"):
        later.deserialize(LAYOUT.serialize(make_state()))


def test_damaged_bytes_are_refused():
    content = LAYOUT.serialize(make_state())
    for bad in (b"", b"CTRSTATE", b"x" * len(content)):
        with pytest.raises(ValueError, match="not the state of a user"):
            LAYOUT.deserialize(bad)
    for bad in (content[:-1], content + b"\0"):
        with pytest.raises(ValueError, match=f"A state has {len(content)} bytes. Rec"):
            LAYOUT.deserialize(bad)
    flipped = bytearray(content)
    flipped[40] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        LAYOUT.deserialize(bytes(flipped))


def test_tensors_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="lacks the tensor 'state_bool'"):
        LAYOUT.serialize({"state_bfloat16": make_state()["state_bfloat16"]})
    for value in (np.zeros((2, 7), np.float32), np.zeros((2, 8))):
        with pytest.raises(ValueError, match=r"`state_float32` must be .*\(batch, 8\)"):
            LAYOUT.serialize(make_state() | {"state_float32": value})
