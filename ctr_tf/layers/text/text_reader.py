"""A language model with sinks: from tokens to one vector a text, and texts together.

Shape suffixes: `B` batch, `L` tokens, `S` sinks, `T` texts, `W` width.
"""

import functools
from typing import Any, Self

import keras
from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.layers.text.inter_sink_attention import InterSinkAttention
from ctr_tf.layers.text.language_model import LanguageModel, Watch
from ctr_tf.layers.text.sink_embedding import SinkEmbedding
from ctr_tf.layers.text.sink_places import one_hot_places, replace_rows
from ctr_tf.layers.text.token_pooling import pool_text
from ctr_tf.tensors import Shape, Tensor

_GAMMA = {False: 10.0, True: 1.0}  # of encoders and of decoders


@keras.saving.register_keras_serializable(package="ctr_tf")
class TextReader(keras.layers.Layer):
    """Reads each text alone with the lower half of the layers, then all together.

    Called as a layer, it reads texts; `join` passes the upper half over their vectors.

    Args:
        model: the language model.
        signal_width: of a sink's signal. None: sinks stand in a text as the token
            table has them.
        sink_scale: how long a sink's row is at first, in those of the token table.
        num_inter_sink: how many of the first layers add a bias at pairs of sinks.
        split: whether `join` passes the upper half; else all layers read a text, and
            `join` passes none.

    Call arguments:
        tokens: `[B, L]` int, L static.
        mask: `[B, L]` bool, False on padding.
        place: `[B, S]` int, where sinks are in the text, -1 for a missing one; None:
            the text has none.
        signals: `[B, S]` int, 0 … 99, the signal of each sink; see `sink_signals`.
        over_sinks: scalar bool: the vector is the mean of the sinks; see `pool_text`.
        training: whether dropout drops.
        watch: see `LanguageModel.run`; of the layers that read texts.

    Returns:
        `[B, W]`, the compute dtype.

    Raises:
        UserError: if there is nothing to split, or fewer layers read a text than
            `num_inter_sink`.

    Reference:
        CTR-Sink, sections 4.2 to 4.5 of our notes.
    """

    def __init__(
        self,
        model: LanguageModel,
        signal_width: int | None = 128,
        sink_scale: float = 1.0,
        num_inter_sink: int = 0,
        split: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        layers = model.num_layers
        if split and layers < 2:
            raise UserError(
                f"`split` needs a language model of two layers or more. "
                f"Received: {layers} layer"
            )
        self.lower = model.half if split else layers
        if not 0 <= num_inter_sink <= self.lower:
            raise UserError(
                f"`num_inter_sink` lies between 0 and the {self.lower} layers that "
                f"read a text. Received: num_inter_sink={num_inter_sink}"
            )
        self.model = model
        self.signal_width = signal_width
        self.sink_scale = sink_scale
        self.num_inter_sink = num_inter_sink
        self.split = split

    def build(
        self,
        tokens_shape: Shape | None = None,
        mask_shape: Shape | None = None,
        place_shape: Shape | None = None,
        signals_shape: Shape | None = None,
    ) -> None:
        """Builds the language model, then what is added to it."""
        model = self.model
        if not model.built:
            model.build()
        self.sinks = None
        if self.signal_width is not None:
            norm = model.mean_row_norm() * self.sink_scale
            self.sinks = SinkEmbedding(
                model.width,
                self.signal_width,
                norm,
                dtype=self.dtype_policy,
                name="sinks",
            )
            self.sinks.build()
        self.inter_sink = []
        for index in range(self.num_inter_sink):
            layer = InterSinkAttention(
                model.config.num_heads,
                _GAMMA[model.config.is_causal],
                model.attention_dropout,
                dtype=self.dtype_policy,
                name=f"inter_sink_{index}",
            )
            layer.build((None, None, model.width))
            self.inter_sink.append(layer)
        self.built = True

    def call(
        self,
        tokens: Tensor,
        mask: Tensor,
        place: Tensor | None = None,
        signals: Tensor | None = None,
        over_sinks: Tensor | bool = False,
        training: bool = False,
        watch: Watch | None = None,
    ) -> Tensor:
        """One vector a text."""
        model = self.model
        rows_BLW = model.embed(tokens)
        bias_of = is_sink_BL = None
        if place is not None:
            places_BSL = one_hot_places(place, tokens.shape[1])
            is_sink_BL = ops.any(places_BSL > 0, axis=1)
            if self.sinks is not None:
                rows_BLW = replace_rows(rows_BLW, places_BSL, self.sinks(signals))
            bias_of = functools.partial(self._bias, places_BSL, training)
        hidden_BLW = model.begin(rows_BLW, mask, training)
        hidden_BLW = model.run(
            hidden_BLW, mask, 0, self.lower, bias_of, training, watch
        )
        return pool_text(hidden_BLW, mask, is_sink_BL, over_sinks)

    def _bias(self, places_BSL, training, index, hidden_BLW):
        """Of the logits of a layer's attention."""
        if index >= self.num_inter_sink:
            return None
        return self.inter_sink[index](hidden_BLW, places_BSL, training=training)

    def join(self, texts: Tensor, training: bool = False) -> Tensor:
        """Passes the upper half of the layers over texts as a sequence.

        Args:
            texts: `[B, T, W]`, T static; a decoder's text sees those before it.
            training: whether dropout drops.

        Returns:
            `[B, T, W]`.
        """
        if not self.split:
            return texts
        mask = ops.ones_like(texts[..., 0], dtype="bool")
        return self.model.run(texts, mask, self.lower, training=training)

    def compute_output_spec(
        self, tokens: Tensor, *others: Any, **more: Any
    ) -> keras.KerasTensor:
        """One row a text."""
        shape = (tokens.shape[0], self.model.width)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Config with the language model's own."""
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self.model),
            "signal_width": self.signal_width,
            "sink_scale": self.sink_scale,
            "num_inter_sink": self.num_inter_sink,
            "split": self.split,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Inverse of `get_config`."""
        model = keras.saving.deserialize_keras_object(config["model"])
        return cls(**{**config, "model": model})
