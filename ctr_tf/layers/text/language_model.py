"""A language model whose layers run in parts, over embeddings that are given.

Shape suffixes: `B` batch, `L` tokens, `J` tokens as keys, `W` width.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.layers.checks import check_dropout
from ctr_tf.layers.text import lm_passes
from ctr_tf.layers.text.lm_backbone import check_folder, load_backbone
from ctr_tf.layers.text.low_rank import LoRA, LowRank
from ctr_tf.tensors import Shape, Tensor

TUNES = ("nothing", "lora", "upper", "layers", "all")
LayerBias = Callable[[int, Tensor], Tensor | None]
Watch = Callable[[int, Tensor], None]


@keras.saving.register_keras_serializable(package="ctr_tf")
class LanguageModel(keras.layers.Layer):
    """The language model of a folder, in three steps that can be called apart.

    `embed` looks tokens up, `begin` adds what an encoder adds to them, and `run` passes
    some of the layers. Between the first two, rows may be replaced. Called as a layer,
    it does all three: the last hidden states.

    A text's positions are counted from its first token, wherever padding is.

    Args:
        folder: of Hugging Face's layout, of an architecture of
            `lm_config.ARCHITECTURES`.
        pretrained: whether to read the folder's weights. A model whose weights come
            from elsewhere, such as a checkpoint, needs config.json alone.
        tune: what of the model learns. `"nothing"`; `"lora"`: factors beside its maps;
            `"upper"`: the upper half of its layers; `"layers"`: everything but the
            token table; `"all"`: that, too, as one must that begins with random
            weights.
        lora: which factors, where `tune` is `"lora"`.
        dropout: of hidden states and of attention's weights, in training; None: what
            config.json says of each.

    Call arguments:
        tokens: `[B, L]` int.
        mask: `[B, L]` bool, False on padding.
        training: whether dropout drops.

    Returns:
        `[B, L, W]`, the compute dtype.

    Raises:
        UserError: if the folder is not whole or not known here; for an unknown `tune`
            or map; if L is more than the model's longest text.

    Reference:
        CTR-Sink, sections 4.2 and 4.3 of our notes: rows of sinks are replaced, the
        lower half of the layers reads each text, the upper half reads the texts.
    """

    def __init__(
        self,
        folder: str,
        pretrained: bool = True,
        tune: str = "nothing",
        lora: LoRA | None = None,
        dropout: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if tune not in TUNES:
            raise UserError(unknown_name("part to tune", tune, TUNES))
        if (lora is not None) != (tune == "lora"):
            raise UserError(
                "`lora` is given where `tune` is 'lora', and there alone. "
                f"Received: tune='{tune}', lora={lora}"
            )
        if dropout is not None:
            check_dropout(dropout)
        self.folder = str(folder)
        self.pretrained = pretrained
        self.tune = tune
        self.lora = lora
        self.dropout = dropout
        self.config = check_folder(folder, pretrained)
        if lora is not None:
            self._check_lora(lora)

    @property
    def width(self) -> int:
        """W."""
        return self.config.width

    @property
    def num_layers(self) -> int:
        """M."""
        return self.config.num_layers

    @property
    def half(self) -> int:
        """The first layer of the upper half."""
        return self.num_layers // 2

    @property
    def attention_dropout(self) -> float:
        """Share of attention's weights that training drops."""
        own = self.config.attention_dropout
        return own if self.dropout is None else self.dropout

    @property
    def hidden_dropout(self) -> float:
        """Share of hidden states that training drops."""
        return self.config.dropout if self.dropout is None else self.dropout

    def _check_lora(self, lora: LoRA) -> None:
        check_dropout(lora.dropout)
        causal = self.config.is_causal
        known = lm_passes.DECODER_MAPS if causal else lm_passes.ENCODER_MAPS
        for name in lora.maps:
            if name not in known:
                raise UserError(unknown_name("map for LoRA", name, known))

    def build(
        self, tokens_shape: Shape | None = None, mask_shape: Shape | None = None
    ) -> None:
        """Makes keras-hub's model, reads the weights, adds factors."""
        _, self.backbone = load_backbone(
            self.folder, self.pretrained, self.dtype_policy
        )
        self.backbone.trainable = self.tune in ("upper", "layers", "all")
        if self.tune == "upper":
            for layer in self.backbone.layers:
                layer.trainable = False
            for layer in self.backbone.transformer_layers[self.half :]:
                layer.trainable = True
        if self.tune != "all":
            self.backbone.token_embedding.trainable = False
        if hasattr(self.backbone, "pooled_dense"):  # nothing here reads it
            self.backbone.pooled_dense.trainable = False
        self.factors = {} if self.lora is None else self._make_factors(self.lora)
        # One, by a name that does not count those of the process: it is saved.
        self.seed = keras.random.SeedGenerator(name="seed")
        self.built = True

    def _make_factors(self, lora: LoRA) -> dict[str, LowRank]:
        factors = {}
        for index in range(self.num_layers):
            for name in lora.maps:
                inputs, units = self._widths(name)
                layer = LowRank(
                    units,
                    lora.rank,
                    lora.alpha,
                    dtype=self.dtype_policy,
                    name=f"lora_{index}_{name}",
                )
                layer.build((None, inputs))
                factors[f"{index}_{name}"] = layer
        return factors

    def _widths(self, name: str) -> tuple[int, int]:
        """Of a map: widths of inputs and outputs, heads side by side."""
        width, config = self.width, self.config
        asked = config.num_heads * config.head_width
        kept = config.num_key_value_heads * config.head_width
        return {
            "query": (width, asked),
            "key": (width, kept),
            "value": (width, kept),
            "output": (asked, width),
            "down": (config.ffn_width, width),
        }.get(name, (width, config.ffn_width))

    def mean_row_norm(self) -> float:
        """Mean length of the token table's rows, before anything is added to them."""
        rows = ops.convert_to_numpy(self.backbone.token_embedding.embeddings)
        return float(np.linalg.norm(rows.astype(np.float32), axis=-1).mean())

    def embed(self, tokens: Tensor) -> Tensor:
        """Rows of the token table: `[B, L]` int → `[B, L, W]`."""
        layer = self.backbone.token_embedding
        if self.tune != "all":
            return layer(tokens)
        return ops.take(self._whole(layer.embeddings), tokens, axis=0)

    def begin(self, rows: Tensor, mask: Tensor, training: bool = False) -> Tensor:
        """What comes before the first layer.

        Encoders add positions and the first token type, and normalize.

        Args:
            rows: `[B, L, W]`, of `embed`, some perhaps replaced.
            mask: `[B, L]` bool, False on padding.
            training: whether dropout drops.

        Returns:
            `[B, L, W]`.
        """
        longest = self.config.max_length
        if rows.shape[1] > longest:
            raise UserError(
                f"The language model in '{self.folder}' reads texts of at most "
                f"{longest} tokens. Received: {rows.shape[1]} tokens"
            )
        rows = ops.cast(rows, self.compute_dtype)
        if self.config.is_causal:
            return rows
        table_XW, types = self._table("position"), self._table("segment")
        places_BLW = ops.take(table_XW, positions(mask), axis=0)
        hidden_BLW = self.backbone.embeddings_layer_norm(rows + places_BLW + types[0])
        return self._drop(self.hidden_dropout, training, hidden_BLW)

    def _drop(self, share: float, training: bool, inputs: Tensor) -> Tensor:
        if not (training and share):
            return inputs
        return keras.random.dropout(inputs, share, seed=self.seed)

    def _drop_weights(self, index, training, watch, weights):
        if watch is not None:
            watch(index, weights)
        return self._drop(self.attention_dropout, training, weights)

    def _table(self, name: str) -> Tensor:
        layer = getattr(self.backbone, f"{name}_embedding")
        attribute = "position_embeddings" if name == "position" else "embeddings"
        return self._whole(getattr(layer, attribute))

    def _whole(self, variable: keras.Variable) -> Tensor:
        """A product, so that its gradient is whole, not one of the rows looked up."""
        return ops.cast(variable.value * 1.0, self.compute_dtype)

    def run(
        self,
        hidden: Tensor,
        mask: Tensor,
        first: int = 0,
        last: int | None = None,
        bias: LayerBias | None = None,
        training: bool = False,
        watch: Watch | None = None,
    ) -> Tensor:
        """Passes layers `first` … `last` - 1, and a decoder's final norm.

        Args:
            hidden: `[B, L, W]`; L is static.
            mask: `[B, L]` bool, False on padding.
            first: the first layer.
            last: the layer to stop before; None: all.
            bias: `(layer, hidden states [B, L, W]) → [B, 1, L, L]` float32, added to
                the logits of attention, or None. The hidden states are those that the
                layer maps to queries: a decoder's after its norm.
            training: whether dropout drops.
            watch: given each layer and its attention's weights, `[B, H, L, L]` float32,
                before dropout.

        Returns:
            `[B, L, W]`.
        """
        causal, length = self.config.is_causal, hidden.shape[1]
        mask = ops.cast(mask, "bool")
        visible_B1LJ = mask[:, None, None, :]
        if causal:
            order = ops.arange(length)
            visible_B1LJ = visible_B1LJ & (order[:, None] >= order[None, :])
        step = lm_passes.encoder_layer
        if causal:
            step = functools.partial(
                lm_passes.decoder_layer, position_BL=positions(mask)
            )
        hidden = ops.cast(hidden, self.compute_dtype)
        for index in range(self.num_layers)[first:last]:
            hidden = step(
                self.backbone.transformer_layers[index],
                functools.partial(self._map, index, training),
                hidden,
                visible_B1LJ,
                bias_of=functools.partial(bias or _no_bias, index),
                drop=functools.partial(self._drop, self.hidden_dropout, training),
                drop_weights=functools.partial(
                    self._drop_weights, index, training, watch
                ),
            )
        return self.backbone.layer_norm(hidden) if causal else hidden

    def _map(self, index: int, training: bool, name: str, inputs: Tensor) -> Tensor:
        """A map of a layer and, where there are, its factors.

        As one product of matrices: keras-hub's own, by Keras' einsum, is one a text on
        TensorFlow, and its gradient holds a kernel's a text before it sums them.
        """
        layer = lm_passes.map_of(
            self.backbone.transformer_layers[index], name, self.config.is_causal
        )
        width, units = self._widths(name)
        rows = ops.reshape(inputs, (-1, width))
        kernel = ops.cast(layer.kernel.value, self.compute_dtype)
        outputs = ops.matmul(rows, ops.reshape(kernel, (width, units)))
        if layer.bias is not None:
            bias = ops.cast(layer.bias.value, self.compute_dtype)
            outputs = outputs + ops.reshape(bias, (units,))
        factors = self.factors.get(f"{index}_{name}")
        if factors is not None:
            assert self.lora is not None
            outputs = outputs + factors(self._drop(self.lora.dropout, training, rows))
        if layer.activation is not None:
            outputs = layer.activation(outputs)
        heads_apart = (units,) if name == "output" else layer.kernel.shape[1:]
        return ops.reshape(outputs, (-1, inputs.shape[1], *heads_apart))

    def call(self, tokens: Tensor, mask: Tensor, training: bool = False) -> Tensor:
        """The last hidden states."""
        hidden = self.begin(self.embed(tokens), mask, training)
        return self.run(hidden, mask, training=training)

    def compute_output_spec(
        self, tokens: Tensor, mask: Tensor, training: bool = False
    ) -> keras.KerasTensor:
        """One row a token."""
        return keras.KerasTensor((*tokens.shape, self.width), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "folder": self.folder,
            "pretrained": self.pretrained,
            "tune": self.tune,
            "lora": None if self.lora is None else dataclasses.asdict(self.lora),
            "dropout": self.dropout,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LanguageModel":
        """Inverse of `get_config`."""
        if config["lora"] is not None:
            lora = {**config["lora"], "maps": tuple(config["lora"]["maps"])}
            config = {**config, "lora": LoRA(**lora)}
        return cls(**config)


def positions(mask: Tensor) -> Tensor:
    """`[B, L]` bool → int32: tokens count from 0, padding before them is at 0."""
    count = ops.cumsum(ops.cast(mask, "int32"), axis=1)
    return ops.maximum(count - 1, 0)


def _no_bias(index: int, hidden: Tensor) -> None:
    return None
