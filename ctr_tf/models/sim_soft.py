"""SIM with soft search: the behaviors most similar to the candidate, by inner product.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `D` model width.
"""

import dataclasses

import keras
from keras import ops

from ctr_tf.layers.tower import Tower
from ctr_tf.models.retrieval_ranker import RetrievalConfig, RetrievalRanker


@dataclasses.dataclass(frozen=True)
class SIMSoftConfig(RetrievalConfig):
    """Sizes of `SIMSoft`."""

    name: str = "sim_soft"


@keras.saving.register_keras_serializable(package="ctr_tf")
class SIMSoft(RetrievalRanker):
    """Retrieves by ``r_j = (W_b e_j) . (W_a t)``, attends to what it found.

    The search is trained by a click prediction of its own, ``[sum_j r_j e_j, t]``
    through a `Tower`, whose loss is added one to one. W_b^T W_a is one matrix here.
    Beside the retrieved behaviors, which carry their time gaps, every candidate looks
    at the latest (the authors' short-term part; ours: by attention).

    Reference:
        Search-based User Interest Modeling with Lifelong Sequential Behavior Data for
        Click-Through Rate Prediction (CIKM 2020), sections 3.2 and 3.3.
    """

    config_class = SIMSoftConfig
    time_gaps = True

    def build_interest(self, dim):
        """Makes the attentions, the search and its tower."""
        self.search = keras.layers.Dense(
            dim, use_bias=False, dtype=self.dtype_policy, name="search"
        )
        self.search.build((None, None, dim))
        self.search_tower = Tower(
            self.config.head_units, dtype=self.dtype_policy, name="search_tower"
        )
        self.search_tower.build((None, None, 2 * dim))
        return super().build_interest(dim)

    def relevance(self, target_BCD, state):
        """The scores r of all behaviors."""
        behaviors_BDN = ops.transpose(state["behaviors"], (0, 2, 1))
        return ops.matmul(self.search(target_BCD), behaviors_BDN), state["mask"]

    def auxiliary_logits(self, state, candidates):
        """The search's own prediction."""
        target_BCD = self.candidate_projection(candidates["embedding"])
        score_BCN, mask_BN = self.relevance(target_BCD, state)
        score_BCN = ops.where(mask_BN[:, None], score_BCN, 0)
        found_BCD = ops.matmul(score_BCN, state["behaviors"])
        inputs = ops.concatenate([found_BCD, target_BCD], axis=-1)
        return {"search": self.search_tower(inputs)}
