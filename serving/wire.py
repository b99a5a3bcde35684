"""TF Serving's API as a client needs it, without TensorFlow.

The messages are declared as TensorFlow's and TF Serving's public .proto files declare
them; fields that no client of ours reads are left out, which on the wire is allowed.
"""

from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf import wrappers_pb2 as wrappers

from serving.declared import FIELD, declare
from serving.dtypes import IN_MESSAGES, NUMBERS

_PACKAGE = "tensorflow.serving"
_TYPE = f"=.{_PACKAGE}.DataType"
_STATE = f"=.{_PACKAGE}.State"


def _of(name: str) -> str:
    return f".{_PACKAGE}.{name}"


MESSAGES = {
    "Dim": {"size": (1, FIELD.TYPE_INT64), "name": (2, FIELD.TYPE_STRING)},
    "TensorShapeProto": {
        "dim": (2, [_of("Dim")]),
        "unknown_rank": (3, FIELD.TYPE_BOOL),
    },
    "TensorProto": {
        "dtype": (1, _TYPE),
        "tensor_shape": (2, _of("TensorShapeProto")),
        "tensor_content": (4, FIELD.TYPE_BYTES),
        "half_val": (13, [FIELD.TYPE_INT32]),
        "float_val": (5, [FIELD.TYPE_FLOAT]),
        "double_val": (6, [FIELD.TYPE_DOUBLE]),
        "int_val": (7, [FIELD.TYPE_INT32]),
        "string_val": (8, [FIELD.TYPE_BYTES]),
        "int64_val": (10, [FIELD.TYPE_INT64]),
        "bool_val": (11, [FIELD.TYPE_BOOL]),
        "uint32_val": (16, [FIELD.TYPE_UINT32]),
        "uint64_val": (17, [FIELD.TYPE_UINT64]),
    },
    "TensorInfo": {
        "name": (1, FIELD.TYPE_STRING),
        "dtype": (2, _TYPE),
        "tensor_shape": (3, _of("TensorShapeProto")),
    },
    "SignatureDef": {
        "inputs": (1, {"": _of("TensorInfo")}),
        "outputs": (2, {"": _of("TensorInfo")}),
        "method_name": (3, FIELD.TYPE_STRING),
    },
    "SignatureDefMap": {"signature_def": (1, {"": _of("SignatureDef")})},
    "ModelSpec": {
        "name": (1, FIELD.TYPE_STRING),
        "version": (2, f".{wrappers.Int64Value.DESCRIPTOR.full_name}"),
        "signature_name": (3, FIELD.TYPE_STRING),
    },
    "PredictRequest": {
        "model_spec": (1, _of("ModelSpec")),
        "inputs": (2, {"": _of("TensorProto")}),
    },
    "PredictResponse": {
        "outputs": (1, {"": _of("TensorProto")}),
        "model_spec": (2, _of("ModelSpec")),
    },
    "GetModelMetadataRequest": {
        "model_spec": (1, _of("ModelSpec")),
        "metadata_field": (2, [FIELD.TYPE_STRING]),
    },
    "GetModelMetadataResponse": {
        "model_spec": (1, _of("ModelSpec")),
        "metadata": (2, {"": f".{any_pb2.Any.DESCRIPTOR.full_name}"}),
    },
    "GetModelStatusRequest": {"model_spec": (1, _of("ModelSpec"))},
    "ModelVersionStatus": {
        "version": (1, FIELD.TYPE_INT64),
        "state": (2, _STATE),
    },
    "GetModelStatusResponse": {
        "model_version_status": (1, [_of("ModelVersionStatus")]),
    },
}
STATES = {
    "UNKNOWN": 0,
    "START": 10,
    "LOADING": 20,
    "AVAILABLE": 30,
    "UNLOADING": 40,
    "END": 50,
}
TYPES = {
    "DT_INVALID": 0,
    **{f"DT_{IN_MESSAGES.get(n, n.upper())}": number for n, number in NUMBERS.items()},
}
_CLASSES: dict[str, Any] = declare(
    "ctr_tf/serving_api.proto",
    _PACKAGE,
    MESSAGES,
    {"DataType": TYPES, "State": STATES},
    (wrappers, any_pb2),
)
TensorProto = _CLASSES["TensorProto"]
SignatureDefMap = _CLASSES["SignatureDefMap"]
PredictRequest = _CLASSES["PredictRequest"]
PredictResponse = _CLASSES["PredictResponse"]
GetModelMetadataRequest = _CLASSES["GetModelMetadataRequest"]
GetModelStatusRequest = _CLASSES["GetModelStatusRequest"]


class Stub:
    """The calls of TF Serving's services that a client makes.

    Args:
        channel: to the server.
    """

    def __init__(self, channel: grpc.Channel):
        def method(service: str, name: str) -> grpc.UnaryUnaryMultiCallable:
            return channel.unary_unary(
                f"/{_PACKAGE}.{service}/{name}",
                request_serializer=_CLASSES[f"{name}Request"].SerializeToString,
                response_deserializer=_CLASSES[f"{name}Response"].FromString,
            )

        self.predict = method("PredictionService", "Predict")
        self.metadata = method("PredictionService", "GetModelMetadata")
        self.status = method("ModelService", "GetModelStatus")


def state_name(number: int) -> str:
    """The name of a version's state, such as `"AVAILABLE"`."""
    return next((n for n, value in STATES.items() if value == number), str(number))
