"""TWIN-V2: target attention over clusters of a lifelong history.

Shape suffixes: `B` batch, `C` candidates, `M` clusters, `D` model width.
"""

import dataclasses

import keras

from ctr_tf.layers.behavior_clusters import BehaviorClusters
from ctr_tf.layers.cluster_attention import ClusterAttention
from ctr_tf.models.config_checks import check_positive
from ctr_tf.models.recent_ranker import RecentConfig, RecentRanker


@dataclasses.dataclass(frozen=True)
class TwinV2Config(RecentConfig):
    """Sizes of `TwinV2`.

    Args:
        cluster_size: behaviors that a cluster may have without being split. The paper
            has 20, for histories a thousand times as long as most here.
        top_clusters: clusters that a head attends to.
    """

    name: str = "twin_v2"
    cluster_size: int = 10
    top_clusters: int = 100

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "cluster_size", "top_clusters")

    def num_clusters_for(self, history_length: int) -> int:
        """M for histories up to this length: twice what full clusters would need.

        The length is the schema's, not a batch's; see `SparseCTRConfig.num_chunks_for`.
        """
        full = -(-history_length // self.cluster_size)
        return 2 * 2 ** (full - 1).bit_length()


@keras.saving.register_keras_serializable(package="ctr_tf")
class TwinV2(RecentRanker):
    """``interest = [attention(t, top clusters), attention(t, last behaviors)]``.

    `BehaviorClusters` makes clusters by the rows of the items' features, as the paper
    does by item embeddings; `ClusterAttention` searches them and attends. (The paper's
    model has other modules for the latest behaviors.)

    State: `request_time` `[B]`, `user` `[B, Du]`, `context` `[B, Dx]`; `cluster`
    `[B, M, D]`, `cluster_time` `[B, M]` int64, `cluster_size` `[B, M]`; and of the
    `recent` latest behaviors `behaviors` `[B, R, D]` and `mask` `[B, R]`. M depends on
    the schema's history length alone.

    Reference:
        TWIN V2 (Si et al. 2024), "Scaling ultra-long user behavior sequence modeling
        for enhanced CTR prediction at Kuaishou".
    """

    config_class = TwinV2Config

    def build_found(self, dim):
        """Makes clusters and the attention to them."""
        config, policy = self.config, self.dtype_policy
        self.clusters = BehaviorClusters(
            config.num_clusters_for(self.schema.history_length),
            config.cluster_size,
            dtype=policy,
            name="clusters",
        )
        self.clusters.build((None, None, self.embedding.shared_dim))
        self.cluster_attention = ClusterAttention(
            config.num_heads, config.top_clusters, dtype=policy, name="cluster"
        )
        self.cluster_attention.build((None, None, dim))
        return dim

    def encode(self, user, behaviors, context, training=False) -> dict:
        """The user's state; see the class."""
        state = super().encode(user, behaviors, context, training)
        item = self.embedding.shared(behaviors["embedding"])
        time = state.pop("time")
        state |= self.clusters(item, state["behaviors"], time, state["mask"])
        return state | self.latest(state)

    def found(self, target_BCD, state):
        """The attention over the clusters."""
        clusters = [state[k] for k in ("cluster", "cluster_time", "cluster_size")]
        return self.cluster_attention(target_BCD, *clusters, state["request_time"])
