"""LONGER: merged tokens, global tokens, and few queries over the whole history.

Shape suffixes: `B` batch, `N` behaviors, `G` groups of behaviors, `Q` queries, `J`
keys, `D` model width.
"""

import dataclasses

import keras
from keras import ops

from ctr_tf.layers.full_attention import FullAttention
from ctr_tf.layers.relative_encoding import RelativeEncoding
from ctr_tf.layers.sparse_block import SparseBlock
from ctr_tf.layers.token_merge import TokenMerge
from ctr_tf.models.config_checks import check_positive
from ctr_tf.models.target_ranker import TargetRanker
from ctr_tf.models.transformer_ranker import TransformerRanker, TransformerRankerConfig

_GLOBALS = 2  # the user, CLS


@dataclasses.dataclass(frozen=True)
class LONGERConfig(TransformerRankerConfig):
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

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "merge", "recent")


@keras.saving.register_keras_serializable(package="ctr_tf")
class LONGER(TransformerRanker):
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

    State, batch first: `request_time` `[B]`, `user` `[B, Du]`, `context` `[B, Dx]`,
    `mask` `[B, G + 2]` and of each block l `block_<l>_key`, `block_<l>_value`
    `[B, J, D]`, J = G + 2 in the first block, at most `recent` + 2 in the others.

    Reference:
        LONGER: Scaling Up Long Sequence Modeling in Industrial Recommenders (RecSys
        2025), section 3.
    """

    config_class = LONGERConfig
    time_gaps = True

    def make_block(self, name):
        """A block of attention without relative encoding."""
        policy = self.dtype_policy
        attention = FullAttention(
            self.config.num_heads,
            RelativeEncoding(),
            sees_itself=True,
            dtype=policy,
            name="attention",
        )
        return SparseBlock(attention, self.config.ffn_factor, dtype=policy, name=name)

    def build_interest(self, dim):
        """Makes positions, merge, globals and blocks."""
        sizes = {"position": self.schema.history_length, "cls": 1}
        for name, rows in sizes.items():
            weight = self.add_weight(
                name=name,
                shape=(rows, dim),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
                autocast=False,
            )
            setattr(self, name, weight)
        self.merge = TokenMerge(
            self.config.merge,
            self.config.ffn_factor,
            dtype=self.dtype_policy,
            name="merge",
        )
        self.merge.build((None, None, dim))
        self.user_projection = keras.layers.Dense(
            dim, dtype=self.dtype_policy, name="user"
        )
        self.user_projection.build((None, self.embedding.width("user")))
        self.build_blocks(dim)
        return dim

    def encode(self, user, behaviors, context, training=False) -> dict:
        """The user's state; see the class."""
        state = TargetRanker.encode(self, user, behaviors, context, training)
        rows_BND, time_BN = state.pop("behaviors"), state.pop("time")
        rows_BND = self.with_gap(rows_BND, time_BN, state["request_time"])
        rows_BND = rows_BND + self._positions(time_BN.shape[1], rows_BND.dtype)
        rows_BJD, mask_BJ = self._with_globals(
            *self.merge(rows_BND, state["mask"]), user["embedding"]
        )
        state["mask"] = mask_BJ
        queries = min(self.config.recent + _GLOBALS, rows_BJD.shape[1])
        plan = {"position": ops.arange(rows_BJD.shape[1], dtype="int32")}
        for index, block in enumerate(self.blocks):
            _, kept = block.encode(rows_BJD, None, plan, with_queries=False)
            state.update({f"block_{index}_{key}": kept[key] for key in kept})
            if index < len(self.blocks) - 1:
                relations = _older(mask_BJ, queries)
                rows_BJD = block.score(rows_BJD[:, -queries:], kept, relations)
                mask_BJ = mask_BJ[:, -queries:]
        return state

    def _positions(self, length: int, dtype):
        """`[N, D]`: the last rows of the table, 0 for what is older than all of it."""
        position_ND = ops.cast(self.position.value[-length:], dtype)
        return ops.pad(position_ND, ((length - position_ND.shape[0], 0), (0, 0)))

    def _with_globals(self, tokens_BGD, mask_BG, user_BU):
        """Appends the user and CLS, which are never hidden."""
        user_B1D = self.user_projection(user_BU)[:, None]
        cls_1D = ops.cast(self.cls.value, user_B1D.dtype)
        rows = [tokens_BGD, user_B1D, ops.broadcast_to(cls_1D, ops.shape(user_B1D))]
        mask_BJ = ops.pad(mask_BG, ((0, 0), (0, _GLOBALS)), constant_values=True)
        return ops.concatenate(rows, axis=1), mask_BJ

    def relations_to(self, state):
        """What is hidden, `[B, 1, 1, J]`, of each block."""
        hidden_B11J = 1.0 - ops.cast(state["mask"], "float32")[:, None, None]
        sizes = [state[f"block_{i}_key"].shape[1] for i in range(len(self.blocks))]
        return [hidden_B11J[..., -size:] for size in sizes]


def _older(mask_BJ, queries: int):
    """Hides from the last Q rows what is not older: `[B, 1, Q, J]` float32."""
    index_J = ops.arange(mask_BJ.shape[1], dtype="int32")
    older_QJ = index_J[None, :] < index_J[-queries:, None]
    return 1.0 - ops.cast(mask_BJ[:, None, :] & older_QJ, "float32")[:, None]
