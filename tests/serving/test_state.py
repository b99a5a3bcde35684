"""States as bytes: round trip, and what is refused."""

import json
import struct
import zlib

import ml_dtypes
import numpy as np
import pytest

from serving.state import StateLayout, StateMismatchError, StateTensor, make_layout

TENSORS = (
    StateTensor("state_key", "float32", (2, 3)),
    StateTensor("state_mask", "bool", (4,)),
    StateTensor("state_time", "int64", ()),
    StateTensor("state_value", "bfloat16", (5,)),
)
LAYOUT = make_layout(TENSORS, b"weights")


def make_state(rows=2):
    random = np.random.default_rng(0)
    return {
        "state_version": np.full(rows, LAYOUT.state_version),
        "state_key": random.normal(size=(rows, 2, 3)).astype(np.float32),
        "state_mask": random.random((rows, 4)) < 0.5,
        "state_time": random.integers(-(2**62), 2**62, rows),
        "state_value": random.normal(size=(rows, 5)).astype(ml_dtypes.bfloat16),
    }


def test_the_bytes_are_as_documented():
    state = make_state()
    content = LAYOUT.serialize(state, 1)
    payload = (
        state["state_key"][1].astype("<f4").tobytes()
        + bytes(int(value) for value in state["state_mask"][1])
        + struct.pack("<q", state["state_time"][1])
        + b"".join(
            struct.pack("<f", value)[2:] for value in state["state_value"][1].tolist()
        )
    )
    assert len(payload) == 24 + 4 + 8 + 10 == LAYOUT.payload_bytes
    assert content[28:] == payload and len(content) == LAYOUT.num_bytes
    fingerprint, checksum = int(LAYOUT.fingerprint, 16), zlib.crc32(payload)
    header = struct.pack("<IQII", 1, fingerprint, len(payload), checksum)
    assert content[:28] == b"CTRSTATE" + header


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
    later = StateLayout(LAYOUT.fingerprint, TENSORS, version=2)
    with pytest.raises(StateMismatchError, match="layout 2.* with layout 1"):
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
    with pytest.raises(ValueError, match="lacks the tensor 'state_mask'"):
        LAYOUT.serialize({"state_key": make_state()["state_key"]})
    for value in (np.zeros((2, 2, 2), np.float32), np.zeros((2, 2, 3))):
        with pytest.raises(ValueError, match="`state_key` must be float32 of shape"):
            LAYOUT.serialize(make_state() | {"state_key": value})
