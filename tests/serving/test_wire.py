"""The messages of a client, held against those of TensorFlow's own packages."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.descriptor import FieldDescriptor
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)

from serving import dtypes, wire
from serving.tensors import to_array, to_proto

THEIRS = {
    "Dim": tensor_shape_pb2.TensorShapeProto.Dim,
    "TensorShapeProto": tensor_shape_pb2.TensorShapeProto,
    "TensorProto": tensor_pb2.TensorProto,
    "TensorInfo": meta_graph_pb2.TensorInfo,
    "SignatureDef": meta_graph_pb2.SignatureDef,
    "SignatureDefMap": get_model_metadata_pb2.SignatureDefMap,
    "ModelSpec": model_pb2.ModelSpec,
    "PredictRequest": predict_pb2.PredictRequest,
    "PredictResponse": predict_pb2.PredictResponse,
    "GetModelMetadataRequest": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelMetadataResponse": get_model_metadata_pb2.GetModelMetadataResponse,
    "GetModelStatusRequest": get_model_status_pb2.GetModelStatusRequest,
    "ModelVersionStatus": get_model_status_pb2.ModelVersionStatus,
    "GetModelStatusResponse": get_model_status_pb2.GetModelStatusResponse,
}


def kind(field):
    """What a field is on the wire; of a message, its name without the package."""
    name = field.message_type.name if field.message_type else None
    packed = field.label == FieldDescriptor.LABEL_REPEATED
    return field.number, field.type, packed, name


@pytest.mark.parametrize("name", wire.MESSAGES)
def test_fields_are_theirs(name):
    theirs = THEIRS[name].DESCRIPTOR.fields_by_name
    ours = wire._CLASSES[name].DESCRIPTOR.fields
    assert {f.name: kind(f) for f in ours} == {
        f.name: kind(theirs[f.name]) for f in ours
    }


def test_names_and_numbers_of_types_and_states_are_theirs():
    for name, number in wire.TYPES.items():
        assert types_pb2.DataType.Value(name) == number
    for name, number in dtypes.NUMBERS.items():
        theirs = tf.as_dtype(number)
        assert theirs.name == name
        assert (
            theirs.as_numpy_dtype == dtypes.numpy_dtype(name).type or name == "string"
        )
    states = get_model_status_pb2.ModelVersionStatus.State
    assert wire.STATES == dict(states.items())
    assert wire.state_name(30) == "AVAILABLE" and wire.state_name(31) == "31"


def test_a_request_is_read_as_it_was_meant():
    request = wire.PredictRequest()
    request.model_spec.name, request.model_spec.version.value = "ctr", 7
    arrays = {
        "a": np.arange(6, dtype=np.int64).reshape(2, 3),
        "b": np.array([["x", "é"]], object),
        "c": np.zeros((0, 2), np.float32),
    }
    for name, array in arrays.items():
        to_proto(array, request.inputs[name])
    read = predict_pb2.PredictRequest.FromString(request.SerializeToString())
    assert read.model_spec.name == "ctr" and read.model_spec.version.value == 7
    for name, array in arrays.items():
        expected = np.char.encode(array.astype(str), "utf-8") if name == "b" else array
        found = tf.make_ndarray(read.inputs[name])
        np.testing.assert_array_equal(found, expected.astype(found.dtype))


def test_too_few_values_repeat_the_last():
    for values in ([], [3.5], [1.0, 2.0]):
        proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=values)
        proto.tensor_shape.dim.add(size=2)
        proto.tensor_shape.dim.add(size=2)
        ours = wire.TensorProto.FromString(proto.SerializeToString())
        np.testing.assert_array_equal(to_array(ours), tf.make_ndarray(proto))


def test_a_client_loads_without_tensorflow():
    program = (
        "import sys\n"
        "import serving.client\n"
        "heavy = {'tensorflow', 'keras', 'pandas', 'scipy', 'apache_beam'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
