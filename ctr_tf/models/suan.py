"""SUAN: stacked blocks that attend to behaviors and to the user's profile.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `P` profile tokens, `D` model
width, `E` width of what is shown.
"""

import dataclasses
from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.layers.blocks import last_rows
from ctr_tf.layers.full_attention import FullAttention
from ctr_tf.layers.full_keys import FullKeys
from ctr_tf.layers.hstu_bias import HSTUBias
from ctr_tf.layers.profile_tokens import ProfileTokens
from ctr_tf.layers.relative_encoding import RelativeEncoding
from ctr_tf.layers.rows import by_rows
from ctr_tf.layers.sequence_attention import SequenceAttention
from ctr_tf.layers.sequence_keys import SequenceKeys
from ctr_tf.layers.state_spec import Axis, StateSpec, history
from ctr_tf.layers.time_gap import NUM_GAPS, one_hot_gap
from ctr_tf.layers.tower_head import TowerHead
from ctr_tf.layers.unified_attention_block import NORMS, UnifiedAttentionBlock
from ctr_tf.models.ranker import Ranker
from ctr_tf.models.sizes import TransformerSizes
from ctr_tf.schema import Schema
from ctr_tf.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class SUANConfig(TransformerSizes):
    """Sizes and variants of `SUAN`.

    Args:
        ffn_factor: hidden width of the SwiGLUs, in units of `dim`.
        swiglu: whether blocks end in a SwiGLU.
        fusion: whether blocks attend to the user's profile and align what they find.
        dual_alignment: whether that is weighed by channel; plainly added otherwise.
        target_aware: whether the candidate is the sequence's last token, whose row is
            read. Otherwise the newest behavior's is, and only the tower knows the
            candidate.
        attention_bias: whether self-attention knows positions and times.
        norm: `"rms"` or `"layer"`, what normalizes.
        post_norm: whether each part of a block is normalized behind its shortcut.
    """

    name: str = "suan"
    ffn_factor: float = 3.0
    swiglu: bool = True
    fusion: bool = True
    dual_alignment: bool = True
    target_aware: bool = True
    attention_bias: bool = True
    norm: str = "rms"
    post_norm: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.ffn_factor > 0:
            raise UserError(
                f"`ffn_factor` must be positive. Received: ffn_factor={self.ffn_factor}"
            )
        if self.norm not in NORMS:
            raise UserError(unknown_name("norm", self.norm, NORMS))

    @property
    def unread(self) -> tuple[str, ...]:
        """Keys of parts that are left out."""
        of_swiglu = () if self.swiglu else ("ffn_factor",)
        return of_swiglu if self.fusion else (*of_swiglu, "dual_alignment")


@keras.saving.register_keras_serializable(package="ctr_tf")
class SUAN(Ranker):
    """`UnifiedAttentionBlock`s over ``[b_1 … b_N, c]``; a tower with Dice scores.

    A token is a projection of its features (ours: candidates, which have more, by one
    of their own), of the time between it and the request (ours: its logarithm's bucket,
    as one of the features), and a learned position. Positions count from the right, so
    that padding moves nothing; all candidates stand at the last, at the request's time.

    Behaviors see themselves and what was before, each candidate all behaviors and
    itself, under one bias of positions and times for all heads and blocks (`HSTUBias`,
    between the two tokens' own times). What sees no key gets 0 (ours: padding attends
    to everything in the authors' code).

    The profile has a token for each user feature, from `state["user"]`, so that the
    state holds nothing more for it. The gate of a block's dual alignment is pooled over
    real behaviors alone and part of the state; see `DualAlignment`. So a new behavior
    changes what all older ones are: a kept state cannot be appended to.

    The tower sees the candidate's row, the user, the context and the candidate's own
    vectors. It has no BatchNorm beside Dice's own statistics (ours), whose moving
    averages are as fast as DIN's (ours: at the paper's momentum, .999, a run of two
    epochs would end before they are true).

    Methods with `attention` or `keys` in their names are what `LightSUAN` replaces.

    Reference:
        Exploring Scaling Laws of CTR Model for Online Performance Improvement (RecSys
        2025), the Stacked Unified Attention Network, by its abstract and the authors'
        code.
    """

    config_class = SUANConfig
    ablations = {
        "without_swiglu": {"swiglu": False},
        "without_fusion": {"fusion": False},
        "without_dual_alignment": {"dual_alignment": False},
        "without_target": {"target_aware": False},
        "without_attention_bias": {"attention_bias": False},
    }
    alternatives = {
        "layer_norm": {"norm": "layer"},
        "post_norm": {"post_norm": True},
    }

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        config: SUANConfig | None = None,
        **kwargs: Any,
    ):
        super().__init__(schema, table_sizes, config, **kwargs)
        config, policy = self.config, self.dtype_policy
        self.behavior_projection = self.dense(config.dim, "behavior")
        self.gap = self.dense(config.dim, "gap", use_bias=False)
        if config.target_aware:
            self.candidate_projection = self.dense(config.dim, "candidate")
        widths = self.embedding.widths("user")
        self.profile = None
        if config.fusion and widths:
            self.profile = ProfileTokens(
                widths, config.embedding_dim, dtype=policy, name="profile"
            )
        self.attention_bias: RelativeEncoding = RelativeEncoding(name="attention_bias")
        if config.attention_bias:
            self.attention_bias = HSTUBias(schema.history_length, name="attention_bias")
        self.keys = self.make_keys(self.attention_bias.relations)
        self.blocks = [self._block(f"block_{i}") for i in range(config.num_blocks)]
        self.head = TowerHead(
            config.head_units, self.tasks, "dice", dtype=policy, name="head"
        )

    def _block(self, name: str) -> UnifiedAttentionBlock:
        config = self.config
        return UnifiedAttentionBlock(
            self.make_attention(self.attention_bias),
            config.ffn_factor,
            config.swiglu,
            config.fusion,
            config.dual_alignment,
            config.norm,
            config.post_norm,
            dtype=self.dtype_policy,
            name=name,
        )

    def make_keys(self, relations: tuple[str, ...]) -> SequenceKeys:
        """The layer that says who sees whom.

        Args:
            relations: those of the attention's bias.
        """
        return FullKeys(relations, self.schema.zone, name="keys")

    def make_attention(self, bias: RelativeEncoding) -> SequenceAttention:
        """The self-attention of a block.

        Args:
            bias: of positions and times, that of all blocks.
        """
        return FullAttention(
            self.config.num_heads,
            bias,
            sees_itself=True,
            dtype=self.dtype_policy,
            name="attention",
        )

    def keys_axis(self) -> Axis:
        """J, the keys that a candidate sees."""
        return history

    def build_parts(self) -> None:
        """Makes positions, builds projections, profile, bias, blocks and head."""
        config, width, dim = self.config, self.embedding.width, self.config.dim
        self.position = self.add_weight(
            name="position",
            shape=(self.schema.history_length + config.target_aware, dim),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            autocast=False,
        )
        self.behavior_projection.build((None, None, width("behavior")))
        self.gap.build((None, None, NUM_GAPS))
        if config.target_aware:
            self.candidate_projection.build((None, None, width("candidate")))
        profile_shape = None
        if self.profile is not None:
            self.profile.build((None, width("user")))
            profile_shape = (None, len(self.profile.widths), config.embedding_dim)
        self.attention_bias.build((None, None, dim))
        for block in self.blocks:
            block.build((None, None, dim), profile_shape)
        self.head.build_for(self.embedding, width("candidate"), dim)

    def state_spec(self) -> dict:
        """User and request; the keys; keys, values and gate of each block.

        Or, where no candidate is among the tokens, the newest behavior's row.
        """
        config, axis = self.config, self.keys_axis()
        if not config.target_aware:
            return {**self.request_spec(), "interest": StateSpec((config.dim,))}
        rows = StateSpec((axis, config.dim))
        block = {"key": rows, "value": rows}
        if self.blocks[0].keeps_gate:
            block["gate"] = StateSpec((config.dim,))
        return {
            **self.request_spec(),
            "keys": {
                "time": StateSpec((axis,), "int64"),
                "mask": StateSpec((axis,), "bool"),
            },
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
        time_BN, mask_BN = behaviors["time"], behaviors["mask"]
        rows_BND = by_rows(self.behavior_projection, behaviors["embedding"])
        rows_BND = self._with_gap(rows_BND, time_BN, context["time"])
        places_ND = self.position.value[: self.schema.history_length]
        places_1ND = last_rows(places_ND[None], time_BN.shape[1])
        rows_BND = rows_BND + ops.cast(places_1ND, rows_BND.dtype)
        profile_BPE = self._profile(user["embedding"])
        plan, keys = self.keys(time_BN, mask_BN)
        blocks = []
        for index, block in enumerate(self.blocks):
            read = index < len(self.blocks) - 1 or not self.config.target_aware
            rows_BND, kept = block.encode(rows_BND, mask_BN, profile_BPE, plan, read)
            blocks.append(kept)
        state = self.request_state(user, context)
        if self.config.target_aware:
            return {**state, "keys": keys, "blocks": blocks}
        newest_BD = rows_BND[:, -1] * ops.cast(mask_BN[:, -1:], rows_BND.dtype)
        return {**state, "interest": newest_BD}

    def history_logits(
        self, state: dict, candidates: dict, training: bool = False
    ) -> Tensor:
        """Logits `[B, C, T]` float32."""
        shown_BCE = candidates["embedding"]
        if self.config.target_aware:
            interest_BCD = self._run_candidates(state, shown_BCE)
        else:
            interest_BCD = ops.broadcast_to(
                state["interest"][:, None],
                (*ops.shape(shown_BCE)[:2], self.config.dim),
            )
        return self.head(
            shown_BCE,
            state["user"],
            state["context"],
            interest_BCD,
            candidates["mask"],
            training=training,
        )

    def _run_candidates(self, state, shown_BCE):
        """The candidates' rows after the last block."""
        request_time = state["request_time"]
        rows_BCD = by_rows(self.candidate_projection, shown_BCE)
        rows_BCD = self._with_gap(rows_BCD, request_time[:, None], request_time)
        rows_BCD = rows_BCD + ops.cast(self.position.value[-1], rows_BCD.dtype)
        profile_BPE = self._profile(state["user"])
        relations = self.keys.relations_to(state["keys"], request_time)
        for block, kept in zip(self.blocks, state["blocks"], strict=True):
            rows_BCD = block.score(rows_BCD, profile_BPE, kept, relations)
        return rows_BCD

    def _with_gap(self, rows_BND, time_BN, request_time_B):
        """Rows that know how long before the request they were."""
        return rows_BND + self.gap(one_hot_gap(request_time_B, time_BN, rows_BND.dtype))

    def _profile(self, user_BU):
        """The profile's tokens, or None where there are none."""
        return None if self.profile is None else self.profile(user_BU)
