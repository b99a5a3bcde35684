"""The REST door: TF Serving's paths on the standard library's HTTP server.

POST /v1/models/NAME[/versions/V]:predict
GET  /v1/models/NAME[/versions/V][/metadata]
"""

import http.server
import json
import logging
import re
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest

from serving.errors import INTERNAL, ServingError, invalid
from serving.server import json_requests
from serving.server.model import Model
from serving.tensors import MAX_BYTES

_PREDICT = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?:(\w+)")
_MODEL = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata)?")
_INT64_END = 2**63
_SOCKET_SECONDS = 30.0  # that a client may be silent

_log = logging.getLogger(__name__)


class RestApi(http.server.ThreadingHTTPServer):
    """The HTTP server; `serve_forever` runs in a thread of its own.

    Args:
        address: host and port.

    Attributes:
        model: that is served; set before `serve_forever`.
    """

    daemon_threads = True
    block_on_close = False  # for connections that are silent; see `drain`
    request_queue_size = 128
    model: Model

    def __init__(self, address: tuple[str, int]):
        self._busy = 0
        self._idle = threading.Condition()
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that vanish are no news."""
        _log.debug("A connection from %s broke.", client_address, exc_info=True)

    def count(self, change: int) -> None:
        """A request begins (1), or ends (-1)."""
        with self._idle:
            self._busy += change
            self._idle.notify_all()

    def drain(self, seconds: float) -> None:
        """Takes no more connections and waits for the requests under way."""
        self.shutdown()
        self.server_close()
        with self._idle:
            self._idle.wait_for(lambda: self._busy == 0, seconds)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "ctr-tf"
    sys_version = ""
    default_request_version = protocol_version  # an answer always has a status line
    disable_nagle_algorithm = True  # head and body leave in two pieces
    timeout = _SOCKET_SECONDS
    server: RestApi

    def do_GET(self) -> None:
        self._handle(self._get)

    def do_POST(self) -> None:
        self._handle(self._post)

    def _handle(self, method: Callable) -> None:
        self.server.count(1)
        try:
            self._send(*self._result(method))
        except OSError:  # the connection is broken
            self.close_connection = True
        finally:
            self.server.count(-1)

    def _result(self, method: Callable) -> tuple[int, dict]:
        try:
            return 200, method()
        except ServingError as error:
            failure = error
        except OSError:
            raise
        except Exception as error:
            _log.exception("A request failed.")
            failure = ServingError(INTERNAL, f"{type(error).__name__}: {error}")
        return failure.http_status, {"error": failure.message}

    def _send(self, status: int, answer: dict) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def _get(self) -> dict:
        path = self.path.split("?")[0]
        match = _MODEL.fullmatch(path)
        if match is None:
            raise invalid(f"Malformed request: GET {path[:200]}")
        name, version, metadata = match.groups()
        spec = _spec(name, version)
        if metadata:
            return _metadata(self.server.model, spec)
        return _to_dict(
            self.server.model.status(GetModelStatusRequest(model_spec=spec))
        )

    def _post(self) -> dict:
        body, path = self._body(), self.path.split("?")[0]
        match = _PREDICT.fullmatch(path)
        if match is None:
            raise invalid(f"Malformed request: POST {path[:200]}")
        name, version, method = match.groups()
        if method != "predict":
            raise ServingError(
                "UNIMPLEMENTED",
                f"{method}: this development server has predict only.",
            )
        spec, request = _spec(name, version), json_requests.parse(body)
        spec.signature_name = request.get("signature_name", "")
        _, outputs = self.server.model.run(
            spec, lambda signature: json_requests.read_inputs(request, signature)
        )
        arrays = {key: value.numpy() for key, value in outputs.items()}
        return json_requests.answer(arrays, rows="instances" in request)

    def _body(self) -> bytes:
        """Reads the body; where that is not done, the connection cannot go on."""
        self.close_connection, keep = True, self.close_connection
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not re.fullmatch(r"\d{1,18}", length):
            raise invalid(
                "A request must have a Content-Length, and no Transfer-Encoding."
            )
        if int(length) > MAX_BYTES:
            raise ServingError(
                "RESOURCE_EXHAUSTED",
                f"A body may have {MAX_BYTES:,} bytes. Received: {int(length):,}",
            )
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            missing = int(length) - len(body)
            raise invalid(f"The body ended {missing:,} bytes early.")
        self.close_connection = keep
        return body

    def send_error(
        self, code: int, message: str | None = None, explain: str | None = None
    ) -> None:
        """What the standard library finds wrong, as JSON too."""
        self.close_connection = True
        self._send(code, {"error": str(message or HTTPStatus(code).phrase)})

    def log_message(self, format: str, *args: object) -> None:
        """One line a request is too much."""


def _spec(name: str, version: str | None) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=name)
    if version is not None:
        if len(version) > 19 or int(version) >= _INT64_END:
            raise invalid(f"Failed to convert version: {version[:40]} to numeric.")
        spec.version.value = int(version)
    return spec


def _metadata(model: Model, spec: model_pb2.ModelSpec) -> dict:
    request = GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
    response = model.metadata(request)
    signatures = SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return {
        "model_spec": _to_dict(response.model_spec),
        "metadata": {"signature_def": _to_dict(signatures)},
    }


def _to_dict(message: Message) -> dict:
    return MessageToDict(
        message,
        preserving_proto_field_name=True,
        including_default_value_fields=True,
    )
