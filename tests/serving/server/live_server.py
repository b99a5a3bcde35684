"""A server process, its clients, and requests whose right answers are known."""

import json
import urllib.error
import urllib.request

import grpc
import numpy as np
import tensorflow as tf
from running_server import SECONDS, Server
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusRequest,
    ModelVersionStatus,
)
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from serving.tensors import to_proto


class LiveServer(Server):
    """A server that serves; leaving the context ends it."""

    def __enter__(self):
        self.start()
        self.wait()
        self.channel = grpc.insecure_channel(self.grpc)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(
            self.channel
        )
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)
        return self

    def __exit__(self, *exception):
        self.channel.close()
        self.stop()

    def status(self, version=None):
        """Version → (state, error code, message)."""
        request = GetModelStatusRequest()
        request.model_spec.name = "ctr"
        if version is not None:
            request.model_spec.version.value = version
        answer = self.models.GetModelStatus(request, timeout=SECONDS)
        return {
            s.version: (
                ModelVersionStatus.State.Name(s.state),
                s.status.error_code,
                s.status.error_message,
            )
            for s in answer.model_version_status
        }

    def predict(self, inputs, signature="", version=None, timeout=SECONDS):
        """Scores over gRPC: name → array."""
        request = predict_request(inputs, signature, version)
        return arrays(self.prediction.Predict(request, timeout=timeout))

    def http(self, path, body=None):
        """HTTP status and JSON of a GET, or of a POST of the body."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        data = data.encode() if isinstance(data, str) else data
        url = f"http://{self.rest}{path}"
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, data), timeout=SECONDS
            ) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


def predict_request(inputs, signature="", version=None, name="ctr"):
    request = PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    for key, array in inputs.items():
        to_proto(array, request.inputs[key], typed=True)
    return request


def arrays(response):
    return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}


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
