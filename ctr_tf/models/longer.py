"""LONGER: merged tokens, global tokens, and few queries over the whole history.

Shape suffixes: `B` batch, `N` behaviors, `G` groups of behaviors, `Q` queries, `J`
keys, `D` model width.
"""

import dataclasses
from typing import Any

import keras
from keras import ops

from ctr_tf.layers.blocks import last_rows
from ctr_tf.layers.full_attention import FullAttention
from ctr_tf.layers.relative_encoding import RelativeEncoding
from ctr_tf.layers.sparse_block import SparseBlock
from ctr_tf.layers.state_spec import StateSpec
from ctr_tf.layers.time_gap import NUM_GAPS, one_hot_gap
from ctr_tf.layers.token_merge import TokenMerge
from ctr_tf.layers.tower_head import TowerHead
from ctr_tf.models.config_checks import check_positive
from ctr_tf.models.ranker import Ranker
from ctr_tf.models.sizes import TransformerSizes
from ctr_tf.schema import Schema
from ctr_tf.tensors import Tensor

_GLOBALS = 2  # the user, CLS


@dataclasses.dataclass(frozen=True)
class LONGERConfig(TransformerSizes):
    """Sizes of `LONGER`.

    Args:
        merge: K, behaviors that become one token.
        recent: how many of the latest tokens are queries.
        ffn_factor: hidden width of the SwiGLUs, in units of `dim`.
    """

    name: str = "longer"
    merge: int = 4
    recent: int = 100
    ffn_factor: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "merge", "recent")


@keras.saving.register_keras_serializable(package="ctr_tf")
class LONGER(Ranker):
    """Cross-causal attention of few queries over all tokens, then among themselves.

    Behaviors carry their age and a learned position, counted from the latest;
    `TokenMerge` makes a token of K of them. The global tokens are the candidate, CLS
    (learned) and the user. In the first block the queries are the globals and the
    latest tokens, the keys all tokens and globals; in later blocks both are what the
    block before put out. The candidate's row is the interest.

    In the paper's order, globals at the head and the latest token next, position i sees
    every j >= i. So the candidate sees everything, CLS the user and all tokens, the
    user all tokens, a token itself and older ones, and nobody sees the candidate, which
    is what the authors cache keys and values for. Written oldest first, ``[tokens,
    user, CLS, candidate]``, the mask is the usual causal one. (Where the paper's text
    says that globals influence all tokens, we follow its mask.)

    Blocks are those of SparseCTR, pre-normalized with SwiGLU (ours).

    Reference:
        LONGER: Scaling Up Long Sequence Modeling in Industrial Recommenders (RecSys
        2025), section 3.
    """

    config_class = LONGERConfig

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        config: LONGERConfig | None = None,
        **kwargs: Any,
    ):
        super().__init__(schema, table_sizes, config, **kwargs)
        config, policy = self.config, self.dtype_policy
        self.behavior_projection = self.dense(config.dim, "behavior")
        self.candidate_projection = self.dense(config.dim, "candidate")
        self.user_projection = self.dense(config.dim, "user")
        self.gap = self.dense(config.dim, "gap", use_bias=False)
        self.merge = TokenMerge(
            config.merge, config.ffn_factor, dtype=policy, name="merge"
        )
        self.blocks = [self._block(f"block_{i}") for i in range(config.num_blocks)]
        self.head = TowerHead(config.head_units, self.tasks, dtype=policy, name="head")

    def _block(self, name: str) -> SparseBlock:
        attention = FullAttention(
            self.config.num_heads,
            RelativeEncoding(),
            sees_itself=True,
            dtype=self.dtype_policy,
            name="attention",
        )
        factor = self.config.ffn_factor
        return SparseBlock(attention, factor, dtype=self.dtype_policy, name=name)

    def build_parts(self) -> None:
        """Makes positions and CLS, builds projections, merge, blocks and head."""
        width, dim = self.embedding.width, self.config.dim
        for name, rows in (("position", self.schema.history_length), ("cls", 1)):
            weight = self.add_weight(
                name=name,
                shape=(rows, dim),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
                autocast=False,
            )
            setattr(self, name, weight)
        self.behavior_projection.build((None, None, width("behavior")))
        self.candidate_projection.build((None, None, width("candidate")))
        self.user_projection.build((None, width("user")))
        self.gap.build((None, None, NUM_GAPS))
        self.merge.build((None, None, dim))
        for block in self.blocks:
            block.build((None, None, dim))
        self.head.build_for(self.embedding, dim, dim)

    def state_spec(self) -> dict:
        """User and request; what each block's candidates attend to."""
        dim = self.config.dim

        def rows(axis):
            return {name: StateSpec((axis, dim)) for name in ("key", "value")}

        later = [rows(self._queries) for _ in self.blocks[1:]]
        return {
            **self.request_spec(),
            "mask": StateSpec((self._keys,), "bool"),
            "blocks": [rows(self._keys), *later],
        }

    def _keys(self, history_length: int) -> int:
        """J of the first block: tokens and globals."""
        return -(-history_length // self.config.merge) + _GLOBALS

    def _queries(self, history_length: int) -> int:
        """Q, and J of later blocks: the latest tokens and the globals."""
        return min(self.config.recent + _GLOBALS, self._keys(history_length))

    def encode(
        self,
        user: dict,
        behaviors: dict,
        context: dict,
        training: bool = False,
    ) -> dict:
        """Merges the behaviors and runs the queries."""
        rows_BND = self.behavior_projection(behaviors["embedding"])
        time_BN, request_time = behaviors["time"], context["time"]
        rows_BND = self._with_gap(rows_BND, time_BN, request_time)
        rows_BND = rows_BND + self._positions(time_BN.shape[1], rows_BND.dtype)
        tokens_BGD, mask_BG = self.merge(rows_BND, behaviors["mask"])
        rows_BJD, mask_BJ = self._with_globals(tokens_BGD, mask_BG, user["embedding"])
        state = {**self.request_state(user, context), "mask": mask_BJ, "blocks": []}
        queries = self._queries(time_BN.shape[1])
        plan = {"position": ops.arange(rows_BJD.shape[1], dtype="int32")}
        for index, block in enumerate(self.blocks):
            _, kept = block.encode(rows_BJD, None, plan, with_queries=False)
            state["blocks"].append(kept)
            if index < len(self.blocks) - 1:
                relations = _older(mask_BJ, queries)
                rows_BJD = block.score(rows_BJD[:, -queries:], kept, relations)
                mask_BJ = mask_BJ[:, -queries:]
        return state

    def history_logits(
        self, state: dict, candidates: dict, training: bool = False
    ) -> Tensor:
        """Logits `[B, C, T]` float32."""
        target_BCD = self.candidate_projection(candidates["embedding"])
        request_time = state["request_time"]
        rows_BCD = self._with_gap(target_BCD, request_time[:, None], request_time)
        hidden_B11J = 1.0 - ops.cast(state["mask"], "float32")[:, None, None]
        for block, kept in zip(self.blocks, state["blocks"], strict=True):
            hidden = hidden_B11J[..., -kept["key"].shape[1] :]
            rows_BCD = block.score(rows_BCD, kept, hidden)
        return self.head(target_BCD, state["user"], state["context"], rows_BCD)

    def _with_gap(self, rows_BND, time_BN, request_time_B):
        """Rows that know how long before the request they were."""
        return rows_BND + self.gap(one_hot_gap(request_time_B, time_BN, rows_BND.dtype))

    def _positions(self, length: int, dtype: Any) -> Tensor:
        """`[1, N, D]`: the last rows of the table, 0 for what is older than all."""
        return last_rows(ops.cast(self.position.value, dtype)[None], length)

    def _with_globals(self, tokens_BGD, mask_BG, user_BU):
        """Appends the user and CLS, which are never hidden."""
        user_B1D = self.user_projection(user_BU)[:, None]
        cls_1D = ops.cast(self.cls.value, user_B1D.dtype)
        rows = [tokens_BGD, user_B1D, ops.broadcast_to(cls_1D, ops.shape(user_B1D))]
        mask_BJ = ops.pad(mask_BG, ((0, 0), (0, _GLOBALS)), constant_values=True)
        return ops.concatenate(rows, axis=1), mask_BJ


def _older(mask_BJ: Tensor, queries: int) -> Tensor:
    """Hides from the last Q rows what is not older: `[B, 1, Q, J]` float32."""
    index_J = ops.arange(mask_BJ.shape[1], dtype="int32")
    older_QJ = index_J[None, :] < index_J[-queries:, None]
    return 1.0 - ops.cast(mask_BJ[:, None, :] & older_QJ, "float32")[:, None]
