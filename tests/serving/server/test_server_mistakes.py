"""What a client gets for a wrong request: which status, and in which words."""

import grpc
import numpy as np
import pytest
from live_server import assert_close, predict_request, rows
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from ctr_tf.data.writing import serialize

CODE = grpc.StatusCode


def _set(name, field, value):
    def change(request):
        tensor = request.inputs[name]
        for old in ("int64_val", "float_val", "string_val", "tensor_content"):
            tensor.ClearField(old)
        if isinstance(value, list):
            getattr(tensor, field).extend(value)
        else:
            setattr(tensor, field, value)

    return change


def _dtype(request):
    tensor = request.inputs["candidate_item_id"]
    tensor.dtype = types_pb2.DT_FLOAT
    tensor.ClearField("int64_val")


def _dims(name, *dims):
    def change(request):
        shape = request.inputs[name].tensor_shape
        del shape.dim[:]
        for size in dims:
            shape.dim.add().size = size

    return change


def _no_rows(request):
    for tensor in request.inputs.values():
        tensor.tensor_shape.dim[0].size = 0
        for old in ("int64_val", "float_val", "string_val"):
            tensor.ClearField(old)


MISTAKES = {
    "model": (
        lambda r: setattr(r.model_spec, "name", "other"),
        CODE.NOT_FOUND,
        "Servable not found for request: Latest(other)",
    ),
    "version": (
        lambda r: setattr(r.model_spec.version, "value", 7),
        CODE.NOT_FOUND,
        "Servable not found for request: Specific(ctr, 7)",
    ),
    "label": (
        lambda r: setattr(r.model_spec, "version_label", "canary"),
        CODE.INVALID_ARGUMENT,
        "Unrecognized servable version label: canary",
    ),
    "no name": (
        lambda r: r.model_spec.ClearField("name"),
        CODE.INVALID_ARGUMENT,
        "ModelSpec has no name specified.",
    ),
    "signature": (
        lambda r: setattr(r.model_spec, "signature_name", "x"),
        CODE.FAILED_PRECONDITION,
        'Serving signature key "x" not found.',
    ),
    "init op": (
        lambda r: setattr(r.model_spec, "signature_name", "__saved_model_init_op"),
        CODE.FAILED_PRECONDITION,
        'Serving signature key "__saved_model_init_op" not found.',
    ),
    "missing input": (
        lambda r: r.inputs.pop("request_time"),
        CODE.INVALID_ARGUMENT,
        "Missing but required: {request_time}.",
    ),
    "extra input": (
        lambda r: r.inputs["pulse"].CopyFrom(r.inputs["request_time"]),
        CODE.INVALID_ARGUMENT,
        "Sent extra: {pulse}.",
    ),
    "output": (
        lambda r: r.output_filter.append("y"),
        CODE.INVALID_ARGUMENT,
        "output tensor alias not found in signature: y",
    ),
    "output twice": (
        lambda r: r.output_filter.extend(["logit", "logit"]),
        CODE.INVALID_ARGUMENT,
        "duplicate output tensor alias: logit",
    ),
    "dtype": (
        _dtype,
        CODE.INVALID_ARGUMENT,
        'Input "candidate_item_id" must be int64. Received: float32',
    ),
    "dtype that is none": (
        lambda r: setattr(r.inputs["user_age"], "dtype", 99),
        CODE.INVALID_ARGUMENT,
        'Input "user_age" has a dtype that is not served. Received: 99',
    ),
    "rank": (
        _dims("behavior_time", 1, 16, 1),
        CODE.INVALID_ARGUMENT,
        'Input "behavior_time" must have the shape [-1, -1], where -1 is open. '
        "Received: [1, 16, 1]",
    ),
    "size": (
        _dims("user_tags", 3, 1),
        CODE.INVALID_ARGUMENT,
        'Input "user_tags" must have the shape [-1, 3]',
    ),
    "negative size": (
        _dims("user_tags", 1, -3),
        CODE.INVALID_ARGUMENT,
        'Input "user_tags" must have a known shape of no negative size.',
    ),
    "huge size": (
        _dims("candidate_item_id", 1, 2**40),
        CODE.INVALID_ARGUMENT,
        'Input "candidate_item_id" of shape [1, 1099511627776] would take',
    ),
    "too many values": (
        _set("slate_size", "int64_val", [3, 3]),
        CODE.INVALID_ARGUMENT,
        'Input "slate_size" of int64 must hold 1 values. Received: 2',
    ),
    "too few bytes": (
        _set("slate_size", "tensor_content", b"abc"),
        CODE.INVALID_ARGUMENT,
        "must hold 8 bytes. Received: 3",
    ),
    "rows": (
        _dims("slate_size", 2),
        CODE.INVALID_ARGUMENT,
        "All inputs must have the same first dimension, at least 1.",
    ),
    "no rows": (
        _no_rows,
        CODE.INVALID_ARGUMENT,
        "All inputs must have the same first dimension, at least 1.",
    ),
    "lengths that differ": (
        _dims("candidate_category", 1, 2),
        CODE.INVALID_ARGUMENT,
        "",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_over_grpc(server, inputs, mistake):
    change, code, message = MISTAKES[mistake]
    request = predict_request(inputs[0])
    change(request)
    if mistake == "lengths that differ":
        del request.inputs["candidate_category"].string_val[2:]
    with pytest.raises(grpc.RpcError) as error:
        server.prediction.Predict(request, timeout=30)
    assert error.value.code() is code, error.value.details()
    assert message in error.value.details()


REST_MISTAKES = [
    ("/v1/models/other:predict", {"inputs": {}}, 404, "Latest(other)"),
    ("/v1/models/ctr/versions/7:predict", {"inputs": {}}, 404, "Specific(ctr, 7)"),
    ("/v1/models/ctr:classify", {"inputs": {}}, 501, "predict only"),
    ("/v1/models/ctr/predict", {"inputs": {}}, 400, "Malformed request: POST"),
    ("/v1/models/ctr/versions/99999999999999999999:predict", {}, 400, "Failed to con"),
    ("/v1/models/ctr:predict", b"{", 400, "JSON Parse error"),
    ("/v1/models/ctr:predict", b"\xff\xfe", 400, "JSON Parse error"),
    ("/v1/models/ctr:predict", b"[" * 100_000, 400, "JSON Parse error"),
    ("/v1/models/ctr:predict", b"9" * 10_000, 400, "JSON Parse error"),
    ("/v1/models/ctr:predict", [], 400, "Is not object"),
    ("/v1/models/ctr:predict", {}, 400, "Missing 'inputs' or 'instances' key"),
    ("/v1/models/ctr:predict", {"inputs": 1, "instances": 1}, 400, "only one of"),
    ("/v1/models/ctr:predict", {"instances": []}, 400, "a list that is not empty"),
    ("/v1/models/ctr:predict", {"instances": [1]}, 400, "expecting an object"),
    ("/v1/models/ctr:predict", {"inputs": [1]}, 400, "expecting an object"),
    ("/v1/models/ctr:predict", {"inputs": {}}, 400, "Missing named input: behavior_"),
    ("/v1/models/ctr:predict", {"instances": [{}]}, 400, "keys must be equal to"),
    (
        "/v1/models/ctr:predict",
        {"signature_name": "x", "inputs": {}},
        400,
        'Serving signature key "x" not found',
    ),
    ("/v1/models/ctr:predict", {"signature_name": 3, "inputs": {}}, 400, "be a string"),
    (
        "/v1/models/ctr:predict",
        {"signature_name": "serialized_examples", "instances": ["x", {"b64": "!"}]},
        400,
        "unable to base64 decode",
    ),
    (
        "/v1/models/ctr:predict",
        {"signature_name": "serialized_examples", "instances": ["x", ["y"]]},
        400,
        "is not of expected type: string",
    ),
]


@pytest.mark.parametrize("path, body, status, message", REST_MISTAKES)
def test_mistakes_over_rest(server, path, body, status, message):
    found, answer = server.http(path, body)
    assert found == status, answer
    assert message in answer["error"]


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("request_time", [1.5], "Type: float is not of expected type: int64"),
        ("request_time", [True], "Type: bool is not of expected type: int64"),
        ("request_time", [None], "Type: NoneType is not of expected type: int64"),
        ("request_time", [2**63], "is not of expected type: int64"),
        ("request_time", 1_700_000_000, "must have the shape [-1]"),
        ("user_age", [["34"]], "Type: str is not of expected type: float32"),
        ("user_age", [[1e39]], "to float32 without loss of precision"),
        ("user_age", [[1.0], []], "at level: 1 expected size: 1. Received: []"),
        ("user_age", [[1.0], 2.0], "at level: 1 expected size: 1. Received: 2.0"),
        ("user_tags", [["a", "b", 3]], "Type: int is not of expected type: string"),
        ("user_tags", [["a", "b"]], "must have the shape [-1, 3]"),
        ("pulse", [1], "does not have named input: pulse"),
    ],
)
def test_wrong_values_over_rest(server, inputs, name, value, message):
    body = {"inputs": rows(inputs[0]) | {name: value}}
    status, answer = server.http("/v1/models/ctr:predict", body)
    assert status == 400
    assert message in answer["error"]


def test_no_message_at_all(server):
    call = server.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError) as error:
        call(b"\xff\xff no message", timeout=30)
    assert error.value.code() is CODE.INVALID_ARGUMENT
    assert "is no PredictRequest" in error.value.details()


def test_what_is_not_served_is_refused_by_name(server):
    for service, method in (
        ("PredictionService", "Classify"),
        ("PredictionService", "Regress"),
        ("PredictionService", "MultiInference"),
        ("ModelService", "HandleReloadConfigRequest"),
    ):
        call = server.channel.unary_unary(f"/tensorflow.serving.{service}/{method}")
        with pytest.raises(grpc.RpcError) as error:
            call(b"", timeout=30)
        assert error.value.code() is CODE.UNIMPLEMENTED
        assert error.value.details().startswith(f"{method}: this development server")


def test_a_deadline_is_kept(server, inputs):
    with pytest.raises(grpc.RpcError) as error:
        server.predict(inputs[0], timeout=1e-4)
    assert error.value.code() is CODE.DEADLINE_EXCEEDED


def test_a_message_that_is_too_long(server):
    examples = np.empty(1, object)
    examples[0] = bytes(17 << 20)
    with pytest.raises(grpc.RpcError) as error:
        server.predict({"examples": examples}, "serialized_examples")
    assert error.value.code() is CODE.RESOURCE_EXHAUSTED


def test_ids_that_no_table_has(server, samples, inputs, expected):
    """In a record ids are encoded already, and these are beyond every table."""
    wrong = samples[0] | {"candidate_item_id": np.full(3, 10**12)}
    examples = np.empty(1, object)
    examples[0] = serialize(wrong)
    with pytest.raises(grpc.RpcError) as error:
        server.predict({"examples": examples}, "serialized_examples")
    assert error.value.code() is CODE.INVALID_ARGUMENT
    assert_close(server.predict(inputs[0])["probability"], expected[1][0])


def test_empty_messages(server):
    with pytest.raises(grpc.RpcError) as error:
        server.models.GetModelStatus(GetModelStatusRequest(), timeout=30)
    assert error.value.code() is CODE.INVALID_ARGUMENT
    assert error.value.details() == "Missing ModelSpec"
    with pytest.raises(grpc.RpcError) as error:
        server.prediction.Predict(PredictRequest(), timeout=30)
    assert error.value.code() is CODE.INVALID_ARGUMENT
