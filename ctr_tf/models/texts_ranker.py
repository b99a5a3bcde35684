"""What models that read texts have in common."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import keras

from ctr_tf import config as configs
from ctr_tf.models.ranker import Ranker
from ctr_tf.models.texts_part import ON_SINKS, TextsPart
from ctr_tf.schema import Schema
from ctr_tf.tensors import Tensor
from ctr_tf.text.prompts import Prompts


class TextsRanker(Ranker):
    """A ranker with a `TextsPart`, by `config.texts`.

    Args:
        schema: of the data.
        table_sizes: see `Ranker`.
        config: of the model.
        prompts: of `read_prompts`.
    """

    reads_texts = True

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        config: Any,
        prompts: Prompts,
        **kwargs: Any,
    ):
        super().__init__(schema, table_sizes, config, **kwargs)
        self.prompts = prompts
        texts = self.config.texts
        self.texts = TextsPart(
            texts,
            schema,
            prompts,
            1 + len(self.tasks),
            dtype=self.dtype_policy,
            name="texts",
        )
        self.reads_items_once = texts.reads_items_once
        self.item_texts = self.texts.candidate
        self.reads_progress = bool(texts.sink_stage)
        self.measured = (ON_SINKS,) if texts.sinks else ()

    @property
    def language_model_weights(self) -> list[keras.Variable]:
        """See `Ranker`; rows of sinks and attention between them are not of it."""
        return self.texts.reader.model.variables

    def encode(
        self, user: dict, behaviors: dict, context: dict, training: bool = False
    ) -> dict:
        """See `Ranker`."""
        return self.encode_measured(user, behaviors, context, training)[0]

    def read_items(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """See `TextsPart`."""
        return self.texts.read_items(tokens)

    def read_text(self, name: str, tokens: Tensor) -> Tensor:
        """See `TextsPart`."""
        return self.texts.read_text(name, tokens)

    def get_config(self) -> dict[str, Any]:
        """Config with the prompts' tokens."""
        return {**super().get_config(), "prompts": dataclasses.asdict(self.prompts)}

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Self:
        """Inverse of `get_config`."""
        prompts = configs.parse(Prompts, config["prompts"])
        return super().from_config({**config, "prompts": prompts}, custom_objects)
