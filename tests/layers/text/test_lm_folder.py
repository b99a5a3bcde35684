"""Folders of language models: what is wrong is told, before keras-hub is imported."""

import json
import struct
import subprocess
import sys

import numpy as np
import pytest
from small_language_model import BERT, make_folder, tensors, write_weights

from ctr_tf.errors import UserError
from ctr_tf.layers.text.lm_backbone import load_backbone
from ctr_tf.layers.text.lm_config import read_lm_config
from ctr_tf.layers.text.lm_weights import read_header


@pytest.fixture(autouse=True)
def no_keras_hub(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)


def message(folder):
    with pytest.raises(UserError) as error:
        load_backbone(folder)
    return str(error.value)


def test_a_folder_that_is_not_there(tmp_path):
    assert message(tmp_path / "lm") == (
        f"There is no folder '{tmp_path / 'lm'}' of a language model."
    )


def test_a_folder_without_a_config(tmp_path):
    (tmp_path / "vocab.txt").write_text("a")
    text = message(tmp_path)
    assert f"there is no '{tmp_path / 'config.json'}'" in text
    assert text.endswith("Received: vocab.txt")


@pytest.mark.parametrize(
    ("architecture", "changes", "expected"),
    [
        ("bert", {"model_type": "roberta"}, "Unknown model_type 'roberta'."),
        ("bert", {"model_type": "brt"}, "Did you mean 'bert'? Known: bert, llama"),
        ("bert", {"model_type": None}, "lacks the key 'model_type'. Received: hidden_"),
        ("bert", {"hidden_act": "mish"}, "hidden_act 'mish'. Did you mean 'swish'?"),
        ("llama", {"hidden_act": "gelu"}, "Unknown hidden_act 'gelu'. Known: silu, "),
        ("bert", {"layer_norm_eps": None}, "lacks the key 'layer_norm_eps'."),
        ("bert", {"layer_norm_eps": "1e-12"}, "Received: '1e-12'"),
        ("bert", {"hidden_size": 0}, "key 'hidden_size', which is a whole number"),
        ("bert", {"num_hidden_layers": 4.0}, "Received: 4.0"),
        ("bert", {"num_attention_heads": 3}, "which divides hidden_size = 16. Rec"),
        ("llama", {"num_key_value_heads": 3}, "which divides the 4 heads. Received: 3"),
        ("llama", {"head_dim": 8}, "key 'head_dim', which is hidden_size / heads = 4"),
        ("qwen3", {"head_dim": 5}, "which is even"),
        ("bert", {"hidden_dropout_prob": 1}, "which lies between 0 and 1. Received: 1"),
        (
            "bert",
            {"position_embedding_type": "relative_key"},
            "which bert here has as 'absolute' only. Received: 'relative_key'",
        ),
        ("bert", {"is_decoder": True}, "key 'is_decoder'"),
        ("qwen2", {"use_sliding_window": True}, "key 'use_sliding_window'"),
        ("llama", {"attention_bias": True}, "key 'attention_bias'"),
        (
            "qwen2",
            {"quantization_config": {"bits": 4}},
            "not plain floats. Received: {",
        ),
        (
            "qwen2",
            {"rope_scaling": {"type": "yarn", "factor": 4.0}},
            "key 'rope_scaling', which is not known here. Received: {'type': 'yarn'",
        ),
        (
            "llama",
            {"rope_parameters": {"rope_type": "linear"}},
            "key 'rope_type', which",
        ),
        ("llama", {"rope_scaling": {"rope_type": "llama3"}}, "which lacks factor, low"),
    ],
)
def test_a_config_of_another_model(tmp_path, architecture, changes, expected):
    text = message(make_folder(tmp_path, architecture, **changes))
    assert expected in text
    assert text.startswith(f"'{tmp_path / 'config.json'}'")


@pytest.mark.parametrize("text", ["{", "[1]", "\ufeff"])
def test_a_config_that_is_no_object_of_json(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert message(tmp_path).startswith(f"'{tmp_path / 'config.json'}' is not ")


def test_options_of_llama_3(tmp_path):
    scaling = {
        "rope_type": "llama3",
        "factor": 8,
        "low_freq_factor": 1,
        "high_freq_factor": 4,
        "original_max_position_embeddings": 8192,
    }
    config = read_lm_config(make_folder(tmp_path, "llama", rope_scaling=scaling))
    assert config.rope_scaling == (8.0, 1.0, 4.0, 8192.0) and config.rope_base == 1000
    new = {"rope_theta": 500.0, "rope_type": "default"}
    config = read_lm_config(
        make_folder(tmp_path, "llama", rope_theta=None, rope_parameters=new)
    )
    assert config.rope_scaling is None and config.rope_base == 500


def test_a_folder_without_weights(tmp_path):
    folder = make_folder(tmp_path)
    assert message(folder) == (
        f"There is no file '{folder / 'model.safetensors'}' of the language model's "
        "weights. Received: config.json"
    )


def test_a_part_of_the_weights_that_is_not_there(tmp_path):
    folder = make_folder(tmp_path)
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    write_weights(folder, {"a": np.ones(2)})
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    assert f"There is no file '{folder / 'two.safetensors'}'" in message(folder)
    (folder / "model.safetensors.index.json").write_text("{}")
    assert message(folder).endswith("has no 'weight_map'. Received: {}")


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (-1, "is not whole: its header tells of"),
        (100, "cut short"),
        (3, "Received: 3 by"),
    ],
)
def test_weights_that_are_cut_short(tmp_path, left, expected):
    path = make_folder(tmp_path, weights=True) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    text = message(tmp_path)
    assert text.startswith(f"'{path}'") and expected in text


@pytest.mark.parametrize("header", [b"no json ", b"[1, 2]  ", b'{"a": 1}'])
def test_weights_that_are_no_file_of_safetensors(tmp_path, header):
    path = make_folder(tmp_path) / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert "is no file of safetensors" in message(tmp_path)


def test_weights_of_another_architecture(tmp_path):
    make_folder(tmp_path, "llama", weights=True)
    make_folder(tmp_path, "bert")
    text = message(tmp_path)
    assert "lack tensor 'embeddings.word_embeddings.weight'" in text
    assert text.endswith("model.layers.0.mlp.down_proj.weight")


def test_a_missing_tensor_and_one_of_another_shape_or_type(tmp_path):
    make_folder(tmp_path, weights=True)
    values = tensors(BERT)
    name = "encoder.layer.3.attention.self.key.bias"
    write_weights(tmp_path, {k: v for k, v in values.items() if k != name})
    assert f"lack tensor '{name}'" in message(tmp_path)
    write_weights(tmp_path, {**values, name: np.ones(15, np.float32)})
    assert f"tensor '{name}' is [16] floats by config.json. Received: [15] of F32" in (
        message(tmp_path)
    )
    write_weights(tmp_path, {**values, name: np.ones(16, np.int8)})
    assert message(tmp_path).endswith("Received: [16] of I8")


def test_a_header_tells_names_and_shapes(tmp_path):
    make_folder(tmp_path, weights=True)
    header = read_header(tmp_path / "model.safetensors")
    assert {k: tuple(v["shape"]) for k, v in header.items()} == {
        k: v.shape for k, v in tensors(BERT).items()
    }


def test_a_folder_that_is_whole_asks_for_keras_hub(tmp_path):
    with pytest.raises(ImportError):
        load_backbone(make_folder(tmp_path, weights=True))


def test_what_is_slow_to_import_is_not_imported_before_a_model_is_made():
    program = (
        "import sys, ctr_tf.layers.text.text_reader, ctr_tf.layers.text.texts_head\n"
        "print({'keras_hub', 'safetensors', 'tokenizers'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
