"""TF Serving's configuration messages, and its own rules about them.

`models.config` has its class in tensorflow-serving-api. The other two are not in that
package: they are declared here as TF Serving's public `session_bundle_config.proto` and
`monitoring_config.proto` declare them.
"""

from typing import Any

from google.protobuf import text_format
from google.protobuf import wrappers_pb2 as wrappers
from google.protobuf.message import Message
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from ctr_tf.errors import UserError
from serving.declared import FIELD, declare

_PACKAGE = "tensorflow.serving"
_INT64 = f".{wrappers.Int64Value.DESCRIPTOR.full_name}"
_STRING = f".{wrappers.StringValue.DESCRIPTOR.full_name}"
_BOOL = f".{wrappers.BoolValue.DESCRIPTOR.full_name}"
_MESSAGES: dict[str, dict[str, tuple[int, Any]]] = {
    "BatchingParameters": {
        "max_batch_size": (1, _INT64),
        "batch_timeout_micros": (2, _INT64),
        "max_enqueued_batches": (3, _INT64),
        "num_batch_threads": (4, _INT64),
        "thread_pool_name": (5, _STRING),
        "allowed_batch_sizes": (6, [FIELD.TYPE_INT64]),
        "pad_variable_length_inputs": (7, FIELD.TYPE_BOOL),
        "enable_large_batch_splitting": (8, _BOOL),
        "max_execution_batch_size": (9, _INT64),
    },
    "PrometheusConfig": {
        "enable": (1, FIELD.TYPE_BOOL),
        "path": (2, FIELD.TYPE_STRING),
    },
    "MonitoringConfig": {"prometheus_config": (1, f".{_PACKAGE}.PrometheusConfig")},
}


_CLASSES: dict[str, Any] = declare(
    "ctr_tf/serving_config.proto", _PACKAGE, _MESSAGES, beside=(wrappers,)
)
BatchingParameters = _CLASSES["BatchingParameters"]
MonitoringConfig = _CLASSES["MonitoringConfig"]


def parse_models(text: str) -> ModelServerConfig:
    """Reads `models.config`; UserError for what TF Serving would refuse."""
    config = _parse(text, ModelServerConfig)
    models = config.model_config_list.config
    if not models:
        raise UserError(f"`model_config_list` must name a model. Received: {text!r}")
    names = [model.name for model in models]
    for model in models:
        if not model.name or names.count(model.name) > 1:
            raise UserError(
                f"Models must have names of their own. Received: {model.name!r}"
            )
        if not model.base_path.startswith("/") and "://" not in model.base_path:
            raise UserError(
                f"`base_path` of model '{model.name}' must be an absolute path. "
                f"Received: {model.base_path!r}"
            )
        if model.model_platform != "tensorflow":
            raise UserError(
                f"`model_platform` of model '{model.name}' must be 'tensorflow'. "
                f"Received: {model.model_platform!r}"
            )
    return config


def parse_batching(text: str) -> Message:
    """Reads the batching parameters; UserError for what TF Serving would refuse."""
    config = _parse(text, BatchingParameters)
    for name in (
        "max_batch_size",
        "max_enqueued_batches",
        "num_batch_threads",
        "max_execution_batch_size",
    ):
        if config.HasField(name) and getattr(config, name).value < 1:
            raise UserError(
                f"`{name}` must be positive. Received: {getattr(config, name).value}"
            )
    if config.batch_timeout_micros.value < 0:
        raise UserError(
            "`batch_timeout_micros` must not be negative. "
            f"Received: {config.batch_timeout_micros.value}"
        )
    sizes = list(config.allowed_batch_sizes)
    if any(a >= b for a, b in zip([0, *sizes], sizes, strict=False)):
        raise UserError(
            f"`allowed_batch_sizes` must be positive and ascending. Received: {sizes}"
        )
    splits = config.enable_large_batch_splitting.value
    name = "max_execution_batch_size" if splits else "max_batch_size"
    largest = getattr(config, name).value
    if sizes and sizes[-1] != largest:
        raise UserError(
            f"The last of `allowed_batch_sizes` must be `{name}`={largest}. "
            f"Received: {sizes}"
        )
    return config


def parse_monitoring(text: str) -> Message:
    """Reads the monitoring configuration; UserError for a path without `/`."""
    config = _parse(text, MonitoringConfig)
    path = config.prometheus_config.path
    if config.prometheus_config.enable and not path.startswith("/"):
        raise UserError(
            f"`prometheus_config.path` must begin with '/'. Received: {path!r}"
        )
    return config


def _parse(text: str, message: Any) -> Any:
    try:
        return text_format.Parse(text, message())
    except text_format.ParseError as error:
        name = message.DESCRIPTOR.name
        raise UserError(f"This is no {name}: {error}. Received: {text!r}") from error
