"""The REST door: TF Serving's paths on the standard library's HTTP server.

POST /v1/models/NAME[/versions/V]:predict
GET  /v1/models/NAME[/versions/V][/metadata]
GET  /monitoring/prometheus/metrics
GET  /healthz
"""

import concurrent.futures
import http.server
import json
import logging
import re
import socket
import threading
import time
from http import HTTPStatus

from google.protobuf.json_format import MessageToDict
from grpc import StatusCode

from serving.server import json_tensors
from serving.server.core import Core
from serving.server.errors import ServingError, invalid
from serving.server.protos import (
    GetModelMetadataRequest,
    GetModelStatusRequest,
    SignatureDefMap,
    model_pb2,
)

_PREDICT = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+))?:(classify|regress|predict)"
)
_MODEL = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata)?")
_METRICS = "/monitoring/prometheus/metrics"
_HEALTH = "/healthz"
_INT64_END = 2**63
_SOCKET_SECONDS = 30.0  # that a client may be silent, or take to send a body
_MAX_CONNECTIONS = 256

_log = logging.getLogger(__name__)


class RestApi(http.server.ThreadingHTTPServer):
    """The HTTP server; `serve_forever` runs in a thread of its own.

    Args:
        address: host and port.
        core: that serves.
        timeout: seconds that a request may take.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], core: Core, timeout: float):
        self.core = core
        self.request_seconds = timeout
        self._connections = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        self._busy = 0
        self._idle = threading.Condition()
        super().__init__(address, _Handler)

    def process_request(self, request, client_address):
        """Starts a thread for a connection, or refuses it."""
        if not self._connections.acquire(blocking=False):
            _refuse(request)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address):
        """Serves a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request, client_address):
        """Clients that vanish are no news."""
        _log.debug("A connection from %s broke.", client_address, exc_info=True)

    def begin(self) -> None:
        """A request begins."""
        with self._idle:
            self._busy += 1

    def end(self) -> None:
        """A request ends."""
        with self._idle:
            self._busy -= 1
            self._idle.notify_all()

    def drain(self, seconds: float) -> None:
        """Takes no more connections and waits for the requests under way."""
        self.shutdown()
        self.server_close()
        with self._idle:
            self._idle.wait_for(lambda: self._busy == 0, seconds)


def _refuse(connection: socket.socket) -> None:
    body = json.dumps({"error": f"More than {_MAX_CONNECTIONS} connections."}).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    try:
        connection.setblocking(False)
        connection.send(head.encode() + body)
    except OSError:
        pass  # it has gone already


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "ctr-tf"
    sys_version = ""
    default_request_version = protocol_version  # an answer always has a status line
    disable_nagle_algorithm = True  # head and body leave in two pieces
    timeout = _SOCKET_SECONDS
    server: RestApi

    def do_GET(self):
        self._handle(self._get)

    def do_POST(self):
        self._handle(self._post)

    def _handle(self, method) -> None:
        self.server.begin()
        try:
            try:
                status, content, kind = method()
            except ServingError as error:
                status, kind = error.http_status, "application/json"
                content = json.dumps({"error": error.message})
            except (OSError, TimeoutError):
                raise  # the connection is broken
            except Exception as error:
                _log.exception("A request failed.")
                status, kind = 500, "application/json"
                content = json.dumps({"error": f"{type(error).__name__}: {error}"})
            self._send(status, content, kind)
        except OSError:
            self.close_connection = True
        finally:
            self.server.end()

    def _send(self, status: int, content: str, kind: str) -> None:
        data = content.encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def _get(self) -> tuple[int, str, str]:
        core, path = self.server.core, self.path.split("?")[0]
        if path == _METRICS:
            return 200, core.metrics.page(), "text/plain; version=0.0.4"
        if path == _HEALTH:
            if not core.serves:
                raise ServingError(StatusCode.UNAVAILABLE, "No version serves.")
            return 200, json.dumps({"status": "SERVING"}), "application/json"
        match = _MODEL.fullmatch(path)
        if match is None:
            raise invalid(f"Malformed request: GET {path[:200]}")
        name, version, metadata = match.groups()
        spec = _spec(name, version)
        if metadata:
            answer = _metadata(core, spec)
        else:
            answer = _to_dict(core.status(GetModelStatusRequest(model_spec=spec)))
        return 200, json.dumps(answer, indent=1), "application/json"

    def _post(self) -> tuple[int, str, str]:
        started = time.monotonic()
        core, path = self.server.core, self.path.split("?")[0]
        code = StatusCode.INTERNAL  # unless it gets to its end
        try:
            body = self._body(started + _SOCKET_SECONDS)
            match = _PREDICT.fullmatch(path)
            if match is None:
                raise invalid(f"Malformed request: POST {path[:200]}")
            name, version, method = match.groups()
            if method != "predict":
                raise ServingError(
                    StatusCode.UNIMPLEMENTED,
                    f"{method}: this development server has predict only.",
                )
            answer = self._predict(_spec(name, version), body, started)
            code = StatusCode.OK
            return 200, json.dumps(answer), "application/json"
        except ServingError as error:
            code = error.code
            raise
        finally:
            microseconds = (time.monotonic() - started) * 1e6
            core.metrics.requests.add(1, core.name, code.name)
            core.metrics.request_latency.add(microseconds, core.name, "Predict", "REST")

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes, started: float) -> dict:
        core = self.server.core
        core.batcher.check_room()
        request = json_tensors.parse(body)
        spec.signature_name = request.get("signature_name", "")
        pending = core.submit(
            spec,
            lambda signature: json_tensors.read_inputs(request, signature),
            [],
            started + self.server.request_seconds,
        )
        try:
            left = started + self.server.request_seconds - time.monotonic()
            outputs = pending.future.result(max(left, 0))
        except concurrent.futures.TimeoutError as error:
            pending.future.cancel()
            raise ServingError(
                StatusCode.DEADLINE_EXCEEDED,
                f"Not done after {self.server.request_seconds:g} s.",
            ) from error
        return json_tensors.to_json(outputs, rows="instances" in request)

    def _body(self, deadline: float) -> bytes:
        """Reads the body; where that is not done, the connection cannot go on."""
        self.close_connection, keep = True, self.close_connection
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not re.fullmatch(r"\d{1,18}", length):
            raise invalid(
                "A request must have a Content-Length, and no Transfer-Encoding."
            )
        limit = self.server.core.max_message_bytes
        if int(length) > limit:
            raise ServingError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"A body may have {limit:,} bytes. Received: {int(length):,}",
            )
        parts, missing = [], int(length)
        while missing:
            if time.monotonic() > deadline:
                raise ServingError(
                    StatusCode.DEADLINE_EXCEEDED,
                    f"The body was not there after {_SOCKET_SECONDS:g} s.",
                )
            part = self.rfile.read1(min(missing, 1 << 16))
            if not part:
                raise invalid(f"The body ended {missing:,} bytes early.")
            parts.append(part)
            missing -= len(part)
        self.close_connection = keep
        return b"".join(parts)

    def send_error(self, code, message=None, explain=None):
        """What the standard library finds wrong, as JSON too."""
        self.close_connection = True
        if message is None:
            message = HTTPStatus(code).phrase
        self._send(code, json.dumps({"error": str(message)}), "application/json")

    def log_message(self, format, *args):
        """One line a request is too much."""


def _spec(name: str, version: str | None) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=name)
    if version is not None:
        if int(version[:20]) >= _INT64_END or len(version) > 19:
            raise invalid(f"Failed to convert version: {version[:40]} to numeric.")
        spec.version.value = int(version)
    return spec


def _metadata(core: Core, spec: model_pb2.ModelSpec) -> dict:
    request = GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
    response = core.metadata(request)
    signatures = SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return {
        "model_spec": _to_dict(response.model_spec),
        "metadata": {"signature_def": _to_dict(signatures)},
    }


def _to_dict(message) -> dict:
    return MessageToDict(
        message,
        preserving_proto_field_name=True,
        including_default_value_fields=True,
    )
