"""Texts of a user and of candidates, from tokens to a logit.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `T` tokens of an item's text,
`L` tokens of a text, `U` texts of a user, `V` of a candidate, `W` width of the language
model, `K` labels.
"""

import functools
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.layers.state_spec import StateSpec
from ctr_tf.layers.text.language_model import LanguageModel, Watch
from ctr_tf.layers.text.lm_config import read_lm_config
from ctr_tf.layers.text.sink_places import one_hot_places
from ctr_tf.layers.text.sink_signals import sink_signals
from ctr_tf.layers.text.text_reader import TextReader
from ctr_tf.layers.text.texts_head import TextsHead
from ctr_tf.models.texts_config import TextsConfig
from ctr_tf.schema import Schema
from ctr_tf.schema.texts import Texts
from ctr_tf.storage import as_path
from ctr_tf.tensors import Tensor
from ctr_tf.text.assembly import AssembledText, TextAssembly
from ctr_tf.text.prompts import Prompts, make_prompts
from ctr_tf.text.shuffled import shuffled_order
from ctr_tf.text.tokenizer import TOKENIZER, Tokenizer

ON_SINKS = "attention_on_sinks"


class TextsPart(keras.layers.Layer):
    """A language model with sinks over a user's histories and a candidate's texts.

    `encode` reads the histories: one text, or two where the schema says which behaviors
    are positive. `score` reads the candidates' texts, passes the upper half of the
    layers over the texts of both, and puts out logits. No candidate sees another.

    Args:
        config: how.
        schema: of the data.
        prompts: of `read_prompts`.
        num_labels: K, each with a head of its own.

    Reference:
        CTR-Sink, section 4 of our notes.
    """

    def __init__(
        self,
        config: TextsConfig,
        schema: Schema,
        prompts: Prompts,
        num_labels: int,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.config = config
        self.history, self.candidate = text_features(config, schema)
        model = LanguageModel(
            config.language_model,
            config.pretrained,
            config.tune,
            config.lora,
            config.dropout,
            dtype=self.dtype_policy,
            name="language_model",
        )
        _check_sizes(config, model, prompts)
        self.reader = TextReader(
            model,
            config.signal_width if config.sinks else None,
            config.sink_scale,
            config.inter_sink,
            config.split,
            dtype=self.dtype_policy,
            name="reader",
        )
        ends: dict[str, Any] = {"first": prompts.first, "last": prompts.last}
        self.histories = [
            TextAssembly(
                config.history_tokens, prompt, prompts.separator, prompts.sink, **ends
            )
            for prompt in prompts.histories
        ]
        self.texts = [
            TextAssembly(config.candidate_tokens, prompt, **ends)
            for prompt in prompts.candidates
        ]
        match = (0, len(self.histories)) if config.match else None
        self.heads = [
            TextsHead(config.units, match, dtype=self.dtype_policy, name=f"head_{i}")
            for i in range(num_labels)
        ]

    @property
    def width(self) -> int:
        """W."""
        return self.reader.model.width

    @property
    def state_spec(self) -> StateSpec:
        """Of what `encode` makes: a vector a text of the user."""
        return StateSpec((len(self.histories), self.width))

    def build(self, input_shape: Any = None) -> None:
        """Builds the language model, its sinks, and the heads."""
        self.reader.build()
        count = len(self.histories) + len(self.texts)
        for head in self.heads:
            head.build((None, count, self.width))
        self.built = True

    def encode(
        self,
        behaviors: dict,
        request_time: Tensor,
        progress: Tensor | None = None,
        training: bool = False,
    ) -> tuple[Tensor, dict]:
        """Reads the histories.

        Args:
            behaviors: see `Ranker`.
            request_time: `[B]` int64.
            progress: share of the training that is past; None: all of it.
            training: whether dropout drops.

        Returns:
            `[B, U, W]`; and what is measured: total and count by name.
        """
        over_sinks: Any = False
        if progress is not None and self.config.sink_stage:
            over_sinks = progress < self.config.sink_stage
        shares: list[tuple] = []
        vectors = []
        for text, signal_BN in self.told(behaviors, request_time):
            watch = None
            if self.config.sinks:
                watch = functools.partial(_on_sinks, text, shares)
            vectors.append(self.read(text, signal_BN, over_sinks, training, watch))
        measures = {}
        if shares:
            totals, counts = zip(*shares, strict=True)
            measures[ON_SINKS] = (sum(totals), sum(counts))
        return ops.stack(vectors, axis=1), measures

    def told(
        self, behaviors: dict, request_time: Tensor
    ) -> list[tuple[AssembledText, Tensor]]:
        """Each text of the user, and the signals `[B, N]` of its behaviors."""
        histories = self._histories(behaviors, request_time)
        return [
            (assembly(tokens_BNT), signal_BN)
            for assembly, (tokens_BNT, signal_BN) in zip(
                self.histories, histories, strict=True
            )
        ]

    def read(
        self,
        text: AssembledText,
        signal_BN: Tensor,
        over_sinks: Tensor | bool = False,
        training: bool = False,
        watch: Watch | None = None,
    ) -> Tensor:
        """The vectors of a text of the user, `[B, W]`; see `TextReader`."""
        return self.reader(
            text.tokens,
            text.mask,
            text.sink_place if self.config.sinks else None,
            signal_BN,
            over_sinks=over_sinks,
            training=training,
            watch=watch,
        )

    def _histories(
        self, behaviors: dict, request_time_B: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """Of each text of the user: tokens `[B, N, T]` and signals `[B, N]`."""
        latest = slice(-self.config.max_behaviors, None)
        tokens_BNT = behaviors["texts"][self.history][:, latest]
        time_BN, mask_BN = (behaviors[key][:, latest] for key in ("time", "mask"))
        chosen = [mask_BN]
        if len(self.histories) > 1:
            positive_BN = behaviors["positive"][:, latest]
            chosen = [mask_BN & positive_BN, mask_BN & ~positive_BN]
        texts = []
        for chosen_BN in chosen:
            own_BNT = ops.where(chosen_BN[..., None], tokens_BNT, 0)
            has_text_BN = ops.any(own_BNT != 0, axis=-1)
            signal_BN = sink_signals(
                self.config.signal, request_time_B, time_BN, has_text_BN
            )
            if self.config.order == "shuffled":
                order_BN = shuffled_order(own_BNT)
                own_BNT = ops.take_along_axis(own_BNT, order_BN[..., None], axis=1)
                signal_BN = ops.take_along_axis(signal_BN, order_BN, axis=1)
            texts.append((own_BNT, signal_BN))
        return texts

    def read_items(
        self, tokens: Mapping[str, Tensor], training: bool = False
    ) -> Tensor:
        """Reads the texts of items.

        Args:
            tokens: text feature → `[B, C, T]` int.
            training: whether dropout drops.

        Returns:
            `[B, C, V, W]`.
        """
        vectors = []
        for name in self.candidate:
            batch, count, width = ops.shape(tokens[name])
            texts = ops.reshape(tokens[name], (-1, width))
            vector = self.read_text(name, texts, training)
            vectors.append(ops.reshape(vector, (batch, count, self.width)))
        return ops.stack(vectors, axis=2)

    def read_text(self, name: str, tokens: Tensor, training: bool = False) -> Tensor:
        """Reads one text feature of items: `[B, T]` int → `[B, W]`."""
        assembly = self.texts[self.candidate.index(name)]
        text = assembly(tokens[:, None])
        return self.reader(text.tokens, text.mask, training=training)

    def score(
        self, histories: Tensor, candidates: dict, training: bool = False
    ) -> Tensor:
        """Logits of candidates, each of the user and its own texts.

        Args:
            histories: `[B, U, W]`, of `encode`.
            candidates: see `Ranker`; with `text_vectors`, `[B, C, V, W]`, where their
                texts have been read. Ours: so dropout drops nothing of them in the
                layers that read them, which learn nothing either.
            training: whether dropout drops.

        Returns:
            `[B, C, K]` float32.

        Raises:
            UserError: for vectors of texts that a training changes.
        """
        items_BCVW = candidates.get("text_vectors")
        if items_BCVW is not None and not self.config.reads_items_once:
            raise UserError(
                "A model whose training changes how it reads items takes their tokens, "
                f"no vectors. Received: tune='{self.config.tune}', "
                f"split={self.config.split}"
            )
        if items_BCVW is None:
            items_BCVW = self.read_items(candidates["texts"], training)
        batch, count = ops.shape(items_BCVW)[:2]
        users, width = histories.shape[1:]
        user_BCUW = ops.broadcast_to(
            ops.cast(histories, items_BCVW.dtype)[:, None],
            (batch, count, users, width),
        )
        texts = ops.concatenate([user_BCUW, items_BCVW], axis=2)
        texts = ops.reshape(texts, (-1, texts.shape[2], width))
        texts = self.reader.join(texts, training=training)
        logits = ops.stack([head(texts) for head in self.heads], axis=-1)
        return ops.reshape(logits, (batch, count, len(self.heads)))


def text_features(config: TextsConfig, schema: Schema) -> tuple[str, tuple[str, ...]]:
    """The text that histories are told by, and those of a candidate.

    Raises:
        UserError: if the schema has no texts, or none of that name.
    """
    known = [feature.name for feature in schema.texts]
    if not known:
        raise UserError(
            "The model reads texts of items, and the data have none: prepare them with "
            "a feature of kind text and the language model's tokenizer, `ctr-tf "
            f"prepare --tokenizer`. Received: schema '{schema.name}'"
        )
    for name in filter(None, (config.history, *config.candidate)):
        if name not in known:
            raise UserError(unknown_name("text feature", name, known))
    return config.history or known[0], config.candidate or tuple(known)


def read_prompts(config: TextsConfig, schema: Schema, texts: Texts | None) -> Prompts:
    """Tokenizes what stands around the texts, by the data's tokenizer.

    Args:
        config: what it is.
        schema: of the data.
        texts: of the data.

    Raises:
        UserError: if the data have no texts, or another tokenizer than the language
            model; for a prompt too many.
    """
    _, candidate = text_features(config, schema)
    assert texts is not None
    if not config.language_model:
        raise UserError(
            "`language_model` is the folder of a language model. Received: nothing"
        )
    own = as_path(config.language_model) / TOKENIZER
    if own.is_file() and own.read_text("utf-8") != texts.tokenizer:
        raise UserError(
            "Texts must be tokens of the language model's own tokenizer: prepare the "
            f"data with `--tokenizer {config.language_model}`. Received: data of "
            f"another {TOKENIZER}"
        )
    prompts = config.candidate_prompts or ("",) * len(candidate)
    if len(prompts) != len(candidate):
        raise UserError(
            f"`candidate_prompts` are as many as texts of a candidate, "
            f"{', '.join(candidate)}. Received: {list(config.candidate_prompts)}"
        )
    histories = [config.history_prompt]
    if schema.positive is not None:
        histories.append(config.negative_prompt)
    elif config.negative_prompt:
        raise UserError(
            "`negative_prompt` stands before behaviors that are not `positive`, which "
            f"the schema '{schema.name}' does not tell. "
            f"Received: negative_prompt={config.negative_prompt!r}"
        )
    return make_prompts(
        Tokenizer(texts.tokenizer),
        histories,
        prompts,
        config.separator,
        config.sink_token if config.sinks else None,
        has_ends=not read_lm_config(config.language_model).is_causal,
    )


def _check_sizes(config: TextsConfig, model: LanguageModel, prompts: Prompts) -> None:
    longest = model.config.max_length
    for key in ("history_tokens", "candidate_tokens"):
        if getattr(config, key) > longest:
            raise UserError(
                f"`{key}` cannot be more than the {longest} tokens that the language "
                f"model in '{config.language_model}' reads. "
                f"Received: {key}={getattr(config, key)}"
            )
    rows = model.config.vocabulary_size
    if prompts.num_tokens > rows:
        raise UserError(
            f"The data's tokenizer has more entries than the {rows:,} rows of the "
            f"language model in '{config.language_model}': it is not that model's. "
            f"Received: {prompts.num_tokens:,} entries"
        )


def _on_sinks(
    text: AssembledText, shares: list[tuple], index: int, weights_BHLJ: Tensor
) -> None:
    """Adds the attention that tokens pay to sinks, of texts that have any: a sum."""
    places_BSJ = one_hot_places(text.sink_place, text.tokens.shape[1])
    is_sink_BJ = ops.any(places_BSJ > 0, axis=1)
    asks_BL = text.mask & ops.any(is_sink_BJ, axis=1, keepdims=True)
    is_sink_BJ, asks_BL = (ops.cast(x, "float32") for x in (is_sink_BJ, asks_BL))
    weights_BLJ = ops.mean(ops.cast(weights_BHLJ, "float32"), axis=1)
    paid_BL = ops.einsum("blj,bj->bl", weights_BLJ, is_sink_BJ)
    shares.append((ops.sum(paid_BL * asks_BL), ops.sum(asks_BL)))
