"""SIM with soft search: the behaviors most similar to the candidate, by inner product.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `D` model width.
"""

import dataclasses
from typing import Any

import keras
from keras import ops

from ctr_tf.layers.recent_attention import RecentAttention
from ctr_tf.layers.search_attention import SearchAttention
from ctr_tf.layers.state_spec import StateSpec, history
from ctr_tf.layers.tower import Tower
from ctr_tf.layers.tower_head import TowerHead
from ctr_tf.models.ranker import Ranker
from ctr_tf.models.sizes import SearchSizes
from ctr_tf.schema import Schema
from ctr_tf.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class SIMSoftConfig(SearchSizes):
    """Sizes of `SIMSoft`."""

    name: str = "sim_soft"


@keras.saving.register_keras_serializable(package="ctr_tf")
class SIMSoft(Ranker):
    """``interest = [attention(t, most similar), attention(t, the latest)]``.

    Similar are behaviors of a large ``r_j = (W_b e_j) . (W_a t)``; W_b^T W_a is one
    matrix here. The search is trained by a click prediction of its own, ``[sum_j r_j
    e_j, t]`` through a `Tower`: the auxiliary logit `search`. Beside what it finds,
    whose behaviors carry their time gaps, every candidate looks at the latest (the
    authors' short-term part; ours: by attention).

    Reference:
        Search-based User Interest Modeling with Lifelong Sequential Behavior Data for
        Click-Through Rate Prediction (CIKM 2020), sections 3.2 and 3.3.
    """

    config_class = SIMSoftConfig
    auxiliary = ("search",)

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        config: SIMSoftConfig | None = None,
        **kwargs: Any,
    ):
        super().__init__(schema, table_sizes, config, **kwargs)
        config, policy = self.config, self.dtype_policy
        self.behavior_projection = self.dense(config.dim, "behavior")
        self.candidate_projection = self.dense(config.dim, "candidate")
        self.similarity = self.dense(config.dim, "search", use_bias=False)
        self.search = SearchAttention(
            config.num_heads, config.top_k, dtype=policy, name="retrieved"
        )
        self.search_tower = Tower(config.head_units, dtype=policy, name="search_tower")
        self.recent = RecentAttention(
            config.num_heads, config.recent, dtype=policy, name="recent"
        )
        self.head = TowerHead(config.head_units, self.tasks, dtype=policy, name="head")

    def build_parts(self) -> None:
        """Builds the projections, the search and its tower, attentions and the head."""
        dim, width = self.config.dim, self.embedding.width
        rows = (None, None, dim)
        self.behavior_projection.build((None, None, width("behavior")))
        self.candidate_projection.build((None, None, width("candidate")))
        self.similarity.build(rows)
        self.search.build(rows, time_shape=(None, None))
        self.search_tower.build((None, None, 2 * dim))
        self.recent.build(rows, rows)
        self.head.build_for(self.embedding, dim, 2 * dim)

    def state_spec(self) -> dict:
        """User and request; the behaviors and their times."""
        return {
            **self.request_spec(),
            "time": StateSpec((history,), "int64"),
            "mask": StateSpec((history,), "bool"),
            "behaviors": StateSpec((history, self.config.dim)),
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
        }

    def history_logits(
        self, state: dict, candidates: dict, training: bool = False
    ) -> Tensor:
        """Logits `[B, C, T]` float32."""
        target_BCD = self.candidate_projection(candidates["embedding"])
        behaviors_BND, mask_BN = state["behaviors"], state["mask"]
        found_BCD = self.search(
            target_BCD,
            self._similarity(target_BCD, behaviors_BND),
            mask_BN,
            behaviors_BND,
            state["time"],
            state["request_time"],
        )
        recent_BCD = self.recent(target_BCD, behaviors_BND, mask_BN)
        interest = ops.concatenate([found_BCD, recent_BCD], axis=-1)
        return self.head(target_BCD, state["user"], state["context"], interest)

    def auxiliary_logits(self, state: dict, candidates: dict) -> dict:
        """The search's own prediction."""
        target_BCD = self.candidate_projection(candidates["embedding"])
        score_BCN = self._similarity(target_BCD, state["behaviors"])
        score_BCN = ops.where(state["mask"][:, None], score_BCN, 0)
        found_BCD = ops.matmul(score_BCN, state["behaviors"])
        inputs = ops.concatenate([found_BCD, target_BCD], axis=-1)
        return {"search": self.search_tower(inputs)[..., None]}

    def _similarity(self, target_BCD, behaviors_BND):
        """The scores r of all behaviors, `[B, C, N]`."""
        behaviors_BDN = ops.transpose(behaviors_BND, (0, 2, 1))
        return ops.matmul(self.similarity(target_BCD), behaviors_BDN)
