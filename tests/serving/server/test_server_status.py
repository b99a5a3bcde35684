"""What the server says of itself: metadata and states."""

import json

import grpc
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    SignatureDefMap,
)

CODE = grpc.StatusCode


def test_metadata(server):
    request = GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "ctr"
    response = server.prediction.GetModelMetadata(request, timeout=30)
    assert response.model_spec.version.value == 1
    signatures = SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    default = signatures.signature_def["serving_default"]
    assert default.method_name == "tensorflow/serving/predict"
    assert default.inputs["behavior_time"].dtype == types_pb2.DT_INT64
    status, answer = server.http("/v1/models/ctr/metadata")
    found = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert status == 200 and answer["model_spec"]["version"] == "1"
    assert found["inputs"]["behavior_time"]["dtype"] == "DT_INT64"
    assert found["outputs"].keys() == default.outputs.keys()
    for change, message in (
        (lambda r: r.ClearField("model_spec"), "Missing ModelSpec"),
        (lambda r: r.ClearField("metadata_field"), "at least one metadata_field"),
        (lambda r: r.metadata_field.append("x"), "Metadata field x is not supported"),
    ):
        wrong = GetModelMetadataRequest.FromString(request.SerializeToString())
        change(wrong)
        with pytest.raises(grpc.RpcError) as error:
            server.prediction.GetModelMetadata(wrong, timeout=30)
        assert error.value.code() is CODE.INVALID_ARGUMENT
        assert message in error.value.details()


def test_status(server):
    assert server.status() == server.status(1) == {1: ("AVAILABLE", 0, "")}
    with pytest.raises(grpc.RpcError) as error:
        server.status(7)
    assert error.value.code() is CODE.NOT_FOUND
    assert error.value.details() == "Could not find version 7 of model ctr"
    ok = {"error_code": "OK", "error_message": ""}
    answer = [{"version": "1", "state": "AVAILABLE", "status": ok}]
    for path in ("/v1/models/ctr", "/v1/models/ctr/versions/1"):
        assert server.http(path) == (200, {"model_version_status": answer})
    assert server.http("/v1/models/other")[0] == 404
    assert server.http("/nowhere")[0] == 400


def test_the_banner_says_what_it_is_for(server):
    assert "DEVELOPMENT" in server.banner
    assert json.dumps(server.rest)[1:-1] in server.banner
