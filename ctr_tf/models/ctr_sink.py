"""CTR-Sink: a language model reads the texts of a history, with sinks between them."""

import dataclasses
from collections.abc import Iterable

import keras

from ctr_tf.layers.feature_embedding import ExtraTable, FeatureEmbedding
from ctr_tf.models.texts_config import TextsConfig
from ctr_tf.models.texts_ranker import TextsRanker
from ctr_tf.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class CTRSinkConfig(TextsConfig):
    """How texts are read by `CTRSink`; see `TextsConfig`.

    Args:
        name: of the model, for the registry.
        tasks: further labels of the schema to predict, each by a head of its own.
    """

    name: str = "ctr_sink"
    tasks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "tasks", tuple(self.tasks))


@keras.saving.register_keras_serializable(package="ctr_tf")
class CTRSink(TextsRanker):
    """Texts alone decide: the items' texts, in the user's history and of the candidate.

    The history is one text, ``[CLS] PROMPT b_1 [SINK], b_2 [SINK], … b_n [SEP]``; at a
    sink stands a learned row of how long ago the behavior on its left was, so that the
    language model has places to gather what it read, and knows when that was. The
    lower half of its layers reads each text by itself, to the mean of its tokens; the
    upper half reads the vectors of a user's and a candidate's texts together; a head
    scores them. The state is the vectors of the user's texts, whatever the length of
    the history.

    Ours: the candidate knows nothing of the others of its slate, and the user's text
    nothing of the candidate (the authors' code retrieves the behaviors most like it).

    Reference:
        CTR-Sink: Attention Sink for Language Models in Click-Through Rate Prediction,
        by its abstract and the authors' code.
    """

    config_class = CTRSinkConfig
    ablations = {
        "without_sinks": {"sinks": False, "inter_sink": 0, "sink_stage": 0.0},
        "without_signal": {"signal": "none"},
    }
    alternatives = {
        "random_signal": {"signal": "random"},
        "two_stages": {"sink_stage": 0.5},
        "inter_sink_attention": {"inter_sink": 2},
        "stages_and_inter_sink": {"sink_stage": 0.5, "inter_sink": 2},
        "ordinal_signal": {"signal": "ordinal"},
        "unsplit": {"split": False},
    }

    def make_embedding(self, extra_tables: Iterable[ExtraTable]) -> FeatureEmbedding:
        """No feature is embedded."""
        return FeatureEmbedding(
            self.schema,
            self.table_sizes,
            extra_tables=extra_tables,
            features=False,
            dtype=self.dtype_policy,
            name="feature_embedding",
        )

    def build_parts(self) -> None:
        """Builds the part that reads texts."""
        self.texts.build()

    def state_spec(self) -> dict:
        """User and request, and the vectors of the user's texts."""
        return {**self.request_spec(), "texts": self.texts.state_spec}

    def encode_measured(
        self, user: dict, behaviors: dict, context: dict, training: bool = False
    ) -> tuple[dict, dict]:
        """Reads the histories."""
        texts, measures = self.texts.encode(
            behaviors, context["time"], context.get("progress"), training
        )
        return {**self.request_state(user, context), "texts": texts}, measures

    def history_logits(
        self, state: dict, candidates: dict, training: bool = False
    ) -> Tensor:
        """Logits `[B, C, T]` float32."""
        return self.texts.score(state["texts"], candidates, training)
