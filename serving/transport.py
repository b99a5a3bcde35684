"""How a request reaches a server: TF Serving's API over gRPC or over REST.

Both transports send tensors to a signature of a model and bring tensors back; both
fail with a `ServingError` that carries the name of a gRPC status.
"""

import json
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from google.protobuf.json_format import ParseDict

from serving import wire
from serving.errors import (
    DEADLINE_EXCEEDED,
    INTERNAL,
    INVALID_ARGUMENT,
    UNAVAILABLE,
    ServingError,
    status_of_http,
)
from serving.json_tensors import from_json, to_json
from serving.specs import Signature, Spec, read_signatures
from serving.tensors import to_array, to_proto

if TYPE_CHECKING:
    import requests


class GrpcTransport:
    """TF Serving's PredictionService and ModelService.

    Args:
        target: `host:port`.
        model: name of the model.
    """

    def __init__(self, target: str, model: str):
        self.target = target
        self.model = model
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.enable_retries", 0),  # the client's own are bounded and counted
            ("grpc.max_reconnect_backoff_ms", 2_000),
        ]
        self._channel = grpc.insecure_channel(target, options)
        self._stub = wire.Stub(self._channel)

    def predict(
        self, signature: str, tensors: dict, timeout: float, version: int | None = None
    ) -> tuple[dict[str, np.ndarray], int | None]:
        """Calls a signature.

        Args:
            signature: its name.
            tensors: input name → array.
            timeout: seconds.
            version: of the model; the server's choice by default.

        Returns:
            Output name → array, and the version that answered.

        Raises:
            ServingError: for every failure.
        """
        response = self.send(self.request(signature, tensors, version), timeout)
        outputs = {name: to_array(value) for name, value in response.outputs.items()}
        return outputs, response.model_spec.version.value or version

    def request(
        self, signature: str, tensors: dict, version: int | None = None
    ) -> wire.PredictRequest:
        """The message that `predict` sends; see there."""
        request = wire.PredictRequest()
        self._name(request.model_spec, version)
        request.model_spec.signature_name = signature
        for name, value in tensors.items():
            to_proto(value, request.inputs[name])
        return request

    def send(
        self, request: wire.PredictRequest, timeout: float
    ) -> wire.PredictResponse:
        """The answer to a message, within so many seconds.

        Raises:
            ServingError: for every failure.
        """
        return _call(self._stub.predict, request, timeout)

    def signatures(
        self, timeout: float, version: int | None = None
    ) -> dict[str, Signature]:
        """Name → signature, as the server describes them."""
        request = wire.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._name(request.model_spec, version)
        response = _call(self._stub.metadata, request, timeout)
        packed = response.metadata["signature_def"].value  # of one type only
        found = wire.SignatureDefMap.FromString(packed)
        return read_signatures(found.signature_def)

    def versions(self, timeout: float) -> dict[int, str]:
        """Version → state (`"AVAILABLE"`, `"LOADING"`, …) of the model."""
        request = wire.GetModelStatusRequest()
        self._name(request.model_spec, None)
        response = _call(self._stub.status, request, timeout)
        statuses = response.model_version_status
        return {s.version: wire.state_name(s.state) for s in statuses}

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def _name(self, spec: Any, version: int | None) -> None:
        spec.name = self.model
        if version is not None:
            spec.version.value = version


class RestTransport:
    """TF Serving's REST API: predict in columns (`inputs`), status, metadata.

    Args:
        target: `host:port` or `http://host:port`.
        model: name of the model.
    """

    def __init__(self, target: str, model: str):
        self.target = target
        self.model = model
        base = target if "://" in target else f"http://{target}"
        self._url = f"{base.rstrip('/')}/v1/models/{model}"
        self._local = threading.local()  # a requests.Session is one thread's
        self._outputs: dict[tuple[str, int | None], dict[str, Spec]] = {}

    def predict(
        self, signature: str, tensors: dict, timeout: float, version: int | None = None
    ) -> tuple[dict[str, np.ndarray], int | None]:
        """Calls a signature; see `GrpcTransport.predict`.

        The answer does not say which version gave it: it is the one asked for.
        """
        specs = self._specs(signature, timeout, version)
        body = json.dumps(
            {
                "signature_name": signature,
                "inputs": {n: to_json(n, value) for n, value in tensors.items()},
            }
        )
        answer = self._call("POST", ":predict", timeout, version, body)
        found = answer.get("outputs")
        if not isinstance(found, dict):
            found = dict.fromkeys(specs, found)  # TF Serving drops a lone name
        try:
            outputs = {
                name: from_json(name, found[name], spec.dtype)
                for name, spec in specs.items()
            }
        except (KeyError, ServingError) as error:
            text = f"'{self._url}' did not answer like '{signature}': {error}"
            raise ServingError(INTERNAL, text) from error
        return outputs, version

    def signatures(
        self, timeout: float, version: int | None = None
    ) -> dict[str, Signature]:
        """Name → signature, as the server describes them."""
        answer = self._call("GET", "/metadata", timeout, version)
        found = wire.SignatureDefMap()
        ParseDict(
            answer["metadata"]["signature_def"], found, ignore_unknown_fields=True
        )
        return read_signatures(found.signature_def)

    def versions(self, timeout: float) -> dict[int, str]:
        """Version → state of the model."""
        answer = self._call("GET", "", timeout)
        statuses = answer.get("model_version_status", [])
        return {int(s["version"]): s["state"] for s in statuses}

    def close(self) -> None:
        """Closes this thread's connections."""
        self._session().close()

    def _specs(
        self, signature: str, timeout: float, version: int | None
    ) -> dict[str, Spec]:
        key = signature, version
        if key not in self._outputs:
            signatures = self.signatures(timeout, version)
            if signature not in signatures:
                raise ServingError(
                    INVALID_ARGUMENT, f"The model has no signature '{signature}'."
                )
            self._outputs[key] = signatures[signature].outputs
        return self._outputs[key]

    def _session(self) -> "requests.Session":
        import requests

        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.trust_env = False  # no proxy to a model server
        return self._local.session

    def _call(
        self,
        method: str,
        path: str,
        timeout: float,
        version: int | None = None,
        body: str | None = None,
    ) -> dict:
        import requests  # whoever asks by gRPC need not wait for it

        url = self._url + (f"/versions/{version}" if version is not None else "") + path
        try:
            response = self._session().request(method, url, data=body, timeout=timeout)
            answer: Any = response.json() if response.ok else None
        except requests.Timeout as error:
            raise ServingError(DEADLINE_EXCEEDED, f"{url}: {error}") from None
        except requests.ConnectionError as error:
            raise ServingError(UNAVAILABLE, f"{url}: {error}") from None
        except (requests.RequestException, ValueError) as error:
            raise ServingError(INTERNAL, f"{url}: {error}") from error
        if not response.ok:
            status = status_of_http(response.status_code)
            raise ServingError(status, f"{url}: {response.text}")
        return answer


TRANSPORTS: dict[str, type[GrpcTransport] | type[RestTransport]] = {
    "grpc": GrpcTransport,
    "rest": RestTransport,
}


def _call(method: Callable, request: Any, timeout: float) -> Any:
    try:
        return method(request, timeout)
    except grpc.RpcError as error:
        # Code and details are all that it says; its own lines would bury them.
        raise ServingError(error.code().name, error.details() or "") from None
