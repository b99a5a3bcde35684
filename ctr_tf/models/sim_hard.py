"""SIM with hard search: the latest behaviors of the candidate's category.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `D` model width.
"""

import dataclasses

import keras
from keras import ops

from ctr_tf.errors import unknown_name
from ctr_tf.models.retrieval_ranker import RetrievalConfig, RetrievalRanker
from ctr_tf.schema import FIRST_ID, ITEM_KEY


@dataclasses.dataclass(frozen=True)
class SIMHardConfig(RetrievalConfig):
    """Sizes of `SIMHard`.

    Args:
        category: the item feature that must be equal; the first after the item's id
            where None, or the id itself where there is no other.
    """

    name: str = "sim_hard"
    category: str | None = None


@keras.saving.register_keras_serializable(package="ctr_tf")
class SIMHard(RetrievalRanker):
    """Retrieves the latest behaviors whose category is the candidate's.

    As in `SIMSoft`, retrieved behaviors carry their time gaps, and every candidate also
    looks at the latest ones. A category outside the vocabulary is like no other (ours).

    The state has also `category`, `[B, N]` int64.

    Raises:
        ValueError: if `category` is not an item feature with ids.

    Reference:
        Search-based User Interest Modeling with Lifelong Sequential Behavior Data for
        Click-Through Rate Prediction (CIKM 2020), sections 3.2 and 3.3.
    """

    config_class = SIMHardConfig
    time_gaps = True

    def __init__(self, schema, table_sizes, config=None, **kwargs):
        super().__init__(schema, table_sizes, config, **kwargs)
        items = (f for f in schema.of("item") if f.is_embedded and f.length == 1)
        known = [f.name for f in items]
        known.sort(key=lambda name: name == ITEM_KEY)
        self.category = self.config.category or known[0]
        if self.category not in known:
            raise ValueError(
                unknown_name("item feature with one id", self.category, known)
            )

    def encode(self, user, behaviors, context, training=False) -> dict:
        """The user's state; see the class."""
        state = super().encode(user, behaviors, context, training)
        category_BN = ops.cast(behaviors["ids"][self.category], "int64")
        return {**state, "category": category_BN}

    def score(self, state, candidates, training=False):
        """Logits `[B, C]` float32."""
        target_category_BC = ops.cast(candidates["ids"][self.category], "int64")
        state = {**state, "target_category": target_category_BC}
        return super().score(state, candidates, training)

    def relevance(self, target_BCD, state):
        """The later, the better, of one category."""
        category_BC1 = state["target_category"][..., None]
        same_BCN = category_BC1 == state["category"][:, None]
        recency_BCN = ops.broadcast_to(
            ops.arange(same_BCN.shape[2], dtype="float32"), ops.shape(same_BCN)
        )
        return recency_BCN, same_BCN & (category_BC1 >= FIRST_ID)
