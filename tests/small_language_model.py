"""Small folders of Hugging Face's layout, with random weights, for tests."""

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

BERT = {
    "model_type": "bert",
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 20,
    "type_vocab_size": 2,
}
_DECODER = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 20,
    "rope_theta": 1000.0,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "sliding_window": 32,
}
CONFIGS = {
    "bert": BERT,
    "llama": {**_DECODER, "model_type": "llama"},
    "qwen2": {**_DECODER, "model_type": "qwen2"},
    "qwen3": {**_DECODER, "model_type": "qwen3", "head_dim": 6},
}


def make_folder(folder, architecture="bert", weights=False, **changes):
    """Writes a folder; a key that is changed to None is left out. Returns its path."""
    folder.mkdir(exist_ok=True)
    config = {**CONFIGS[architecture], **changes}
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    if weights:
        write_weights(folder, tensors(config))
    return folder


@functools.cache
def folder(architecture="bert"):
    """A folder without weights, for texts of 64 tokens of 120; its path, a text."""
    made = Path(tempfile.mkdtemp(prefix="language_model_"))
    atexit.register(shutil.rmtree, made)
    return str(
        make_folder(made, architecture, max_position_embeddings=64, vocab_size=120)
    )


def write_weights(folder, values):
    from safetensors.numpy import save_file

    values = {name: np.ascontiguousarray(value) for name, value in values.items()}
    save_file(values, folder / "model.safetensors")


def tensors(config, seed=0):
    """Random tensors of a model, called as Hugging Face's causal models call them."""
    random = np.random.default_rng(seed)
    width, ffn = config["hidden_size"], config["intermediate_size"]
    shapes = {}
    if config["model_type"] == "bert":
        for name, rows in (
            ("word", config["vocab_size"]),
            ("position", config["max_position_embeddings"]),
            ("token_type", config["type_vocab_size"]),
        ):
            shapes[f"embeddings.{name}_embeddings.weight"] = (rows, width)
        norms, maps = ["embeddings.LayerNorm"], {"pooler.dense": (width, width)}
        for index in range(config["num_hidden_layers"]):
            layer = f"encoder.layer.{index}"
            for name in ("self.query", "self.key", "self.value", "output.dense"):
                maps[f"{layer}.attention.{name}"] = (width, width)
            maps[f"{layer}.intermediate.dense"] = (ffn, width)
            maps[f"{layer}.output.dense"] = (width, ffn)
            norms += [
                f"{layer}.attention.output.LayerNorm",
                f"{layer}.output.LayerNorm",
            ]
        for name in norms:
            shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
        for name, shape in maps.items():
            shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    else:
        heads, groups = (config[f"num_{n}_heads"] for n in ("attention", "key_value"))
        head = config.get("head_dim", width // heads)
        shapes["model.embed_tokens.weight"] = (config["vocab_size"], width)
        shapes["model.norm.weight"] = (width,)
        for index in range(config["num_hidden_layers"]):
            layer = f"model.layers.{index}"
            for name, count in (("q", heads), ("k", groups), ("v", groups)):
                shapes[f"{layer}.self_attn.{name}_proj.weight"] = (count * head, width)
                if config["model_type"] == "qwen2":
                    shapes[f"{layer}.self_attn.{name}_proj.bias"] = (count * head,)
                if config["model_type"] == "qwen3" and name != "v":
                    shapes[f"{layer}.self_attn.{name}_norm.weight"] = (head,)
            shapes[f"{layer}.self_attn.o_proj.weight"] = (width, heads * head)
            for name in ("gate", "up"):
                shapes[f"{layer}.mlp.{name}_proj.weight"] = (ffn, width)
            shapes[f"{layer}.mlp.down_proj.weight"] = (width, ffn)
            shapes[f"{layer}.input_layernorm.weight"] = (width,)
            shapes[f"{layer}.post_attention_layernorm.weight"] = (width,)
    return {
        name: random.normal(0.1, 0.4, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def batch(size=3, length=12, vocabulary=60, seed=0, left=False):
    """Tokens and a mask; the first text is full, the last has one token."""
    random = np.random.default_rng(seed)
    lengths = random.integers(2, length, size)
    lengths[0], lengths[-1] = length, 1
    place = np.arange(length)
    mask = place < lengths[:, None]
    tokens = np.where(mask, random.integers(3, vocabulary, (size, length)), 0)
    if left:
        tokens, mask = tokens[:, ::-1], mask[:, ::-1]
    return tokens.astype(np.int32), np.ascontiguousarray(mask)
