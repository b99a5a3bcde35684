"""How texts of items are read: the language model, its texts, its sinks."""

import dataclasses
from typing import Any, Self

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.layers.text.language_model import TUNES
from ctr_tf.layers.text.low_rank import LoRA
from ctr_tf.layers.text.sink_signals import SIGNALS
from ctr_tf.models.config_checks import check_positive

ORDERS = ("time", "shuffled")


@dataclasses.dataclass(frozen=True)
class TextsConfig:
    """What a language model reads of a user and a candidate, and how.

    Args:
        language_model: folder of Hugging Face's layout, whose tokenizer.json is that
            of the data (`ctr-tf prepare --tokenizer`).
        pretrained: whether the training begins with the folder's weights; else with
            random ones.
        tune: what of the language model learns: `"nothing"`, `"lora"`, `"upper"` (the
            upper half of its layers), `"layers"` (all but its token table) or `"all"`.
        lora: the factors, where `tune` is `"lora"`.
        dropout: of the language model, in training; None: what its config.json says.
        history: the text feature that histories are told by; the schema's first where
            empty.
        candidate: those of a candidate; all of the schema where empty.
        history_prompt: before the behaviors, those that are positive where the schema
            tells.
        negative_prompt: before the others, where the schema tells.
        candidate_prompts: before each text of a candidate; nothing where empty.
        separator: between two behaviors.
        max_behaviors: the latest ones that are read.
        history_tokens: of a history at most; the oldest behaviors are left out.
        candidate_tokens: of a candidate's text at most.
        order: of the behaviors in the text: `"time"`, or `"shuffled"`, by a hash of
            their texts, for experiments.
        sinks: whether a sink stands behind every behavior but the last.
        signal: what it is told of the behavior: `"temporal"`, `"ordinal"`, `"random"`
            or `"none"`.
        sink_token: entry of the tokenizer that no text has, at whose place it stands.
        signal_width: of the signal's embedding.
        sink_scale: how long a sink is at first, in rows of the token table.
        inter_sink: how many of the first layers add a bias at pairs of sinks.
        sink_stage: share of the training's steps, the first ones, in which a user's
            texts are the means of their sinks.
        split: whether the upper half of the layers reads the texts together; else all
            read each alone.
        match: whether the product of the history's and the first text's vectors is one
            more text to the head.
        units: widths of the head: of a text, and of its two hidden layers.
    """

    language_model: str = ""
    pretrained: bool = True
    tune: str = "layers"
    lora: LoRA | None = None
    dropout: float | None = None
    history: str = ""
    candidate: tuple[str, ...] = ()
    history_prompt: str = ""
    negative_prompt: str = ""
    candidate_prompts: tuple[str, ...] = ()
    separator: str = ","
    max_behaviors: int = 50
    history_tokens: int = 512
    candidate_tokens: int = 32
    order: str = "time"
    sinks: bool = True
    signal: str = "temporal"
    sink_token: str = "[unused1]"
    signal_width: int = 128
    sink_scale: float = 1.0
    inter_sink: int = 0
    sink_stage: float = 0.0
    split: bool = True
    match: bool = False
    units: tuple[int, int, int] = (128, 128, 32)

    def __post_init__(self) -> None:
        check_positive(
            self, "max_behaviors", "history_tokens", "candidate_tokens", "signal_width"
        )
        for field, known in (("tune", TUNES), ("order", ORDERS), ("signal", SIGNALS)):
            value = getattr(self, field)
            if value not in known:
                raise UserError(unknown_name(field, value, known))
        for field in ("candidate", "candidate_prompts", "units"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if not 0 <= self.sink_stage <= 1:
            raise UserError(
                "`sink_stage` lies between 0 and 1. "
                f"Received: sink_stage={self.sink_stage!r}"
            )
        if not self.sinks and (self.inter_sink or self.sink_stage):
            raise UserError(
                "`inter_sink` and `sink_stage` are of sinks. Received: sinks=false, "
                f"inter_sink={self.inter_sink}, sink_stage={self.sink_stage}"
            )

    @property
    def unread(self) -> tuple[str, ...]:
        """What sinks are, where there are none."""
        of_sinks = ("signal", "sink_token", "signal_width", "sink_scale")
        return () if self.sinks else of_sinks

    @property
    def texts(self) -> "TextsConfig":
        """Itself, as a model's config that is more has it."""
        return self

    def with_texts(self, **changes: Any) -> Self:
        """With other values of these fields."""
        return dataclasses.replace(self, **changes)

    @property
    def reads_items_once(self) -> bool:
        """Whether no training changes the vector of an item's text."""
        return self.tune == "nothing" or (self.tune == "upper" and self.split)
