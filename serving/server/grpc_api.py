"""The gRPC door: PredictionService, ModelService and health, on asyncio.

Requests arrive as bytes, so that a message which is no message is an INVALID_ARGUMENT,
and so that an overloaded server refuses before it parses.
"""

import asyncio
import logging
import time

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2

from serving.server.core import Core
from serving.server.errors import ServingError, invalid
from serving.server.protos import (
    GetModelMetadataRequest,
    GetModelStatusRequest,
    PredictRequest,
)

_PREDICTION = "tensorflow.serving.PredictionService"
_MODEL = "tensorflow.serving.ModelService"
_HEALTH = "grpc.health.v1.Health"
_REFUSED = {
    (_PREDICTION, "Classify"): "has no classification signatures; use Predict",
    (_PREDICTION, "Regress"): "has no regression signatures; use Predict",
    (_PREDICTION, "MultiInference"): "has no such signatures; use Predict",
    (_MODEL, "HandleReloadConfigRequest"): (
        "serves one model; restart it with another --model or --name"
    ),
}

_log = logging.getLogger(__name__)


class GrpcApi:
    """The handlers of all methods.

    Args:
        core: that serves.
    """

    def __init__(self, core: Core):
        self._core = core

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """For `grpc.aio.Server.add_generic_rpc_handlers`."""
        methods = {
            _PREDICTION: {
                "Predict": self._predict,
                "GetModelMetadata": self._answer(
                    GetModelMetadataRequest, self._core.metadata
                ),
            },
            _MODEL: {
                "GetModelStatus": self._answer(
                    GetModelStatusRequest, self._core.status
                ),
            },
            _HEALTH: {
                "Check": self._answer(health_pb2.HealthCheckRequest, self._health),
            },
        }
        for (service, method), reason in _REFUSED.items():
            methods[service][method] = _refuse(method, reason)
        return [
            grpc.method_handlers_generic_handler(
                service,
                {
                    name: grpc.unary_unary_rpc_method_handler(handler)
                    for name, handler in handlers.items()
                },
            )
            for service, handlers in methods.items()
        ]

    async def _predict(self, data: bytes, context: grpc.aio.ServicerContext) -> bytes:
        started = time.monotonic()
        metrics, core = self._core.metrics, self._core
        code = grpc.StatusCode.CANCELLED  # unless it gets to its end
        try:
            core.batcher.check_room()
            request = _parse(PredictRequest, data)
            left = context.time_remaining()
            pending = core.predict(request, left and started + left)
            outputs = await asyncio.wrap_future(pending.future)
            answer = core.predict_response(pending, outputs).SerializeToString()
            code = grpc.StatusCode.OK
            return answer
        except ServingError as error:
            code = error.code
            await context.abort(error.code, error.message)
        except Exception as error:
            code = grpc.StatusCode.INTERNAL
            _log.exception("Predict failed.")
            await context.abort(code, f"{type(error).__name__}: {error}")
        finally:
            microseconds = (time.monotonic() - started) * 1e6
            metrics.requests.add(1, core.name, code.name)
            metrics.request_latency.add(microseconds, core.name, "Predict", "GRPC")

    def _answer(self, request_class: type[Message], answer):
        """A handler of a request that needs no waiting."""

        async def handle(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
            try:
                return answer(_parse(request_class, data)).SerializeToString()
            except ServingError as error:
                await context.abort(error.code, error.message)

        return handle

    def _health(self, request) -> health_pb2.HealthCheckResponse:
        services = ("", self._core.name, _PREDICTION, _MODEL)
        if request.service not in services:
            raise ServingError(
                grpc.StatusCode.NOT_FOUND, f"Unknown service '{request.service}'."
            )
        serves = self._core.serves
        return health_pb2.HealthCheckResponse(status=1 if serves else 2)


def _parse(request_class: type[Message], data: bytes) -> Message:
    try:
        return request_class.FromString(data)
    except DecodeError as error:
        raise invalid(
            f"The message of {len(data)} bytes is no {request_class.__name__}."
        ) from error


def _refuse(method: str, reason: str):
    async def handle(data: bytes, context: grpc.aio.ServicerContext) -> None:
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            f"{method}: this development server {reason}.",
        )

    return handle
