"""SIM with hard search: the latest behaviors of the candidate's category.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `D` model width.
"""

import dataclasses
from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.layers.recent_attention import RecentAttention
from ctr_tf.layers.search_attention import SearchAttention
from ctr_tf.layers.state_spec import StateSpec, history
from ctr_tf.layers.tower_head import TowerHead
from ctr_tf.models.ranker import Ranker
from ctr_tf.models.sizes import SearchSizes
from ctr_tf.schema import FIRST_ID, ITEM_KEY, Schema
from ctr_tf.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class SIMHardConfig(SearchSizes):
    """Sizes of `SIMHard`.

    Args:
        category: the item feature that must be equal; the first after the item's id
            where None, or the id itself where there is no other.
    """

    name: str = "sim_hard"
    category: str | None = None


@keras.saving.register_keras_serializable(package="ctr_tf")
class SIMHard(Ranker):
    """``interest = [attention(t, the latest of t's category), attention(t, latest)]``.

    As in `SIMSoft`, found behaviors carry their time gaps, and every candidate also
    looks at the latest ones. A category outside the vocabulary is like no other (ours).

    Raises:
        UserError: if `category` is not an item feature with ids.

    Reference:
        Search-based User Interest Modeling with Lifelong Sequential Behavior Data for
        Click-Through Rate Prediction (CIKM 2020), sections 3.2 and 3.3.
    """

    config_class = SIMHardConfig

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        config: SIMHardConfig | None = None,
        **kwargs: Any,
    ):
        super().__init__(schema, table_sizes, config, **kwargs)
        config, policy = self.config, self.dtype_policy
        items = (f for f in schema.of("item") if f.is_embedded and f.length == 1)
        known = [f.name for f in items]
        known.sort(key=lambda name: name == ITEM_KEY)
        self.category = config.category or known[0]
        if self.category not in known:
            raise UserError(
                unknown_name("item feature with one id", self.category, known)
            )
        self.behavior_projection = self.dense(config.dim, "behavior")
        self.candidate_projection = self.dense(config.dim, "candidate")
        self.search = SearchAttention(
            config.num_heads, config.top_k, dtype=policy, name="retrieved"
        )
        self.recent = RecentAttention(
            config.num_heads, config.recent, dtype=policy, name="recent"
        )
        self.head = TowerHead(config.head_units, self.tasks, dtype=policy, name="head")

    def build_parts(self) -> None:
        """Builds the projections, both attentions and the head."""
        width, rows = self.embedding.width, (None, None, self.config.dim)
        self.behavior_projection.build((None, None, width("behavior")))
        self.candidate_projection.build((None, None, width("candidate")))
        self.search.build(rows, time_shape=(None, None))
        self.recent.build(rows, rows)
        self.head.build_for(self.embedding, self.config.dim, 2 * self.config.dim)

    def state_spec(self) -> dict:
        """User and request; the behaviors, their times and categories."""
        return {
            **self.request_spec(),
            "time": StateSpec((history,), "int64"),
            "mask": StateSpec((history,), "bool"),
            "behaviors": StateSpec((history, self.config.dim)),
            "category": StateSpec((history,), "int64"),
        }

    def encode(
        self,
        user: dict,
        behaviors: dict,
        context: dict,
        training: bool = False,
    ) -> dict:
        """Projects the behaviors."""
        return {
            **self.request_state(user, context),
            "time": behaviors["time"],
            "mask": behaviors["mask"],
            "behaviors": self.behavior_projection(behaviors["embedding"]),
            "category": ops.cast(behaviors["ids"][self.category], "int64"),
        }

    def history_logits(
        self, state: dict, candidates: dict, training: bool = False
    ) -> Tensor:
        """Logits `[B, C, T]` float32."""
        target_BCD = self.candidate_projection(candidates["embedding"])
        behaviors_BND, mask_BN = state["behaviors"], state["mask"]
        category_BC1 = ops.cast(candidates["ids"][self.category], "int64")[..., None]
        same_BCN = category_BC1 == state["category"][:, None]
        recency_BCN = ops.broadcast_to(
            ops.arange(same_BCN.shape[2], dtype="float32"), ops.shape(same_BCN)
        )
        found_BCD = self.search(
            target_BCD,
            recency_BCN,
            same_BCN & (category_BC1 >= FIRST_ID),
            behaviors_BND,
            state["time"],
            state["request_time"],
        )
        recent_BCD = self.recent(target_BCD, behaviors_BND, mask_BN)
        interest = ops.concatenate([found_BCD, recent_BCD], axis=-1)
        return self.head(target_BCD, state["user"], state["context"], interest)
