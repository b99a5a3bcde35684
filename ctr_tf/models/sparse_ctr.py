"""SparseCTR: sparse self-attention over long, personalized, time-cut histories."""

from typing import Any

import keras
from keras import ops

from ctr_tf.layers.alibi import Alibi
from ctr_tf.layers.evo_keys import BRANCHES
from ctr_tf.layers.fixed_chunking import FixedChunking
from ctr_tf.layers.hstu_bias import HSTUBias
from ctr_tf.layers.prediction_head import PredictionHead
from ctr_tf.layers.rel_temporal import RelTemporal
from ctr_tf.layers.relative_encoding import RelativeEncoding
from ctr_tf.layers.rotary_encoding import RotaryEncoding
from ctr_tf.layers.rows import by_rows
from ctr_tf.layers.similarity_chunking import SimilarityChunking
from ctr_tf.layers.sparse_block import SparseBlock
from ctr_tf.layers.t5_bias import T5Bias
from ctr_tf.layers.temporal_relations import RELATIONS
from ctr_tf.layers.time_chunking import TimeChunking
from ctr_tf.models.ranker import Ranker
from ctr_tf.models.sparse_ctr_config import (
    ATTENTIONS,
    CHUNKINGS,
    ENCODINGS,
    SparseCTRConfig,
)
from ctr_tf.models.sparse_patterns import PATTERNS
from ctr_tf.schema import Schema
from ctr_tf.tensors import Tensor

_CHUNKINGS = {
    "time": TimeChunking,
    "fixed": FixedChunking,
    "similarity": SimilarityChunking,
}


def _ablations() -> dict[str, dict]:
    """The paper's table 3: A1 to A4 of the attention, B1 to B4 of RelTemporal."""
    parts: dict[str, dict] = {"A1": {"attention": "full"}}
    for place, branch in enumerate(BRANCHES, 2):
        parts[f"A{place}"] = {"branches": [b for b in BRANCHES if b != branch]}
    parts["B1"] = {"relations": []}
    for place, relation in enumerate(RELATIONS, 2):
        parts[f"B{place}"] = {"relations": [r for r in RELATIONS if r != relation]}
    return parts


def _alternatives() -> dict[str, dict]:
    """The paper's table 4 and figure 2: each other choice that it offers."""
    return {
        f"{value}_{word}": {field: value}
        for field, word, values in (
            ("attention", "attention", ATTENTIONS),
            ("chunking", "chunks", CHUNKINGS),
            ("relative_encoding", "encoding", ENCODINGS),
        )
        for value in values
        if value != getattr(SparseCTRConfig, field)
    }


@keras.saving.register_keras_serializable(package="ctr_tf")
class SparseCTR(Ranker):
    """SparseCTR as a Ranker.

    `encode` runs the behaviors through the blocks and keeps, of each block, the keys
    and values that candidates attend to: pooled chunks, transition behaviors, the last
    w behaviors and the user. The state does not grow with the history. `score` runs
    the candidates on it. Together they equal one pass over the mixed sequence
    ``[b_1 … b_N, c_1 … c_C]`` under the causal mask that isolates candidates. Nobody
    reads the behaviors' rows after the last block, so it computes none.

    What the state holds is declared by the pattern (`ctr_tf.models.sparse_patterns`).

    The paper's head sees a candidate's row after the last block, and the user; request
    and candidate it knows by that row alone. So the candidate's tower (ours) sees the
    row beside them.

    `num_chunks` is the P that `behaviors["chunk"]` must have been made for, resolved
    once from the schema's history length (`SparseCTRConfig.num_chunks_for`).

    Args:
        schema: of the data.
        table_sizes: embedding table name → rows.
        config: sizes and variants.

    Reference:
        SparseCTR (sections 3.2 to 3.6), in the reading of its layers' docstrings.
    """

    config_class = SparseCTRConfig
    ablations = _ablations()
    alternatives = _alternatives()

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        config: SparseCTRConfig | None = None,
        **kwargs: Any,
    ):
        super().__init__(schema, table_sizes, config, **kwargs)
        config, policy = self.config, self.dtype_policy
        self.tower_interest = config.dim
        self.num_chunks = config.num_chunks_for(schema.history_length)
        self.chunking: keras.layers.Layer = _CHUNKINGS[config.chunking](
            self.num_chunks, name="chunking"
        )
        self.pattern = PATTERNS[config.attention].of(config, schema)
        self.relations = self._make_encoding().relations
        self.keys: keras.layers.Layer = self.pattern.keys(self.relations)
        self.blocks = [
            SparseBlock(
                self.pattern.attention(self._make_encoding(), policy),
                config.ffn_factor,
                dtype=policy,
                name=f"block_{index}",
            )
            for index in range(config.num_blocks)
        ]
        self.behavior_projection = self.dense(config.dim, "behavior")
        self.candidate_projection = self.dense(config.dim, "candidate")
        if self.pattern.sees_user:
            self.user_hidden = self.dense(config.dim, "user_hidden", activation="relu")
            self.user_projection = self.dense(config.dim, "user")
        self.heads = [
            PredictionHead(config.head_units, dtype=policy, name=name)
            for name in ("head", *(f"head_{task}" for task in self.tasks))
        ]

    def _make_encoding(self) -> RelativeEncoding:
        config = self.config
        choices: dict[str, tuple[Any, ...]] = {
            "rel_temporal": (RelTemporal, config.num_heads, config.relations),
            "hstu": (HSTUBias, self.schema.history_length),
            "t5": (T5Bias, config.num_heads),
            "alibi": (Alibi, config.num_heads),
            "rope": (RotaryEncoding, config.num_heads),
        }
        layer, *arguments = choices[config.relative_encoding]
        return layer(*arguments, name="encoding")

    def build_parts(self) -> None:
        """Builds the projections, the blocks and the heads."""
        width, dim = self.embedding.width, self.config.dim
        self.behavior_projection.build((None, None, width("behavior")))
        candidate = width("candidate") + width("context")
        self.candidate_projection.build((None, None, candidate))
        if self.pattern.sees_user:
            self.user_hidden.build((None, width("user")))
            self.user_projection.build((None, dim))
        for block in self.blocks:
            block.build((None, None, dim))
        for head in self.heads:
            head.build((None, None, dim), (None, width("user")))

    def state_spec(self) -> dict:
        """User and request; the keys; keys and values of each block."""
        block = self.pattern.block_spec()
        return {
            **self.request_spec(),
            "keys": self.pattern.keys_spec(self.relations),
            "blocks": [block for _ in self.blocks],
        }

    def encode(
        self,
        user: dict,
        behaviors: dict,
        context: dict,
        training: bool = False,
    ) -> dict:
        """Runs the behaviors; see the class."""
        time, mask = behaviors["time"], behaviors["mask"]
        chunk = self.chunking(time, mask, behaviors["chunk"], behaviors["embedding"])
        plan, keys = self.keys(time, mask, chunk)
        state = {**self.request_state(user, context), "keys": keys, "blocks": []}
        profile_BD = None
        if self.pattern.sees_user:
            profile_BD = self.user_projection(self.user_hidden(user["embedding"]))
        rows_BND = self.behavior_projection(behaviors["embedding"])
        for index, block in enumerate(self.blocks):
            last = index == len(self.blocks) - 1
            rows_BND, kept = block.encode(rows_BND, profile_BD, plan, not last)
            state["blocks"].append(kept)
        return state

    def history_logits(
        self, state: dict, candidates: dict, training: bool = False
    ) -> Tensor:
        """Logits `[B, C, T]` float32."""
        return self.history_and_interest(state, candidates, training)[0]

    def history_and_interest(
        self, state: dict, candidates: dict, training: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The logits, and the candidates' rows after the last block, `[B, C, D]`."""
        relations = self.keys.relations_to(state["keys"], state["request_time"])
        embedding_BCD = candidates["embedding"]
        context_BCD = ops.broadcast_to(
            ops.cast(state["context"], embedding_BCD.dtype)[:, None],
            (*ops.shape(embedding_BCD)[:2], state["context"].shape[-1]),
        )
        rows_BCD = by_rows(
            self.candidate_projection,
            ops.concatenate([embedding_BCD, context_BCD], axis=-1),
        )
        for block, kept in zip(self.blocks, state["blocks"], strict=True):
            rows_BCD = block.score(rows_BCD, kept, relations)
        logits = [head(rows_BCD, state["user"]) for head in self.heads]
        return ops.stack(logits, axis=-1), rows_BCD
