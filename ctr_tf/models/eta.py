"""ETA: behaviors whose hash codes resemble the candidate's.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `D` model width, `E` width of
the items' features.
"""

import dataclasses

import keras

from ctr_tf.layers.sim_hash import SimHash
from ctr_tf.models.config_checks import check_positive
from ctr_tf.models.retrieval_ranker import RetrievalConfig, RetrievalRanker


@dataclasses.dataclass(frozen=True)
class ETAConfig(RetrievalConfig):
    """Sizes of `ETA`.

    Args:
        num_bits: of the codes, at most 62.
    """

    name: str = "eta"
    num_bits: int = 32

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "num_bits")


@keras.saving.register_keras_serializable(package="ctr_tf")
class ETA(RetrievalRanker):
    """Retrieves the behaviors of the smallest Hamming distance of `SimHash` codes.

    Hashed are the rows of the items' features alone, from the tables that behaviors and
    candidates share (ours). What only one of them has, and the two projections to D,
    would make codes that have nothing in common, and no gradient would change that.

    State: also `codes` `[B, N, 1]` int64, so that a request hashes the candidates only.

    Reference:
        ETA (Chen et al. 2021), "End-to-end user behavior retrieval in click-through
        rate prediction model".
    """

    config_class = ETAConfig

    def build_interest(self, dim):
        """Makes the hash beside the attentions."""
        self.hash = SimHash(self.config.num_bits, dtype=self.dtype_policy, name="hash")
        self.hash.build((None, None, self.embedding.shared_dim))
        return super().build_interest(dim)

    def encode(self, user, behaviors, context, training=False) -> dict:
        """The user's state; see the class."""
        state = super().encode(user, behaviors, context, training)
        state["codes"] = self._codes(behaviors)
        return state

    def score(self, state, candidates, training=False):
        """Logits `[B, C]` float32."""
        state = {**state, "target_codes": self._codes(candidates)}
        return super().score(state, candidates, training)

    def relevance(self, target_BCD, state):
        """Small Hamming distances."""
        distance_BCN = self.hash.distance(state["target_codes"], state["codes"])
        return -distance_BCN, state["mask"]

    def _codes(self, group: dict):
        return self.hash(self.embedding.shared(group["embedding"]))
