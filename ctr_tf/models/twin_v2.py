"""TWIN-V2: target attention over clusters of a lifelong history.

Shape suffixes: `B` batch, `C` candidates, `M` clusters, `D` model width.
"""

import dataclasses
from typing import Any

import keras
from keras import ops

from ctr_tf.layers.behavior_clusters import BehaviorClusters
from ctr_tf.layers.cluster_attention import ClusterAttention
from ctr_tf.layers.recent_attention import RecentAttention
from ctr_tf.layers.state_spec import StateSpec
from ctr_tf.layers.tower_head import TowerHead
from ctr_tf.models.config_checks import check_positive
from ctr_tf.models.ranker import Ranker
from ctr_tf.models.sizes import RecentSizes
from ctr_tf.schema import Schema
from ctr_tf.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class TwinV2Config(RecentSizes):
    """Sizes of `TwinV2`.

    Args:
        cluster_size: behaviors that a cluster may have without being split. The paper
            has 20, for histories a thousand times as long as most here.
        top_clusters: clusters that a head attends to.
    """

    name: str = "twin_v2"
    cluster_size: int = 10
    top_clusters: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "cluster_size", "top_clusters")

    def num_clusters_for(self, history_length: int) -> int:
        """M for histories up to this length: twice what full clusters would need.

        The length is the schema's, not a batch's; see `SparseCTRConfig.num_chunks_for`.
        """
        full = -(-history_length // self.cluster_size)
        return 2 * 2 ** (full - 1).bit_length()


@keras.saving.register_keras_serializable(package="ctr_tf")
class TwinV2(Ranker):
    """``interest = [attention(t, top clusters), attention(t, the latest)]``.

    `BehaviorClusters` makes clusters by the rows of the items' features, as the paper
    does by item embeddings; `ClusterAttention` searches them and attends. (The paper's
    model has other modules for the latest behaviors.) M depends on the schema's history
    length alone, and the state does not grow with the history.

    Reference:
        TWIN V2 (Si et al. 2024), "Scaling ultra-long user behavior sequence modeling
        for enhanced CTR prediction at Kuaishou".
    """

    config_class = TwinV2Config

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        config: TwinV2Config | None = None,
        **kwargs: Any,
    ):
        super().__init__(schema, table_sizes, config, **kwargs)
        config, policy = self.config, self.dtype_policy
        self.behavior_projection = self.dense(config.dim, "behavior")
        self.candidate_projection = self.dense(config.dim, "candidate")
        self.clusters = BehaviorClusters(
            config.num_clusters_for(schema.history_length),
            config.cluster_size,
            dtype=policy,
            name="clusters",
        )
        self.cluster_attention = ClusterAttention(
            config.num_heads, config.top_clusters, dtype=policy, name="cluster"
        )
        self.recent = RecentAttention(
            config.num_heads, config.recent, dtype=policy, name="recent"
        )
        self.head = TowerHead(config.head_units, self.tasks, dtype=policy, name="head")

    def build_parts(self) -> None:
        """Builds the projections, the clusters, both attentions and the head."""
        width, rows = self.embedding.width, (None, None, self.config.dim)
        self.behavior_projection.build((None, None, width("behavior")))
        self.candidate_projection.build((None, None, width("candidate")))
        self.clusters.build((None, None, self.embedding.shared_dim))
        self.cluster_attention.build(rows)
        self.recent.build(rows, rows)
        self.head.build_for(self.embedding, self.config.dim, 2 * self.config.dim)

    def state_spec(self) -> dict:
        """User and request; the clusters; the latest behaviors."""
        dim, recent = self.config.dim, self.recent.axis
        count = self.clusters.num_clusters
        return {
            **self.request_spec(),
            "cluster": StateSpec((count, dim)),
            "cluster_time": StateSpec((count,), "int64"),
            "cluster_size": StateSpec((count,), "float32"),
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
        """Clusters the behaviors."""
        rows_BND = self.behavior_projection(behaviors["embedding"])
        item, mask_BN = self.embedding.shared(behaviors["embedding"]), behaviors["mask"]
        return {
            **self.request_state(user, context),
            **self.clusters(item, rows_BND, behaviors["time"], mask_BN),
            "recent": self.recent.latest(rows_BND),
            "recent_mask": self.recent.latest(mask_BN),
        }

    def history_logits(
        self, state: dict, candidates: dict, training: bool = False
    ) -> Tensor:
        """Logits `[B, C, T]` float32."""
        target_BCD = self.candidate_projection(candidates["embedding"])
        clusters = [state[k] for k in ("cluster", "cluster_time", "cluster_size")]
        found_BCD = self.cluster_attention(target_BCD, *clusters, state["request_time"])
        recent_BCD = self.recent(target_BCD, state["recent"], state["recent_mask"])
        interest = ops.concatenate([found_BCD, recent_BCD], axis=-1)
        return self.head(target_BCD, state["user"], state["context"], interest)
