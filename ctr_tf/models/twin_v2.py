"""TWIN-V2: target attention over clusters of a lifelong history.

Shape suffixes: `B` batch, `C` candidates, `M` clusters, `D` model width.
"""

import dataclasses

import keras
from keras import ops

from ctr_tf.layers.behavior_clusters import BehaviorClusters
from ctr_tf.layers.cluster_attention import ClusterAttention
from ctr_tf.layers.target_attention import TargetAttention
from ctr_tf.models.config_checks import check_positive
from ctr_tf.models.target_ranker import TargetRanker, TargetRankerConfig


@dataclasses.dataclass(frozen=True)
class TwinV2Config(TargetRankerConfig):
    """Sizes of `TwinV2`.

    Args:
        cluster_size: behaviors that a cluster may have without being split. The paper
            has 20, for histories a thousand times as long as most here.
        top_clusters: clusters that a head attends to.
        recent: latest behaviors, which every candidate looks at, too.
    """

    name: str = "twin_v2"
    cluster_size: int = 10
    top_clusters: int = 100
    recent: int = 50

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "cluster_size", "top_clusters", "recent")

    def num_clusters_for(self, history_length: int) -> int:
        """M for histories up to this length: twice what full clusters would need.

        The length is the schema's, not a batch's; see `SparseCTRConfig.num_chunks_for`.
        """
        full = -(-history_length // self.cluster_size)
        return 2 * 2 ** (full - 1).bit_length()


@keras.saving.register_keras_serializable(package="ctr_tf")
class TwinV2(TargetRanker):
    """``interest = [attention(t, top clusters), attention(t, last behaviors)]``.

    `BehaviorClusters` makes clusters by the rows of the items' features, as the paper
    does by item embeddings; `ClusterAttention` searches them and attends. The short
    branch is a `TargetAttention` (ours; the paper's model has other modules for the
    latest behaviors).

    State: `request_time` `[B]`, `user` `[B, Du]`, `context` `[B, Dx]`; `cluster`
    `[B, M, D]`, `cluster_time` `[B, M]` int64, `cluster_size` `[B, M]`; and of the
    `recent` latest behaviors `behaviors` `[B, R, D]` and `mask` `[B, R]`. M depends on
    the schema's history length alone.

    Reference:
        TWIN V2 (Si et al. 2024), "Scaling ultra-long user behavior sequence modeling
        for enhanced CTR prediction at Kuaishou".
    """

    config_class = TwinV2Config

    def build_interest(self, dim):
        """Makes clusters and attentions."""
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
        self.recent_attention = TargetAttention(
            config.num_heads, dtype=policy, name="recent"
        )
        self.recent_attention.build((None, None, dim), (None, None, dim))
        return 2 * dim

    def encode(self, user, behaviors, context, training=False) -> dict:
        """The user's state; see the class."""
        state = super().encode(user, behaviors, context, training)
        item = self.embedding.shared(behaviors["embedding"])
        time = state.pop("time")
        state |= self.clusters(item, state["behaviors"], time, state["mask"])
        for key in ("behaviors", "mask"):
            state[key] = state[key][:, -self.config.recent :]
        return state

    def interest(self, target_BCD, state, training=False):
        """Both attentions' outputs."""
        clusters = [state[k] for k in ("cluster", "cluster_time", "cluster_size")]
        found_BCD = self.cluster_attention(target_BCD, *clusters, state["request_time"])
        recent_BCD = self.recent_attention(
            target_BCD, state["behaviors"], state["mask"]
        )
        return ops.concatenate([found_BCD, recent_BCD], axis=-1)
