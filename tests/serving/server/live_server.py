"""A server process, its clients, and requests whose right answers are known."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import grpc
import numpy as np

from serving.server.protos import (
    GetModelStatusRequest,
    PredictRequest,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)
from serving.server.tensors import from_proto, to_proto

SECONDS = 60  # that anything may take on a busy machine


class LiveServer:
    """`ctr-tf serve` on free ports of 127.0.0.1; leaving the context ends it."""

    def __init__(self, model, log, *options):
        self.log = log
        command = [sys.executable, "-m", "serving.server", "--model", str(model)]
        command += ["--grpc_port=0", "--rest_port=0", *options]
        with open(log, "a") as file:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=file, text=True
            )
        self.banner = "".join(self.process.stdout.readline() for _ in range(5))
        ports = re.findall(r"127\.0\.0\.1:(\d+)", self.banner)
        assert len(ports) == 3, self.banner + open(log).read()
        self.grpc_address = f"127.0.0.1:{ports[0]}"
        self.rest_address = f"127.0.0.1:{ports[1]}"
        self.channel = grpc.insecure_channel(self.grpc_address)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(
            self.channel
        )
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.channel.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def status(self, version=None):
        """Version → (state, error code, message)."""
        request = GetModelStatusRequest()
        request.model_spec.name = "ctr"
        if version is not None:
            request.model_spec.version.value = version
        answer = self.models.GetModelStatus(
            request, timeout=SECONDS, wait_for_ready=True
        )
        return {
            s.version: (
                s.DESCRIPTOR.enum_types_by_name["State"].values_by_number[s.state].name,
                s.status.error_code,
                s.status.error_message,
            )
            for s in answer.model_version_status
        }

    def wait_for(self, **states):
        """Waits until versions are in states: `v1="AVAILABLE"`."""
        wanted = {int(name[1:]): state for name, state in states.items()}
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            try:
                found = {n: state for n, (state, *_) in self.status().items()}
            except grpc.RpcError as error:
                assert error.code() is grpc.StatusCode.NOT_FOUND
                found = {}
            if wanted.items() <= found.items():
                return
            assert self.process.poll() is None, open(self.log).read()
            time.sleep(0.05)
        raise AssertionError(f"{found}\n{open(self.log).read()}")

    def stop(self, number=signal.SIGTERM):
        """Sends a signal; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def predict(self, inputs, signature="", version=None, timeout=SECONDS, **more):
        """Scores over gRPC: name → array."""
        request = predict_request(inputs, signature, version)
        response = self.prediction.Predict(request, timeout=timeout, **more)
        return arrays(response)

    def rest(self, path, body=None):
        """HTTP status and JSON of a GET, or of a POST of the body."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        data = data.encode() if isinstance(data, str) else data
        url = f"http://{self.rest_address}{path}"
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, data), timeout=SECONDS
            ) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def text(self, path):
        """The text of a GET."""
        url = f"http://{self.rest_address}{path}"
        with urllib.request.urlopen(url, timeout=SECONDS) as response:
            return response.read().decode()


def predict_request(inputs, signature="", version=None, name="ctr"):
    request = PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    for key, array in inputs.items():
        to_proto(array, request.inputs[key])
    return request


def arrays(response):
    return {
        name: from_proto(name, proto, 1 << 30)
        for name, proto in response.outputs.items()
    }


def bytes_inside(array):
    """Strings as bytes objects, which is what tensors hold."""
    if array.dtype.kind != "O":
        return array
    flat = [v if isinstance(v, bytes) else v.encode() for v in array.ravel()]
    result = np.empty(array.size, object)
    result[:] = flat
    return result.reshape(array.shape)


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=2e-6)


def rows(tensors):
    """Tensors as JSON has them."""

    def plain(value):
        if isinstance(value, list):
            return list(map(plain, value))
        return value.decode() if isinstance(value, bytes) else value

    return {name: plain(array.tolist()) for name, array in tensors.items()}
