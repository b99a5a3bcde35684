"""Server configuration: what is generated is what TF Serving takes."""

import pytest
from google.protobuf import text_format

from serving.config.generate import main, write_config
from serving.config.messages import (
    BatchingParameters,
    parse_batching,
    parse_models,
    parse_monitoring,
)
from serving.exported import Exported
from serving.state import StateTensor, make_layout


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "7"
    (folder / "assets.extra").mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    (folder / "assets.extra" / "schema.yaml").touch()
    state = make_layout([StateTensor("user", "float32", (3,))], b"")
    Exported(
        name="toy",
        history_lengths=(32, 64),
        slate_sizes=(10, 50),
        batch_sizes=(1, 3, 24),
        precision="float32",
        xla=False,
        tolerance=1e-5,
        state_tolerance=1e-5,
        state=state,
    ).save(folder)
    return folder.parent


def test_an_export_tells_its_sizes(model):
    exported = Exported.load(model / "7")
    assert exported.batch_sizes == (1, 3, 24)
    assert exported.state.num_bytes == 28 + 12
    with pytest.raises(FileNotFoundError, match="not a model written by `ctr-tf exp"):
        Exported.load(model)


def test_generated_files_fit_the_export(model, tmp_path, capsys):
    assert main(["--export", str(model), "--output", str(tmp_path)]) == 0
    names = ["models.config", "batching.config", "monitoring.config"]
    assert capsys.readouterr().out.split() == [str(tmp_path / name) for name in names]
    texts = [(tmp_path / name).read_text("utf-8") for name in names]
    (config,) = parse_models(texts[0]).model_config_list.config
    assert (config.name, config.base_path) == ("toy", "/models/toy")
    assert config.model_platform == "tensorflow"
    assert config.model_version_policy.latest.num_versions == 1
    batching = parse_batching(texts[1])
    assert list(batching.allowed_batch_sizes) == [1, 3, 24]
    assert batching.max_batch_size.value == 24
    assert batching.pad_variable_length_inputs
    monitoring = parse_monitoring(texts[2])
    assert monitoring.prometheus_config.enable
    assert monitoring.prometheus_config.path == "/monitoring/prometheus/metrics"


def test_options_reach_the_files(model, tmp_path):
    write_config(model, tmp_path, "ctr", "s3://bucket/ctr", 2, 500, 8)
    config = parse_models((tmp_path / "models.config").read_text())
    (config,) = config.model_config_list.config
    assert (config.name, config.base_path) == ("ctr", "s3://bucket/ctr")
    assert config.model_version_policy.latest.num_versions == 2
    batching = parse_batching((tmp_path / "batching.config").read_text())
    assert batching.batch_timeout_micros.value == 500
    assert batching.num_batch_threads.value == 8


def test_field_numbers_are_those_of_the_public_protos():
    """As the bytes of a message: numbers, and wrappers in messages of their own."""
    message = text_format.Parse(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 3 } "
        "max_enqueued_batches { value: 4 } num_batch_threads { value: 2 } "
        'thread_pool_name { value: "x" } allowed_batch_sizes: 8 '
        "pad_variable_length_inputs: true enable_large_batch_splitting { value: true } "
        "max_execution_batch_size { value: 8 }",
        BatchingParameters(),
    )
    assert message.SerializeToString(deterministic=True) == bytes.fromhex(
        "0a020808 12020803 1a020804 22020802 2a030a0178 320108 3801 42020801 4a020808"
    )


MISTAKES = [
    (parse_models, "nonsense: 3", "This is no ModelServerConfig"),
    (parse_models, "", "must name a model"),
    (
        parse_models,
        'model_config_list { config { name: "a" base_path: "here" } }',
        "`base_path` of model 'a' must be an absolute path. Received: 'here'",
    ),
    (
        parse_models,
        'model_config_list { config { name: "a" base_path: "/a" } }',
        "`model_platform` of model 'a' must be 'tensorflow'",
    ),
    (
        parse_models,
        "model_config_list { "
        + 2 * 'config { name: "a" base_path: "/a" model_platform: "tensorflow" } '
        + "}",
        "names of their own. Received: 'a'",
    ),
    (parse_batching, "max_batch_size: 8", "This is no BatchingParameters"),
    (parse_batching, "max_batch_size { value: 0 }", "must be positive. Received: 0"),
    (
        parse_batching,
        "max_batch_size { value: 8 } allowed_batch_sizes: [2, 1, 8]",
        "must be positive and ascending. Received: [2, 1, 8]",
    ),
    (
        parse_batching,
        "max_batch_size { value: 8 } allowed_batch_sizes: [1, 4]",
        "The last of `allowed_batch_sizes` must be `max_batch_size`=8. Received: [1, 4",
    ),
    (
        parse_batching,
        "max_batch_size { value: 8 } enable_large_batch_splitting { value: true } "
        "max_execution_batch_size { value: 4 } allowed_batch_sizes: [1, 8]",
        "must be `max_execution_batch_size`=4",
    ),
    (parse_batching, "batch_timeout_micros { value: -1 }", "must not be negative"),
    (
        parse_monitoring,
        'prometheus_config { enable: true path: "metrics" }',
        "must begin with '/'. Received: 'metrics'",
    ),
]


@pytest.mark.parametrize("parse, text, message", MISTAKES)
def test_what_tf_serving_refuses_is_refused(parse, text, message):
    with pytest.raises(ValueError) as error:
        parse(text)
    assert message in str(error.value)
