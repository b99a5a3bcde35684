"""What the server says of itself: metadata, states, health and metrics."""

import json

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.server.protos import (
    GetModelMetadataRequest,
    SignatureDefMap,
    types_pb2,
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
    status, answer = server.rest("/v1/models/ctr/metadata")
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


def test_status_and_health(server):
    assert server.status() == server.status(1) == {1: ("AVAILABLE", 0, "")}
    with pytest.raises(grpc.RpcError) as error:
        server.status(7)
    assert error.value.code() is CODE.NOT_FOUND
    assert error.value.details() == "Could not find version 7 of model ctr"
    ok = {"error_code": "OK", "error_message": ""}
    answer = [{"version": "1", "state": "AVAILABLE", "status": ok}]
    for path in ("/v1/models/ctr", "/v1/models/ctr/versions/1"):
        assert server.rest(path) == (200, {"model_version_status": answer})
    assert server.rest("/v1/models/other")[0] == 404
    assert server.rest("/nowhere")[0] == 400
    assert server.rest("/healthz") == (200, {"status": "SERVING"})
    health = health_pb2_grpc.HealthStub(server.channel)
    for name in ("", "ctr", "tensorflow.serving.PredictionService"):
        request = health_pb2.HealthCheckRequest(service=name)
        assert health.Check(request, timeout=30).status == 1
    with pytest.raises(grpc.RpcError) as error:
        health.Check(health_pb2.HealthCheckRequest(service="x"), timeout=30)
    assert error.value.code() is CODE.NOT_FOUND


def test_metrics(server, inputs):
    def count(text, status):
        line = (
            f':tensorflow:serving:request_count{{model_name="ctr",status="{status}"}}'
        )
        found = [row for row in text.splitlines() if row.startswith(line)]
        return int(found[0].split()[-1]) if found else 0

    path = "/monitoring/prometheus/metrics"
    before = server.text(path)
    server.predict(inputs[0])
    server.rest("/v1/models/ctr:predict", {})
    after = server.text(path)
    for status in ("OK", "INVALID_ARGUMENT"):
        assert count(after, status) == count(before, status) + 1
    version = '{model_name="ctr",version="1",state="AVAILABLE"} 1'
    assert f":tensorflow:serving:model_version_state{version}" in after
    buckets = {}
    for row in after.splitlines():
        if row.startswith(":tensorflow:serving:request_latency_bucket"):
            labels, _, value = row.rpartition(" ")
            buckets.setdefault(labels.split(",le=")[0], []).append(int(value))
    assert len(buckets) == 2  # gRPC and REST
    for counts in buckets.values():
        assert counts == sorted(counts) and counts[-1] > 0


def test_the_banner_says_what_it_is_for(server):
    assert "DEVELOPMENT" in server.banner
    assert json.dumps(server.rest_address)[1:-1] in server.banner
