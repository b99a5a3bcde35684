"""What a `config.json` of Hugging Face's layout says about a language model.

Nothing here needs the library that holds the models: what is wrong is told at once.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.storage import as_path
from ctr_tf.storage.files import read_json

LM_CONFIG = "config.json"
ENCODERS = ("bert",)
DECODERS = ("llama", "qwen2", "qwen3")
ARCHITECTURES = (*ENCODERS, *DECODERS)

# As files name an activation → as `keras.activations` does, tanh's GELU apart.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
# Options under which another model than ours would be meant, and the values, the first
# the default, under which it is ours.
_ONLY: dict[str, dict[str, tuple]] = {
    "bert": {
        "position_embedding_type": ("absolute",),
        "is_decoder": (False,),
        "add_cross_attention": (False,),
    },
    "llama": {"attention_bias": (False,), "mlp_bias": (False,)},
    "qwen2": {"use_sliding_window": (False,)},
    "qwen3": {"use_sliding_window": (False,), "attention_bias": (False,)},
}
_LLAMA3_ROPE = (
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
)


@dataclasses.dataclass(frozen=True)
class LMConfig:
    """Sizes and options of a language model, checked.

    Args:
        architecture: of `ARCHITECTURES`.
        vocabulary_size: rows of the token table.
        width: W.
        num_layers: M.
        num_heads: H, of queries.
        num_key_value_heads: of keys and values; divides H.
        head_width: of a head.
        ffn_width: between the feed-forward maps.
        activation: of the feed-forward maps, a value of `ACTIVATIONS`.
        epsilon: of the norms.
        max_length: the most tokens of a text.
        dropout: of embeddings and of the output of each half of a layer.
        attention_dropout: of attention's weights.
        num_segments: rows of an encoder's token-type table; 0 for decoders.
        rope_base: of a decoder's rotations.
        rope_scaling: of Llama 3's rotations, in the order of `_LLAMA3_ROPE`; or None.
    """

    architecture: str
    vocabulary_size: int
    width: int
    num_layers: int
    num_heads: int
    num_key_value_heads: int
    head_width: int
    ffn_width: int
    activation: str
    epsilon: float
    max_length: int
    dropout: float = 0.0
    attention_dropout: float = 0.0
    num_segments: int = 0
    rope_base: float = 10_000.0
    rope_scaling: tuple[float, ...] | None = None

    @property
    def is_causal(self) -> bool:
        """Whether a token sees those before it alone."""
        return self.architecture in DECODERS


def read_lm_config(folder: str | Path) -> LMConfig:
    """Reads and checks `config.json` of a folder.

    Raises:
        UserError: names the file, the key and the value received, if the file is not
            there, or says something that is not known here.
    """
    if not as_path(folder).is_dir():
        raise UserError(f"There is no folder '{folder}' of a language model.")
    path = as_path(folder) / LM_CONFIG
    if not path.is_file():
        found = (
            ", ".join(sorted(p.name for p in as_path(folder).iterdir())) or "(nothing)"
        )
        raise UserError(
            f"A language model's folder holds config.json, model.safetensors and "
            f"tokenizer.json; there is no '{path}'. Received: {found}"
        )
    return _Reader(path).config()


class _Reader:
    """The values of one file, each checked as it is read."""

    def __init__(self, path: Path):
        self.path = path
        values = read_json(path)
        if not isinstance(values, Mapping):
            raise UserError(f"'{path}' is not a JSON object. Received: {values!r}")
        self.values = values

    def config(self) -> LMConfig:
        architecture = self.known("model_type", ARCHITECTURES)
        self._check_options(architecture)
        return self._encoder() if architecture in ENCODERS else self._decoder()

    def _check_options(self, architecture: str) -> None:
        if self.values.get("quantization_config") is not None:
            self.fail("quantization_config", "whose weights are not plain floats")
        for key, allowed in _ONLY[architecture].items():
            if self.values.get(key, allowed[0]) not in allowed:
                self.fail(key, f"which {architecture} here has as {allowed[0]!r} only")

    def _encoder(self) -> LMConfig:
        activation = ACTIVATIONS[self.known("hidden_act", ACTIVATIONS)]
        heads = self.count("num_attention_heads")
        return LMConfig(
            **self._sizes(),
            num_key_value_heads=heads,
            head_width=self._split(heads),
            activation=activation,
            epsilon=self.positive("layer_norm_eps"),
            dropout=self.share("hidden_dropout_prob", 0.1),
            attention_dropout=self.share("attention_probs_dropout_prob", 0.1),
            num_segments=self.count("type_vocab_size"),
        )

    def _decoder(self) -> LMConfig:
        activation = ACTIVATIONS[self.known("hidden_act", ("silu", "swish"))]
        heads = self.count("num_attention_heads")
        groups = self.count("num_key_value_heads")
        if heads % groups:
            self.fail("num_key_value_heads", f"which divides the {heads} heads")
        width = self._head_width(heads)
        if width % 2:
            self.fail("head_dim", f"which is even, so that heads turn (it is {width})")
        return LMConfig(
            **self._sizes(),
            num_key_value_heads=groups,
            head_width=width,
            activation=activation,
            epsilon=self.positive("rms_norm_eps"),
            attention_dropout=self.share("attention_dropout", 0.0),
            **self._rope(),
        )

    def _sizes(self) -> dict[str, Any]:
        return {
            "architecture": self.values["model_type"],
            "vocabulary_size": self.count("vocab_size"),
            "width": self.count("hidden_size"),
            "num_layers": self.count("num_hidden_layers"),
            "num_heads": self.count("num_attention_heads"),
            "ffn_width": self.count("intermediate_size"),
            "max_length": self.count("max_position_embeddings"),
        }

    def _head_width(self, heads: int) -> int:
        if self.values["model_type"] == "qwen3":
            return self.count("head_dim")
        width = self._split(heads)
        if (self.values.get("head_dim") or width) != width:
            self.fail("head_dim", f"which is hidden_size / heads = {width} here")
        return width

    def _split(self, heads: int) -> int:
        width = self.count("hidden_size")
        if width % heads:
            self.fail("num_attention_heads", f"which divides hidden_size = {width}")
        return width // heads

    def _rope(self) -> dict[str, Any]:
        options = self.values.get("rope_parameters") or {}
        scaling = self.values.get("rope_scaling") or options
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        base = options.get("rope_theta") or self.values.get("rope_theta") or 10_000.0
        if kind == "default":
            return {"rope_base": float(base)}
        if kind != "llama3" or self.values["model_type"] != "llama":
            self.fail("rope_scaling" if "rope_scaling" in self.values else "rope_type")
        missing = [key for key in _LLAMA3_ROPE if key not in scaling]
        if missing:
            self.fail("rope_scaling", f"which lacks {', '.join(missing)}")
        values = tuple(float(scaling[key]) for key in _LLAMA3_ROPE)
        return {"rope_base": float(base), "rope_scaling": values}

    def count(self, key: str) -> int:
        value = self._get(key)
        if type(value) is not int or value < 1:
            self.fail(key, "which is a whole number above 0")
        return value

    def positive(self, key: str) -> float:
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            self.fail(key, "which is a number above 0")
        return float(value)

    def share(self, key: str, default: float) -> float:
        value = self.values.get(key, default)
        if not isinstance(value, int | float) or not 0 <= value < 1:
            self.fail(key, "which lies between 0 and 1")
        return float(value)

    def known(self, key: str, names: Any) -> str:
        value = self._get(key)
        if value not in tuple(names):
            raise UserError(f"'{self.path}': {unknown_name(key, value, names)}")
        return value

    def _get(self, key: str) -> Any:
        if key not in self.values:
            raise UserError(
                f"'{self.path}' lacks the key '{key}'. "
                f"Received: {', '.join(sorted(self.values)) or '(nothing)'}"
            )
        return self.values[key]

    def fail(self, key: str, why: str = "which is not known here") -> NoReturn:
        received = self.values.get(key, self.values.get("rope_parameters"))
        raise UserError(f"'{self.path}': key '{key}', {why}. Received: {received!r}")
