"""The base of models that retrieve a few relevant behaviors for each candidate.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `J` retrieved behaviors, `D`
model width.
"""

import dataclasses

from keras import ops

from ctr_tf.layers.target_attention import TargetAttention
from ctr_tf.layers.time_gap import NUM_GAPS, one_hot_gap
from ctr_tf.layers.top_behaviors import take_behaviors, top_behaviors
from ctr_tf.models.config_checks import check_positive
from ctr_tf.models.recent_ranker import RecentConfig, RecentRanker


@dataclasses.dataclass(frozen=True)
class RetrievalConfig(RecentConfig):
    """Sizes of a `RetrievalRanker`.

    Args:
        top_k: behaviors retrieved for a candidate.
    """

    top_k: int = 50

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "top_k")


class RetrievalRanker(RecentRanker):
    """Attention over the most relevant behaviors, and over the latest.

    ``interest = [attention(t, top k of the history), attention(t, last behaviors)]``,
    each a `TargetAttention` of its own. A subclass says what is relevant; no gradient
    passes through the selection. Where `time_gaps` is set, retrieved behaviors carry
    their time gap (`one_hot_gap`).
    """

    time_gaps = False

    def build_found(self, dim):
        """Makes the attention to what is retrieved."""
        self.retrieved_attention = TargetAttention(
            self.config.num_heads, dtype=self.dtype_policy, name="retrieved"
        )
        retrieved = dim + NUM_GAPS if self.time_gaps else dim
        self.retrieved_attention.build((None, None, dim), (None, None, None, retrieved))
        return dim

    def relevance(self, target_BCD, state: dict):
        """How relevant each behavior is to each candidate.

        Args:
            target_BCD: projected candidates.
            state: from `encode`.

        Returns:
            Scores `[B, C, N]`, higher is better, and which behaviors may be retrieved
            at all, `[B, N]` or `[B, C, N]` bool.
        """
        raise NotImplementedError(f"{type(self).__name__} lacks `relevance`.")

    def found(self, target_BCD, state):
        """The attention over the top k."""
        score_BCN, mask = self.relevance(target_BCD, state)
        index_BCJ, found_BCJ = top_behaviors(score_BCN, mask, self.config.top_k)
        keys_BCJE = take_behaviors(state["behaviors"], index_BCJ)
        if self.time_gaps:
            time_BCJ = take_behaviors(state["time"], index_BCJ)
            gap = one_hot_gap(state["request_time"], time_BCJ, keys_BCJE.dtype)
            keys_BCJE = ops.concatenate([keys_BCJE, gap], axis=-1)
        return self.retrieved_attention(target_BCD, keys_BCJE, found_BCJ)
