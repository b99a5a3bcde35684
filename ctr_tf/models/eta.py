"""ETA: behaviors whose hash codes resemble the candidate's.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `D` model width.
"""

import dataclasses
from typing import Any

import keras
from keras import ops

from ctr_tf.layers.recent_attention import RecentAttention
from ctr_tf.layers.search_attention import SearchAttention
from ctr_tf.layers.sim_hash import SimHash
from ctr_tf.layers.state_spec import StateSpec, history
from ctr_tf.layers.tower_head import TowerHead
from ctr_tf.models.config_checks import check_positive
from ctr_tf.models.ranker import Ranker
from ctr_tf.models.sizes import SearchSizes
from ctr_tf.schema import Schema
from ctr_tf.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class ETAConfig(SearchSizes):
    """Sizes of `ETA`.

    Args:
        num_bits: of the codes, at most 62.
    """

    name: str = "eta"
    num_bits: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "num_bits")


@keras.saving.register_keras_serializable(package="ctr_tf")
class ETA(Ranker):
    """``interest = [attention(t, nearest by SimHash), attention(t, the latest)]``.

    Nearest are the behaviors of the smallest Hamming distance of `SimHash` codes.
    Hashed are the rows of the items' features alone, from the tables that behaviors and
    candidates share (ours). What only one of them has, and the two projections to D,
    would make codes that have nothing in common, and no gradient would change that. The
    codes are part of the state, so that a request hashes the candidates only.

    Reference:
        ETA (Chen et al. 2021), "End-to-end user behavior retrieval in click-through
        rate prediction model".
    """

    config_class = ETAConfig

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        config: ETAConfig | None = None,
        **kwargs: Any,
    ):
        super().__init__(schema, table_sizes, config, **kwargs)
        config, policy = self.config, self.dtype_policy
        self.behavior_projection = self.dense(config.dim, "behavior")
        self.candidate_projection = self.dense(config.dim, "candidate")
        self.hash = SimHash(config.num_bits, dtype=policy, name="hash")
        self.search = SearchAttention(
            config.num_heads, config.top_k, dtype=policy, name="retrieved"
        )
        self.recent = RecentAttention(
            config.num_heads, config.recent, dtype=policy, name="recent"
        )
        self.head = TowerHead(config.head_units, self.tasks, dtype=policy, name="head")

    def build_parts(self) -> None:
        """Builds the projections, the hash, both attentions and the head."""
        width, rows = self.embedding.width, (None, None, self.config.dim)
        self.behavior_projection.build((None, None, width("behavior")))
        self.candidate_projection.build((None, None, width("candidate")))
        self.hash.build((None, None, self.embedding.shared_dim))
        self.search.build(rows)
        self.recent.build(rows, rows)
        self.head.build_for(self.embedding, self.config.dim, 2 * self.config.dim)

    def state_spec(self) -> dict:
        """User and request; the behaviors and their codes."""
        return {
            **self.request_spec(),
            "mask": StateSpec((history,), "bool"),
            "behaviors": StateSpec((history, self.config.dim)),
            "codes": StateSpec((history, self.hash.num_groups), "int64"),
        }

    def encode(
        self,
        user: dict,
        behaviors: dict,
        context: dict,
        training: bool = False,
    ) -> dict:
        """Projects and hashes the behaviors."""
        return {
            **self.request_state(user, context),
            "mask": behaviors["mask"],
            "behaviors": self.behavior_projection(behaviors["embedding"]),
            "codes": self._codes(behaviors),
        }

    def history_logits(
        self, state: dict, candidates: dict, training: bool = False
    ) -> Tensor:
        """Logits `[B, C, T]` float32."""
        target_BCD = self.candidate_projection(candidates["embedding"])
        behaviors_BND, mask_BN = state["behaviors"], state["mask"]
        distance_BCN = self.hash.distance(self._codes(candidates), state["codes"])
        found_BCD = self.search(target_BCD, -distance_BCN, mask_BN, behaviors_BND)
        recent_BCD = self.recent(target_BCD, behaviors_BND, mask_BN)
        interest = ops.concatenate([found_BCD, recent_BCD], axis=-1)
        return self.head(target_BCD, state["user"], state["context"], interest)

    def _codes(self, group: dict) -> Tensor:
        return self.hash(self.embedding.shared(group["embedding"]))
