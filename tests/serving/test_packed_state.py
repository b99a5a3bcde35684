"""Tensors of a state side by side, and taken apart again."""

import ml_dtypes
import numpy as np
import tensorflow as tf

from serving.packed_state import pack, unpack
from serving.state import StateTensor, make_layout

LAYOUT = make_layout(
    [
        StateTensor("mask", "bool", (2, 2)),
        StateTensor("time", "int64", ()),
        StateTensor("key", "bfloat16", (2, 3)),
        StateTensor("codes", "int64", (4,)),
        StateTensor("user", "bfloat16", (1,)),
    ],
    b"",
)


def test_columns_are_those_of_the_layout():
    random = np.random.default_rng(0)
    state = {
        "mask": random.random((3, 2, 2)) < 0.5,
        "time": random.integers(0, 2**62, 3),
        "key": random.integers(-8, 8, (3, 2, 3)).astype(np.float32),
        "codes": random.integers(0, 2**62, (3, 4)),
        "user": random.integers(-8, 8, (3, 1)).astype(np.float16),
    }
    tensors = {key: tf.constant(value) for key, value in state.items()}
    packed = pack(tensors, LAYOUT)
    expected = {
        "state_bfloat16": [state["key"].reshape(3, 6), state["user"]],
        "state_bool": [state["mask"].reshape(3, 4)],
        "state_int64": [state["codes"], state["time"][:, None]],
    }
    assert packed.keys() == expected.keys() == {t.name for t in LAYOUT.packed}
    for name, columns in expected.items():
        columns = np.concatenate(columns, axis=1)
        if name == "state_bfloat16":
            columns = columns.astype(ml_dtypes.bfloat16)
        assert packed[name].numpy().dtype == columns.dtype
        np.testing.assert_array_equal(packed[name], columns)
    specs = {key: tf.TensorSpec(None, value.dtype) for key, value in tensors.items()}
    for key, value in unpack(packed, LAYOUT, specs).items():
        assert value.dtype == tensors[key].dtype
        np.testing.assert_array_equal(value, state[key])
