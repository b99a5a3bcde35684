"""SparseCTR: sparse self-attention over long, personalized, time-cut histories."""

import dataclasses

import keras
from keras import ops

from ctr_tf.errors import unknown_name
from ctr_tf.layers.alibi import Alibi
from ctr_tf.layers.evo_attention import EvoAttention
from ctr_tf.layers.evo_keys import BRANCHES, EvoKeys, check_branches
from ctr_tf.layers.fixed_chunking import FixedChunking
from ctr_tf.layers.full_attention import FullAttention
from ctr_tf.layers.full_keys import FullKeys
from ctr_tf.layers.hstu_bias import HSTUBias
from ctr_tf.layers.prediction_head import PredictionHead
from ctr_tf.layers.rel_temporal import RelTemporal
from ctr_tf.layers.rotary_encoding import RotaryEncoding
from ctr_tf.layers.rows import by_rows
from ctr_tf.layers.sparse_block import SparseBlock
from ctr_tf.layers.t5_bias import T5Bias
from ctr_tf.layers.temporal_relations import RELATIONS, check_relations
from ctr_tf.layers.time_chunking import TimeChunking
from ctr_tf.models.ranker import Ranker
from ctr_tf.schema import Schema

SPARSITY = {"S1": (8, 1, 2), "S2": (16, 2, 5), "S3": (16, 3, 10), "S4": (32, 4, 20)}
ATTENTIONS = ("evo", "full")
CHUNKINGS = {"time": TimeChunking, "fixed": FixedChunking}
ENCODINGS = ("rel_temporal", "hstu", "t5", "alibi", "rope")


@dataclasses.dataclass(frozen=True)
class SparseCTRConfig:
    """Sizes and variants of `SparseCTR`.

    Args:
        name: of the model, for the registry.
        embedding_dim: width of the rows of a feature that does not set its own.
        dim: d, width of the model.
        num_heads: H; divides `dim`.
        num_blocks: L.
        sparsity: sets P, m and w together: `"S1"` (8, 1, 2), `"S2"` (16, 2, 5),
            `"S3"` (16, 3, 10), `"S4"` (32, 4, 20), the sets of the paper's figure 3.
        num_chunks: P, the sparsity's where None. See `num_chunks_for`.
        transition: m, the sparsity's where None.
        window: w, the sparsity's where None.
        ffn_factor: hidden width of the SwiGLU, in units of `dim`.
        head_units: hidden widths of the prediction head's MLP.
        attention: `"evo"`, or `"full"` for full causal self-attention (A1).
        branches: of EvoAttention; leaving one out gives variants A2 to A4.
        relative_encoding: `"rel_temporal"`, or an alternative of the paper's figure 2:
            `"hstu"` (positions and times), `"t5"`, `"alibi"` or `"rope"` (positions).
        relations: of RelTemporal; none gives variant B1, leaving one out B2 to B4.
        chunking: `"time"`, or `"fixed"` for chunks of equal length.
    """

    name: str = "sparsectr"
    embedding_dim: int = 8
    dim: int = 32
    num_heads: int = 8
    num_blocks: int = 2
    sparsity: str = "S2"
    num_chunks: int | None = None
    transition: int | None = None
    window: int | None = None
    ffn_factor: float = 3.0
    head_units: tuple[int, ...] = (32,)
    attention: str = "evo"
    branches: tuple[str, ...] = BRANCHES
    relative_encoding: str = "rel_temporal"
    relations: tuple[str, ...] = RELATIONS
    chunking: str = "time"

    def __post_init__(self):
        for field, known in (
            ("sparsity", SPARSITY),
            ("attention", ATTENTIONS),
            ("chunking", CHUNKINGS),
            ("relative_encoding", ENCODINGS),
        ):
            if getattr(self, field) not in known:
                raise ValueError(unknown_name(field, getattr(self, field), known))
        chosen = SPARSITY[self.sparsity]
        names = ("num_chunks", "transition", "window")
        for field, default in zip(names, chosen, strict=True):
            if getattr(self, field) is None:
                object.__setattr__(self, field, default)
        for field in (*names, "embedding_dim", "dim", "num_heads", "num_blocks"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"`{field}` must be a positive integer. Received: {field}={value!r}"
                )
        if self.dim % self.num_heads:
            raise ValueError(
                f"`num_heads` must divide `dim`={self.dim}. "
                f"Received: num_heads={self.num_heads}"
            )
        if not self.ffn_factor > 0:
            raise ValueError(
                f"`ffn_factor` must be positive. Received: ffn_factor={self.ffn_factor}"
            )
        object.__setattr__(self, "head_units", tuple(self.head_units))
        if any(not isinstance(units, int) or units < 1 for units in self.head_units):
            raise ValueError(
                "`head_units` must be positive integers. "
                f"Received: head_units={self.head_units}"
            )
        object.__setattr__(self, "branches", check_branches(tuple(self.branches)))
        object.__setattr__(self, "relations", check_relations(tuple(self.relations)))

    def num_chunks_for(self, history_length: int) -> int:
        """P for histories kept up to `history_length`: min(P, history_length / 4).

        The length is the schema's, not a batch's: every batch of a run, whatever its
        bucket, is cut into the same P chunks.
        """
        return max(1, min(self.num_chunks, history_length // 4))


@keras.saving.register_keras_serializable(package="ctr_tf")
class SparseCTR(Ranker):
    """SparseCTR as a Ranker.

    `encode` runs the behaviors through the blocks and keeps, of each block, the keys
    and values that candidates attend to: pooled chunks, transition behaviors, the last
    w behaviors and the user. The state does not grow with the history. `score` runs
    the candidates on it. Together they equal one pass over the mixed sequence
    ``[b_1 … b_N, c_1 … c_C]`` under the causal mask that isolates candidates. Nobody
    reads the behaviors' rows after the last block, so it computes none.

    State, batch first: `request_time` `[B]`, `user` `[B, Du]`, `context` `[B, Dx]`;
    `global_time`, `global_mask` `[B, P]`; `transition_time`, `transition_mask`
    `[B, mP]`; `local_time`, `local_mask` `[B, w]`; and of each block l
    `block_<l>_global_key`, `…_value` `[B, P, D]`, `block_<l>_transition_key`,
    `…_value` `[B, mP, D]`, `block_<l>_local_key`, `…_value` `[B, w + 1, D]`, the user
    last. With biases by position also `global_position` `[B, P]` and
    `transition_position` `[B, mP]`. With full attention: `time`, `mask`,
    `block_<l>_key`, `block_<l>_value`, over N behaviors.

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

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        config: SparseCTRConfig | None = None,
        **kwargs,
    ):
        config = config or SparseCTRConfig()
        super().__init__(schema, table_sizes, config.embedding_dim, **kwargs)
        self.config = config
        self.num_chunks = config.num_chunks_for(schema.history_length)
        self.chunking = CHUNKINGS[config.chunking](self.num_chunks, name="chunking")
        self.keys = self._make_keys()
        self.blocks = [self._make_block(index) for index in range(config.num_blocks)]
        dense = keras.layers.Dense
        policy = self.dtype_policy
        self.behavior_projection = dense(config.dim, dtype=policy, name="behavior")
        self.candidate_projection = dense(config.dim, dtype=policy, name="candidate")
        self.user_hidden = dense(
            config.dim, activation="relu", dtype=policy, name="user_hidden"
        )
        self.user_projection = dense(config.dim, dtype=policy, name="user")
        self.head = PredictionHead(config.head_units, dtype=policy, name="head")

    def _make_keys(self):
        config, utc_offset = self.config, self.schema.utc_offset
        relations = self._make_encoding().relations
        if config.attention == "full":
            return FullKeys(relations, utc_offset, name="keys")
        return EvoKeys(
            self.num_chunks,
            config.transition,
            config.window,
            config.branches,
            relations,
            utc_offset,
            name="keys",
        )

    def _make_encoding(self):
        config = self.config
        layer, *arguments = {
            "rel_temporal": (RelTemporal, config.num_heads, config.relations),
            "hstu": (HSTUBias, self.schema.history_length),
            "t5": (T5Bias, config.num_heads),
            "alibi": (Alibi, config.num_heads),
            "rope": (RotaryEncoding, config.num_heads),
        }[config.relative_encoding]
        return layer(*arguments, name="encoding")

    def _make_block(self, index: int):
        config, policy = self.config, self.dtype_policy
        if config.attention == "full":
            attention = FullAttention(
                config.num_heads, self._make_encoding(), dtype=policy, name="attention"
            )
        else:
            attention = EvoAttention(
                config.num_heads,
                config.window,
                config.branches,
                self._make_encoding(),
                dtype=policy,
                name="attention",
            )
        return SparseBlock(
            attention, config.ffn_factor, dtype=policy, name=f"block_{index}"
        )

    def build(self, input_shape=None):
        """Makes all weights; the schema alone decides their shapes."""
        if self.built:
            return
        dim = self.config.dim
        user, context, behavior, candidate = (
            self.embedding.width(group)
            for group in ("user", "context", "behavior", "candidate")
        )
        self.embedding.build()
        self.behavior_projection.build((None, None, behavior))
        self.candidate_projection.build((None, None, candidate + context))
        self.user_hidden.build((None, user))
        self.user_projection.build((None, dim))
        for block in self.blocks:
            block.build((None, None, dim))
        self.head.build((None, None, dim), (None, user))
        self.built = True

    def encode(self, user, behaviors, context, training=False) -> dict:
        """The user's state; see the class."""
        time, mask = behaviors["time"], behaviors["mask"]
        chunk = self.chunking(time, mask, behaviors["chunk"])
        plan, state = self.keys(time, mask, chunk)
        state["request_time"] = context["time"]
        state["user"] = user["embedding"]
        state["context"] = context["embedding"]
        profile_BD = self.user_projection(self.user_hidden(user["embedding"]))
        rows_BND = self.behavior_projection(behaviors["embedding"])
        for index, block in enumerate(self.blocks):
            last = index == len(self.blocks) - 1
            rows_BND, kept = block.encode(rows_BND, profile_BD, plan, not last)
            state.update({f"block_{index}_{key}": kept[key] for key in kept})
        return state

    def score(self, state, candidates, training=False):
        """Logits `[B, C]` float32."""
        relations = self.keys.relations_to(state, state["request_time"])
        embedding_BCD = candidates["embedding"]
        context_BCD = ops.broadcast_to(
            ops.cast(state["context"], embedding_BCD.dtype)[:, None],
            (*ops.shape(embedding_BCD)[:2], state["context"].shape[-1]),
        )
        rows_BCD = by_rows(
            self.candidate_projection,
            ops.concatenate([embedding_BCD, context_BCD], axis=-1),
        )
        for index, block in enumerate(self.blocks):
            prefix = f"block_{index}_"
            kept = {
                key.removeprefix(prefix): value
                for key, value in state.items()
                if key.startswith(prefix)
            }
            rows_BCD = block.score(rows_BCD, kept, relations)
        return self.head(rows_BCD, state["user"])
