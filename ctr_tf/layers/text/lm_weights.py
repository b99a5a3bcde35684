"""Weights of a language model in a folder of Hugging Face's layout.

One list says what each tensor of the file is called, what shape it has, and which
variable of keras-hub's model it is: by it files are checked, before anything is built,
and read.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ctr_tf.errors import UserError
from ctr_tf.layers.text.lm_config import LMConfig
from ctr_tf.storage import as_local
from ctr_tf.storage.files import read_json

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
_DTYPES = ("F64", "F32", "F16", "BF16")
_WITH_BIAS = ("q_proj", "k_proj", "v_proj")  # of Qwen2


class _Place(NamedTuple):
    """Where a tensor lies."""

    path: Path
    name: str
    shape: tuple[int, ...]


class _Weight(NamedTuple):
    """A tensor of the file, and the variable of keras-hub's model that it is."""

    name: str
    shape: tuple[int, ...]
    variable: str  # a path of attributes and indices


def find_weights(folder: str | Path, config: LMConfig) -> dict[str, _Place]:
    """Finds every weight that the model needs.

    Args:
        folder: holds model.safetensors, or the parts that its index names.
        config: of the model.

    Returns:
        Paths of variables of keras-hub's model, such as `layer_norm.scale` → places.

    Raises:
        UserError: names the file and the tensor, if a file is not there, is cut short
            or is none of safetensors, or if a tensor is missing or of another shape.
    """
    tensors: dict[str, tuple[Path, dict]] = {}
    folder = as_local(folder, "A language model's folder")
    for path in _files(folder):
        tensors |= {name: (path, about) for name, about in read_header(path).items()}
    weights = list(_weights(config))
    prefix = _prefix(folder, tensors, weights[0].name)
    return {w.variable: _place(folder, tensors, prefix, w) for w in weights}


def read_weights(places: dict[str, _Place], backbone: Any) -> None:
    """Reads what `find_weights` found into a model of keras-hub."""
    import safetensors

    for path in sorted({place.path for place in places.values()}):
        with safetensors.safe_open(path, framework="np") as file:
            for variable, place in places.items():
                if place.path == path:
                    _assign(_variable(backbone, variable), file.get_tensor(place.name))


def read_header(path: Path) -> dict[str, dict]:
    """The header of a file of safetensors: names → dtype, shape and data_offsets.

    Raises:
        UserError: names the file, if it is shorter or longer than its header says, or
            if it has no header.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(8)
        length = struct.unpack("<Q", begin)[0] if len(begin) == 8 else size
        if length > size - 8:
            raise UserError(
                f"'{path}' is no file of safetensors, or is cut short within its "
                f"header. Received: {size:,} bytes"
            )
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            ends = [about["data_offsets"][1] for about in header.values()]
            data = max(ends, default=0)
        except (ValueError, AttributeError, TypeError, KeyError) as error:
            raise UserError(
                f"'{path}' is no file of safetensors: its header is not JSON that "
                f"describes tensors. Received: {error!r}"
            ) from error
    if size != 8 + length + data:
        raise UserError(
            f"'{path}' is not whole: its header tells of {8 + length + data:,} bytes. "
            f"Received: {size:,} bytes"
        )
    return header


def _files(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        parts = read_json(folder / INDEX)
        if not isinstance(parts, dict) or not isinstance(parts.get("weight_map"), dict):
            raise UserError(
                f"'{folder / INDEX}' has no 'weight_map'. Received: {parts!r}"
            )
        paths = [folder / name for name in sorted(set(parts["weight_map"].values()))]
    else:
        paths = [folder / FILE]
    for path in paths:
        if not path.is_file():
            found = ", ".join(sorted(p.name for p in folder.iterdir())) or "(nothing)"
            raise UserError(
                f"There is no file '{path}' of the language model's weights. "
                f"Received: {found}"
            )
    return paths


def _prefix(folder: Path, tensors: dict, first: str) -> str:
    """What stands before every name, such as `bert.`, by the name of the first."""
    found = [n for n in tensors if n == first or n.endswith("." + first)]
    if len(found) != 1:
        _fail_missing(folder, tensors, first)
    return found[0].removesuffix(first)


def _place(folder: Path, tensors: dict, prefix: str, weight: _Weight) -> _Place:
    # Norms of the first BERTs call their weights as TensorFlow did.
    old = weight.name.replace("LayerNorm.weight", "LayerNorm.gamma")
    old = old.replace("LayerNorm.bias", "LayerNorm.beta")
    names = [name for name in (prefix + weight.name, prefix + old) if name in tensors]
    if not names:
        _fail_missing(folder, tensors, prefix + weight.name)
    path, about = tensors[names[0]]
    if tuple(about["shape"]) != weight.shape or about["dtype"] not in _DTYPES:
        raise UserError(
            f"'{path}': tensor '{names[0]}' is {list(weight.shape)} floats by "
            f"config.json. Received: {about['shape']} of {about['dtype']}"
        )
    return _Place(path, names[0], weight.shape)


def _fail_missing(folder: Path, tensors: dict, name: str) -> NoReturn:
    some = ", ".join(sorted(tensors)[:3]) or "(nothing)"
    raise UserError(
        f"The weights in '{folder}' lack tensor '{name}', which the architecture of "
        f"config.json has. Received: {len(tensors)} tensors, such as {some}"
    )


def _variable(backbone: Any, path: str) -> Any:
    for part in path.split("."):
        backbone = backbone[int(part)] if part.isdigit() else getattr(backbone, part)
    return backbone


def _assign(variable: Any, tensor: np.ndarray) -> None:
    """PyTorch's maps are `[out, in]`, of all heads side by side."""
    if variable.path.endswith("/kernel"):
        tensor = tensor.T
    variable.assign(tensor.astype(np.float32).reshape(variable.shape))


def _weights(config: LMConfig) -> Iterator[_Weight]:
    if config.is_causal:
        yield from _decoder(config)
    else:
        yield from _encoder(config)


def _encoder(config: LMConfig) -> Iterator[_Weight]:
    width, ffn = config.width, config.ffn_width
    for name, rows, variable in (
        ("word", config.vocabulary_size, "token_embedding.embeddings"),
        ("position", config.max_length, "position_embedding.position_embeddings"),
        ("token_type", config.num_segments, "segment_embedding.embeddings"),
    ):
        yield _Weight(f"embeddings.{name}_embeddings.weight", (rows, width), variable)
    yield from _layer_norm("embeddings.LayerNorm", width, "embeddings_layer_norm")
    for index in range(config.num_layers):
        there, here = f"encoder.layer.{index}.", f"transformer_layers.{index}."
        for name, units, inputs, layer in (
            ("attention.self.query", width, width, "_self_attention_layer.query_dense"),
            ("attention.self.key", width, width, "_self_attention_layer.key_dense"),
            ("attention.self.value", width, width, "_self_attention_layer.value_dense"),
            (
                "attention.output.dense",
                width,
                width,
                "_self_attention_layer.output_dense",
            ),
            ("intermediate.dense", ffn, width, "_feedforward_intermediate_dense"),
            ("output.dense", width, ffn, "_feedforward_output_dense"),
        ):
            kernel, bias = f"{here}{layer}.kernel", f"{here}{layer}.bias"
            yield _Weight(f"{there}{name}.weight", (units, inputs), kernel)
            yield _Weight(f"{there}{name}.bias", (units,), bias)
        for name, layer in (
            ("attention.output.LayerNorm", "_self_attention_layer_norm"),
            ("output.LayerNorm", "_feedforward_layer_norm"),
        ):
            yield from _layer_norm(there + name, width, here + layer)


def _layer_norm(name: str, width: int, layer: str) -> Iterator[_Weight]:
    yield _Weight(f"{name}.weight", (width,), f"{layer}.gamma")
    yield _Weight(f"{name}.bias", (width,), f"{layer}.beta")


def _decoder(config: LMConfig) -> Iterator[_Weight]:
    width, ffn = config.width, config.ffn_width
    asked = config.num_heads * config.head_width
    kept = config.num_key_value_heads * config.head_width
    table = (config.vocabulary_size, width)
    yield _Weight("embed_tokens.weight", table, "token_embedding.embeddings")
    yield _Weight("norm.weight", (width,), "layer_norm.scale")
    for index in range(config.num_layers):
        there, here = f"layers.{index}.", f"transformer_layers.{index}."
        attention = f"{here}_self_attention_layer."
        for name, shape, layer in (
            ("self_attn.q_proj", (asked, width), f"{attention}_query_dense"),
            ("self_attn.k_proj", (kept, width), f"{attention}_key_dense"),
            ("self_attn.v_proj", (kept, width), f"{attention}_value_dense"),
            ("self_attn.o_proj", (width, asked), f"{attention}_output_dense"),
            ("mlp.gate_proj", (ffn, width), f"{here}_feedforward_gate_dense"),
            ("mlp.up_proj", (ffn, width), f"{here}_feedforward_intermediate_dense"),
            ("mlp.down_proj", (width, ffn), f"{here}_feedforward_output_dense"),
        ):
            yield _Weight(f"{there}{name}.weight", shape, f"{layer}.kernel")
            if config.architecture == "qwen2" and name[-6:] in _WITH_BIAS:
                yield _Weight(f"{there}{name}.bias", shape[:1], f"{layer}.bias")
        norms = [
            ("input_layernorm", width, f"{here}_self_attention_layernorm"),
            ("post_attention_layernorm", width, f"{here}_feedforward_layernorm"),
        ]
        if config.architecture == "qwen3":
            heads = config.head_width
            norms += [
                ("self_attn.q_norm", heads, f"{attention}_query_dense_layer_norm"),
                ("self_attn.k_norm", heads, f"{attention}_key_dense_layer_norm"),
            ]
        for name, size, layer in norms:
            yield _Weight(f"{there}{name}.weight", (size,), f"{layer}.scale")
