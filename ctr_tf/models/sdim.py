"""SDIM: behaviors that share hash buckets with the candidate.

Shape suffixes: `B` batch, `C` candidates, `D` model width.
"""

import dataclasses
from typing import Any

import keras
from keras import ops

from ctr_tf.layers.hash_collisions import HashCollisions
from ctr_tf.layers.recent_attention import RecentAttention
from ctr_tf.layers.state_spec import StateSpec
from ctr_tf.layers.tower_head import TowerHead
from ctr_tf.models.config_checks import check_positive
from ctr_tf.models.ranker import Ranker
from ctr_tf.models.sizes import RecentSizes
from ctr_tf.schema import Schema
from ctr_tf.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class SDIMConfig(RecentSizes):
    """Sizes of `SDIM`.

    Args:
        num_groups: G, groups of hash bits.
        num_bits: tau, bits of a group.
    """

    name: str = "sdim"
    num_groups: int = 16
    num_bits: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "num_groups", "num_bits")


@keras.saving.register_keras_serializable(package="ctr_tf")
class SDIM(Ranker):
    """``interest = [mean of the candidate's buckets, attention(t, the latest)]``.

    Hashed are the rows of the items' features alone, for the reason that `ETA` gives;
    summed are the projected behaviors. The state does not grow with the history.

    Reference:
        SDIM (Cao et al. 2022), "Sampling is all you need on modeling long-term user
        behaviors for CTR prediction".
    """

    config_class = SDIMConfig

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        config: SDIMConfig | None = None,
        **kwargs: Any,
    ):
        super().__init__(schema, table_sizes, config, **kwargs)
        config, policy = self.config, self.dtype_policy
        self.behavior_projection = self.dense(config.dim, "behavior")
        self.candidate_projection = self.dense(config.dim, "candidate")
        self.collisions = HashCollisions(
            config.num_groups, config.num_bits, dtype=policy, name="collisions"
        )
        self.recent = RecentAttention(
            config.num_heads, config.recent, dtype=policy, name="recent"
        )
        self.head = TowerHead(config.head_units, self.tasks, dtype=policy, name="head")

    def build_parts(self) -> None:
        """Builds the projections, the hash, the attention and the head."""
        width, rows = self.embedding.width, (None, None, self.config.dim)
        self.behavior_projection.build((None, None, width("behavior")))
        self.candidate_projection.build((None, None, width("candidate")))
        self.collisions.build((None, None, self.embedding.shared_dim))
        self.recent.build(rows, rows)
        self.head.build_for(self.embedding, self.config.dim, 2 * self.config.dim)

    def state_spec(self) -> dict:
        """User and request; the buckets; the latest behaviors."""
        dim, recent = self.config.dim, self.recent.axis
        return {
            **self.request_spec(),
            "buckets": StateSpec((self.collisions.num_buckets, dim)),
            "recent": StateSpec((recent, dim)),
            "recent_mask": StateSpec((recent,), "bool"),
        }

    def encode(
        self,
        user: dict,
        behaviors: dict,
        context: dict,
        training: bool = False,
    ) -> dict:
        """Sums up the buckets."""
        rows_BND = self.behavior_projection(behaviors["embedding"])
        hashed, mask_BN = self._hashed(behaviors), behaviors["mask"]
        return {
            **self.request_state(user, context),
            "buckets": self.collisions.encode(hashed, rows_BND, mask_BN),
            "recent": self.recent.latest(rows_BND),
            "recent_mask": self.recent.latest(mask_BN),
        }

    def history_logits(
        self, state: dict, candidates: dict, training: bool = False
    ) -> Tensor:
        """Logits `[B, C, T]` float32."""
        target_BCD = self.candidate_projection(candidates["embedding"])
        found_BCD = self.collisions.score(self._hashed(candidates), state["buckets"])
        recent_BCD = self.recent(target_BCD, state["recent"], state["recent_mask"])
        interest = ops.concatenate([found_BCD, recent_BCD], axis=-1)
        return self.head(target_BCD, state["user"], state["context"], interest)

    def _hashed(self, group: dict) -> Tensor:
        return self.embedding.shared(group["embedding"])
