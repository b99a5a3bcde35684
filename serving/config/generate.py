"""`ctr-tf serving-config`: TF Serving's configuration files for an export.

    models.config      which folder to watch, and how many versions to serve
    batching.config    users in one batch: the sizes that the export was made for
    monitoring.config  Prometheus metrics on the REST port

    tensorflow_model_server --port=8500 --rest_api_port=8501
      --model_config_file=models.config --monitoring_config_file=monitoring.config
      --enable_batching --batching_parameters_file=batching.config

Each file is parsed again as the message that TF Serving reads, and held against its
rules, before it is written.
"""

from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from ctr_tf.commands.arguments import Parser
from ctr_tf.errors import check_positive_options
from ctr_tf.storage import as_local
from serving.config.messages import (
    BatchingParameters,
    MonitoringConfig,
    parse_batching,
    parse_models,
    parse_monitoring,
)
from serving.exported import Exported, find_version

MODELS = "models.config"
BATCHING = "batching.config"
MONITORING = "monitoring.config"
METRICS_PATH = "/monitoring/prometheus/metrics"
_QUEUED_BATCHES = 16  # what cannot be answered soon is refused at once


def models_config(name: str, base_path: str, versions: int = 1) -> str:
    """`models.config` for one model.

    Args:
        name: that clients ask for.
        base_path: folder of versions, as the server sees it.
        versions: newest ones to serve at a time.
    """
    config = ModelServerConfig()
    model = config.model_config_list.config.add()
    model.name, model.base_path, model.model_platform = name, base_path, "tensorflow"
    model.model_version_policy.latest.num_versions = versions
    text = text_format.MessageToString(config)
    parse_models(text)
    return text


def batching_config(exported: Exported, timeout_micros: int, threads: int) -> str:
    """Batching parameters in the batch sizes of an export.

    Requests of different length may share a batch: the server pads them with any
    values (`pad_variable_length_inputs`), and the length inputs say what counts. Each
    answer is then as wide as the widest slate of its batch.

    Args:
        exported: whose batch sizes they are.
        timeout_micros: how long a request waits for others at most.
        threads: batches that run at the same time.
    """
    config = BatchingParameters()
    config.max_batch_size.value = exported.batch_sizes[-1]
    config.batch_timeout_micros.value = timeout_micros
    config.max_enqueued_batches.value = _QUEUED_BATCHES
    config.num_batch_threads.value = threads
    config.allowed_batch_sizes.extend(exported.batch_sizes)
    config.pad_variable_length_inputs = True
    text = text_format.MessageToString(config)
    parse_batching(text)
    return text


def monitoring_config() -> str:
    """Prometheus metrics on the path that Prometheus users expect of TF Serving."""
    config = MonitoringConfig()
    config.prometheus_config.enable = True
    config.prometheus_config.path = METRICS_PATH
    text = text_format.MessageToString(config)
    parse_monitoring(text)
    return text


def write_config(
    model: str | Path,
    output: str | Path,
    name: str | None = None,
    base_path: str | None = None,
    versions: int = 1,
    timeout_micros: int = 1_000,
    threads: int = 2,
) -> list[Path]:
    """Writes the three files.

    Args:
        model: folder of an export, or of its versions.
        output: folder to write to.
        name: of the model; the schema's by default.
        base_path: of the versions as the server sees it; `/models/<name>` by default.
        versions: see `models_config`.
        timeout_micros: see `batching_config`.
        threads: see `batching_config`.

    Returns:
        The files.
    """
    exported = Exported.load(find_version(model))
    name = name or exported.name
    texts = {
        MODELS: models_config(name, base_path or f"/models/{name}", versions),
        BATCHING: batching_config(exported, timeout_micros, threads),
        MONITORING: monitoring_config(),
    }
    output = as_local(output, "`--output`")
    output.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        (output / file).write_text(text, "utf-8")
    return [output / file for file in texts]


def main(argv: list[str]) -> int:
    """Writes the configuration."""
    parser = Parser("serving-config", __doc__)
    parser.add_export()
    parser.add_argument("--output", required=True, help="folder to write to")
    parser.add_argument("--name", help="of the model; default: that of its schema")
    parser.add_argument(
        "--base_path",
        help="folder of versions as the server sees it; default: /models/NAME",
    )
    parser.add_argument(
        "--versions", type=int, default=1, help="newest ones to serve at a time"
    )
    parser.add_argument(
        "--timeout_micros",
        type=int,
        default=1_000,
        help="how long a request waits for others to share its batch",
    )
    parser.add_argument(
        "--threads", type=int, default=2, help="batches at the same time"
    )
    options = parser.parse_args(argv)
    check_positive_options(options, "versions")
    values = vars(options)
    for path in write_config(values.pop("export"), **values):
        print(path)
    return 0
