"""Slow and obvious language models, for tests: NumPy, float64, one text, one head."""

import json
import math
import struct
from pathlib import Path

import numpy as np

_DTYPES = {"F32": np.float32, "I64": np.int64}


def read_safetensors(path) -> dict[str, np.ndarray]:
    data = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, about in header.items():
        begin, end = (8 + length + offset for offset in about["data_offsets"])
        tensor = np.frombuffer(data[begin:end], _DTYPES[about["dtype"]])
        tensors[name] = tensor.reshape(about["shape"]).astype(np.float64)
    return tensors


def softmax(logits):
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def gelu(values):
    return values * 0.5 * (1 + np.vectorize(math.erf)(values / math.sqrt(2)))


def layer_norm(rows, scale, offset, epsilon):
    centered = rows - rows.mean(axis=-1, keepdims=True)
    variance = np.mean(centered**2, axis=-1, keepdims=True)
    return centered / np.sqrt(variance + epsilon) * scale + offset


def bert(weights, config, ids, bias=None):
    """The last hidden states `[L, W]` of one text without padding.

    `bias`: `[L, L]`, added to the logits of every head of the first layer.
    """

    def norm(rows, name):
        scale, offset = (weights[f"{name}.LayerNorm.{n}"] for n in ("weight", "bias"))
        return layer_norm(rows, scale, offset, config["layer_norm_eps"])

    def dense(rows, name):
        return rows @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    places = weights["embeddings.position_embeddings.weight"][: len(ids)]
    rows = weights["embeddings.word_embeddings.weight"][ids] + places
    rows = norm(
        rows + weights["embeddings.token_type_embeddings.weight"][0], "embeddings"
    )
    heads = config["num_attention_heads"]
    width = config["hidden_size"] // heads
    for index in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{index}"
        query, key, value = (
            dense(rows, f"{layer}.attention.self.{n}")
            for n in ("query", "key", "value")
        )
        read = np.zeros_like(rows)
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            for i in range(len(ids)):
                logits = key[:, part] @ query[i, part] / math.sqrt(width)
                if bias is not None and index == 0:
                    logits = logits + bias[i]
                read[i, part] = softmax(logits) @ value[:, part]
        rows = rows + dense(read, f"{layer}.attention.output.dense")
        rows = norm(rows, f"{layer}.attention.output")
        inner = gelu(dense(rows, f"{layer}.intermediate.dense"))
        rows = norm(rows + dense(inner, f"{layer}.output.dense"), f"{layer}.output")
    return rows


def inter_sink(rows, places, query, key, heads, gamma, length):
    """The bias `[L, L]` of a text: `rows` are those of real sinks, normed."""
    width = rows.shape[1] // heads
    asked = rows @ query[0] + query[1]
    keys = rows @ key[0] + key[1]
    bias = np.zeros((length, length))
    for i, from_place in enumerate(places):
        weights = np.zeros(len(places))
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            logits = keys[:, part] @ asked[i, part] / math.sqrt(width)
            weights += softmax(logits) / heads
        for j, to_place in enumerate(places):
            bias[from_place, to_place] = gamma * weights[j]
    return bias
