"""SparseCTR: sparse self-attention over long, personalized, time-cut histories."""

import keras
from keras import ops

from ctr_tf.layers.alibi import Alibi
from ctr_tf.layers.dilated_attention import DilatedAttention
from ctr_tf.layers.dilated_keys import DilatedKeys
from ctr_tf.layers.evo_attention import EvoAttention
from ctr_tf.layers.evo_keys import EvoKeys
from ctr_tf.layers.fixed_chunking import FixedChunking
from ctr_tf.layers.full_attention import FullAttention
from ctr_tf.layers.full_keys import FullKeys
from ctr_tf.layers.hstu_bias import HSTUBias
from ctr_tf.layers.kernel_attention import KernelAttention
from ctr_tf.layers.kernel_keys import KernelKeys
from ctr_tf.layers.native_sparse_attention import NativeSparseAttention
from ctr_tf.layers.native_sparse_keys import NativeSparseKeys
from ctr_tf.layers.prediction_head import PredictionHead
from ctr_tf.layers.rel_temporal import RelTemporal
from ctr_tf.layers.rotary_encoding import RotaryEncoding
from ctr_tf.layers.rows import by_rows
from ctr_tf.layers.similarity_chunking import SimilarityChunking
from ctr_tf.layers.sparse_block import SparseBlock
from ctr_tf.layers.t5_bias import T5Bias
from ctr_tf.layers.time_chunking import TimeChunking
from ctr_tf.models.config_checks import check_tasks
from ctr_tf.models.ranker import Ranker
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
from ctr_tf.schema import Schema

_CHUNKINGS = {
    "time": TimeChunking,
    "fixed": FixedChunking,
    "similarity": SimilarityChunking,
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

    State, batch first: `request_time` `[B]`, `user` `[B, Du]`, `context` `[B, Dx]`;
    `global_time`, `global_mask` `[B, P]`; `transition_time`, `transition_mask`
    `[B, mP]`; `local_time`, `local_mask` `[B, w]`; and of each block l
    `block_<l>_global_key`, `…_value` `[B, P, D]`, `block_<l>_transition_key`,
    `…_value` `[B, mP, D]`, `block_<l>_local_key`, `…_value` `[B, w + 1, D]`, the user
    last. With biases by position also `global_position` `[B, P]` and
    `transition_position` `[B, mP]`. With other attentions `time`, `mask`,
    `block_<l>_key`, `block_<l>_value`: over N behaviors (full), over a candidate's keys
    (dilated), or P of them without times (kernel); or three pairs of keys and values
    (nsa; see `NativeSparseAttention`).

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
        self.chunking = _CHUNKINGS[config.chunking](self.num_chunks, name="chunking")
        self.keys = self._make_keys()
        self.blocks = [self._make_block(index) for index in range(config.num_blocks)]
        dense = keras.layers.Dense
        policy = self.dtype_policy
        self.behavior_projection = dense(config.dim, dtype=policy, name="behavior")
        self.candidate_projection = dense(config.dim, dtype=policy, name="candidate")
        if config.has_user_key:
            self.user_hidden = dense(
                config.dim, activation="relu", dtype=policy, name="user_hidden"
            )
            self.user_projection = dense(config.dim, dtype=policy, name="user")
        self.tasks = check_tasks(config.tasks, schema)
        self.head, *self.task_heads = (
            PredictionHead(config.head_units, dtype=policy, name=name)
            for name in ("head", *(f"head_{task}" for task in self.tasks))
        )

    def _make_keys(self):
        config, zone = self.config, self.schema.zone
        if config.attention == "kernel":
            return KernelKeys(name="keys")
        window = config.window
        layer, *sizes = {
            "evo": (
                EvoKeys,
                self.num_chunks,
                config.transition,
                window,
                config.branches,
            ),
            "full": (FullKeys,),
            "dilated": (DilatedKeys, window, self._dilation),
            "nsa": (NativeSparseKeys, self.num_chunks, window),
        }[config.attention]
        relations = self._make_encoding().relations
        return layer(*sizes, relations, zone, name="keys")

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
        attention = self._make_attention()
        return SparseBlock(
            attention,
            self.config.ffn_factor,
            dtype=self.dtype_policy,
            name=f"block_{index}",
        )

    def _make_attention(self):
        config, schema = self.config, self.schema
        chunks, top, window = self.num_chunks, config.transition, config.window
        options = {"dtype": self.dtype_policy, "name": "attention"}
        if config.attention == "kernel":
            length = schema.history_length
            return KernelAttention(config.num_heads, chunks, length, **options)
        if config.attention == "nsa":
            options["zone"] = schema.zone
        layer, *sizes = {
            "evo": (EvoAttention, window, config.branches),
            "full": (FullAttention,),
            "dilated": (DilatedAttention, window, self._dilation),
            "nsa": (NativeSparseAttention, chunks, top, window),
        }[config.attention]
        encoding = self._make_encoding()
        return layer(config.num_heads, *sizes, encoding, **options)

    @property
    def _dilation(self) -> int:
        return self.config.dilation_for(self.schema.history_length)

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
        if self.config.has_user_key:
            self.user_hidden.build((None, user))
            self.user_projection.build((None, dim))
        for block in self.blocks:
            block.build((None, None, dim))
        for head in (self.head, *self.task_heads):
            head.build((None, None, dim), (None, user))
        self.built = True

    def encode(self, user, behaviors, context, training=False) -> dict:
        """The user's state; see the class."""
        time, mask = behaviors["time"], behaviors["mask"]
        chunk = self.chunking(time, mask, behaviors["chunk"], behaviors["embedding"])
        plan, state = self.keys(time, mask, chunk)
        state["request_time"] = context["time"]
        state["user"] = user["embedding"]
        state["context"] = context["embedding"]
        profile_BD = None
        if self.config.has_user_key:
            profile_BD = self.user_projection(self.user_hidden(user["embedding"]))
        rows_BND = self.behavior_projection(behaviors["embedding"])
        for index, block in enumerate(self.blocks):
            last = index == len(self.blocks) - 1
            rows_BND, kept = block.encode(rows_BND, profile_BD, plan, not last)
            state.update({f"block_{index}_{key}": kept[key] for key in kept})
        return state

    def score(self, state, candidates, training=False):
        """Logits `[B, C]` float32, with tasks `[B, C, T]`."""
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
        heads = (self.head, *self.task_heads)
        return self.join_tasks([head(rows_BCD, state["user"]) for head in heads])
