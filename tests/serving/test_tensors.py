"""Tensors in messages and in JSON, held against TensorFlow's reading and writing."""

import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow.core.framework.tensor_pb2 import TensorProto

from serving.errors import ServingError
from serving.json_tensors import from_json, to_json
from serving.received_tensors import from_proto
from serving.tensors import MAX_BYTES, to_array, to_proto

DTYPES = [
    tf.float32,
    tf.float64,
    tf.float16,
    tf.bfloat16,
    tf.int8,
    tf.int16,
    tf.int32,
    tf.int64,
    tf.uint8,
    tf.uint16,
    tf.uint32,
    tf.uint64,
    tf.bool,
]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def values(dtype):
    if dtype == tf.bfloat16:
        halves = arrays.arrays(np.float16, SHAPES)
        return halves.map(lambda array: array.astype(tf.bfloat16.as_numpy_dtype))
    return arrays.arrays(dtype.as_numpy_dtype, SHAPES)


def assert_equal(found, expected):
    if expected.dtype == tf.bfloat16.as_numpy_dtype:  # whose NaN NumPy does not know
        found, expected = found.astype(np.float32), expected.astype(np.float32)
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(DTYPES).flatmap(values), st.booleans())
def test_numbers(array, typed):
    proto = TensorProto()
    to_proto(array, proto, typed)
    assert not (typed and proto.tensor_content)
    assert_equal(tf.make_ndarray(proto), array)
    assert_equal(to_array(proto), array)
    for received in (proto, tf.make_tensor_proto(array, shape=array.shape)):
        found = from_proto("x", received).numpy()
        assert found.dtype == array.dtype and found.shape == array.shape
        assert_equal(found, array)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(DTYPES).flatmap(values))
def test_numbers_in_json(array):
    dtype = tf.as_dtype(array.dtype).name
    found = from_json("x", json.loads(json.dumps(to_json("x", array))), dtype)
    assert found.dtype == array.dtype
    if array.size:  # a list of no lists does not tell how long these would be
        assert_equal(found, array)


@settings(max_examples=50, deadline=None)
@given(arrays.arrays(object, SHAPES, elements=st.binary(max_size=30)))
def test_strings(array):
    proto = TensorProto()
    to_proto(array, proto)
    found = from_proto("x", proto).numpy()
    found = np.array(found, object)  # of one string it is the string itself
    assert found.shape == array.shape and found.tolist() == array.tolist()
    assert tf.make_ndarray(proto).tolist() == array.tolist()
    for name in ("x", "x_bytes"):
        found = from_json(name, json.loads(json.dumps(to_json(name, array))), "string")
        assert found.ravel().tolist() == array.ravel().tolist()


def test_floats_in_json_are_as_short_as_they_can_be():
    array = np.array([0.1, 1e-7, np.nan, np.inf], np.float32)
    assert json.dumps(to_json("x", array)) == "[0.1, 1e-07, NaN, Infinity]"


@pytest.mark.parametrize("dtype", ["DT_INT64", "DT_FLOAT", "DT_STRING", "DT_HALF"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_values_are_filled_up_as_tensorflow_does(dtype, count):
    field, some = {
        "DT_INT64": ("int64_val", [5, 6, 7]),
        "DT_FLOAT": ("float_val", [5.5, 6, 7]),
        "DT_STRING": ("string_val", [b"a", b"b", b"c"]),
        "DT_HALF": ("half_val", [15360, 16384, 16896]),
    }[dtype]
    proto = TensorProto(dtype=dtype)
    getattr(proto, field).extend(some[:count])
    for size in (2, 3):
        proto.tensor_shape.dim.add().size = size
    expected = tf.io.parse_tensor(
        proto.SerializeToString(), tf.as_dtype(proto.dtype)
    ).numpy()
    assert from_proto("x", proto).numpy().tolist() == expected.tolist()


def test_what_a_tensor_may_not_be():
    proto = TensorProto(dtype="DT_INT64")
    proto.tensor_shape.dim.add().size = MAX_BYTES // 8 + 1
    words = '"x" of shape .2097153. would take 16,777,224 bytes'
    with pytest.raises(ServingError, match=words):
        from_proto("x", proto)
    proto = TensorProto(dtype="DT_STRING", tensor_content=b"a")
    with pytest.raises(ServingError, match="must hold its strings in string_val"):
        from_proto("x", proto)
    proto = TensorProto(dtype="DT_COMPLEX64")
    with pytest.raises(ServingError, match="not served. Received: complex64"):
        from_proto("x", proto)
