"""The gRPC door: PredictionService and ModelService.

Requests arrive as bytes, so that a message which is no message is an INVALID_ARGUMENT.
"""

import logging
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataRequest
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.predict_pb2 import PredictRequest

from serving.errors import INTERNAL, ServingError, invalid
from serving.server.model import Model

_PREDICTION = "tensorflow.serving.PredictionService"
_MODEL = "tensorflow.serving.ModelService"
_REFUSED = {
    (_PREDICTION, "Classify"): "has no classification signatures; use Predict",
    (_PREDICTION, "Regress"): "has no regression signatures; use Predict",
    (_PREDICTION, "MultiInference"): "has no such signatures; use Predict",
    (_MODEL, "HandleReloadConfigRequest"): (
        "serves one model; restart it with another --export or --name"
    ),
}

_log = logging.getLogger(__name__)


def handlers(model: Model) -> list[grpc.GenericRpcHandler]:
    """All methods, for `grpc.Server.add_generic_rpc_handlers`."""
    methods = {
        _PREDICTION: {
            "Predict": _answer(PredictRequest, model.predict),
            "GetModelMetadata": _answer(GetModelMetadataRequest, model.metadata),
        },
        _MODEL: {"GetModelStatus": _answer(GetModelStatusRequest, model.status)},
    }
    for (service, method), reason in _REFUSED.items():
        methods[service][method] = _refuse(method, reason)
    return [
        grpc.method_handlers_generic_handler(
            service,
            {n: grpc.unary_unary_rpc_method_handler(m) for n, m in found.items()},
        )
        for service, found in methods.items()
    ]


def _answer(request_class: type[Message], answer: Callable[[Any], Message]) -> Callable:
    def handle(data: bytes, context: grpc.ServicerContext) -> bytes | None:
        if not context.is_active():
            return None  # it waited past its deadline, or its client has gone
        try:
            return answer(_parse(request_class, data)).SerializeToString()
        except ServingError as error:
            failure = error
        except Exception as error:
            _log.exception("%s failed.", request_class.__name__)
            failure = ServingError(INTERNAL, f"{type(error).__name__}: {error}")
        context.abort(grpc.StatusCode[failure.status], failure.message)
        return None  # never: `abort` raises

    return handle


def _parse(request_class: type[Message], data: bytes) -> Message:
    try:
        return request_class.FromString(data)
    except DecodeError as error:
        raise invalid(
            f"The message of {len(data)} bytes is no {request_class.__name__}."
        ) from error


def _refuse(method: str, reason: str) -> Callable:
    def handle(data: bytes, context: grpc.ServicerContext) -> None:
        context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            f"{method}: this development server {reason}.",
        )

    return handle
