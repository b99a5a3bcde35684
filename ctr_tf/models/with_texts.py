"""Any ranker, with a language model that reads the items' texts beside it."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Self

import keras

from ctr_tf.errors import UserError
from ctr_tf.layers.feature_embedding import ExtraTable, FeatureEmbedding
from ctr_tf.layers.position_bias import PositionBias
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
from ctr_tf.models.texts_config import TextsConfig
from ctr_tf.models.texts_ranker import TextsRanker
from ctr_tf.schema import Schema
from ctr_tf.tensors import Tensor
from ctr_tf.text.prompts import Prompts


def _choose(values: Any) -> type:
    from ctr_tf.models.choose import choose_model  # which chooses this one, too

    return choose_model(values)


@dataclasses.dataclass(frozen=True)
class WithTextsConfig:
    """A ranker of features, and how texts are read.

    Args:
        name: of the model, for the registry.
        ranker: like a recipe's section `model`; one that reads no texts itself.
        texts: as of `ctr_sink`.
    """

    name: str = "with_texts"
    ranker: Any = dataclasses.field(
        default_factory=SparseCTRConfig, metadata={"choose": _choose}
    )
    texts: TextsConfig = dataclasses.field(default_factory=TextsConfig)

    def __post_init__(self) -> None:
        if hasattr(self.ranker, "texts"):
            raise UserError(
                "`ranker` is a model of features, which reads no texts itself. "
                f"Received: ranker.name='{self.ranker.name}'"
            )

    @property
    def embedding_dim(self) -> int:
        """The ranker's."""
        return self.ranker.embedding_dim

    @property
    def tasks(self) -> tuple[str, ...]:
        """The ranker's."""
        return self.ranker.tasks

    def with_texts(self, **changes: Any) -> Self:
        """With other values of the fields of `texts`."""
        return dataclasses.replace(
            self, texts=dataclasses.replace(self.texts, **changes)
        )


@keras.saving.register_keras_serializable(package="ctr_tf")
class WithTexts(TextsRanker):
    """The sum of two logits: a ranker's, and that of the items' texts.

    Each has all of its own parts; they learn together. What the ranker is trained on
    beside its scores (`auxiliary`) stays, and its state is part of the state.

    Reference:
        Ours; the texts are read as in CTR-Sink.
    """

    config_class = WithTextsConfig

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        config: WithTextsConfig,
        prompts: Prompts,
        **kwargs: Any,
    ):
        super().__init__(schema, table_sizes, config, prompts, **kwargs)
        self.num_chunks = self.ranker.num_chunks
        self.auxiliary = self.ranker.auxiliary

    def make_embedding(self, extra_tables: Iterable[ExtraTable]) -> FeatureEmbedding:
        """That of the ranker, which is made here."""
        from ctr_tf.models import MODELS  # which has this one, too

        config = self.config.ranker
        self.ranker = MODELS[config.name](
            self.schema,
            self.table_sizes,
            config,
            dtype=self.dtype_policy,
            name="ranker",
        )
        return self.ranker.embedding

    def make_position_bias(self) -> PositionBias | None:
        """That of the ranker, added once to the sum."""
        return self.ranker.position_bias

    def build_parts(self) -> None:
        """Builds the ranker, and the part that reads texts."""
        self.ranker.build()
        self.texts.build()

    def state_spec(self) -> dict:
        """The ranker's, and the vectors of the user's texts."""
        return {"ranker": self.ranker.state_spec(), "texts": self.texts.state_spec}

    def encode_measured(
        self, user: dict, behaviors: dict, context: dict, training: bool = False
    ) -> tuple[dict, dict]:
        """Both states."""
        state = self.ranker.encode(user, behaviors, context, training=training)
        texts, measures = self.texts.encode(
            behaviors, context["time"], context.get("progress"), training
        )
        return {"ranker": state, "texts": texts}, measures

    def history_logits(
        self, state: dict, candidates: dict, training: bool = False
    ) -> Tensor:
        """Logits `[B, C, T]` float32."""
        return self.ranker.score(
            state["ranker"], candidates, training=training
        ) + self.texts.score(state["texts"], candidates, training)

    def auxiliary_logits(self, state: dict, candidates: dict) -> dict:
        """The ranker's."""
        return self.ranker.auxiliary_logits(state["ranker"], candidates)
