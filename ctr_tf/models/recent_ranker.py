"""The base of models that look at the latest behaviors beside what they search for.

Shape suffixes: `B` batch, `C` candidates, `D` model width, `F` width of what is found.
"""

import dataclasses

from keras import ops

from ctr_tf.layers.target_attention import TargetAttention
from ctr_tf.models.config_checks import check_positive
from ctr_tf.models.target_ranker import TargetRanker, TargetRankerConfig


@dataclasses.dataclass(frozen=True)
class RecentConfig(TargetRankerConfig):
    """Sizes of a `RecentRanker`.

    Args:
        recent: latest behaviors, which every candidate looks at, too.
    """

    recent: int = 50

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "recent")


class RecentRanker(TargetRanker):
    """``interest = [found, attention(t, last behaviors)]``, a `TargetAttention` (ours).

    A subclass says what it finds in the whole history: `build_found` and `found`.
    """

    def build_interest(self, dim):
        """Makes what finds, and the attention to the latest."""
        width = self.build_found(dim)
        self.recent_attention = TargetAttention(
            self.config.num_heads, dtype=self.dtype_policy, name="recent"
        )
        self.recent_attention.build((None, None, dim), (None, None, dim))
        return width + dim

    def build_found(self, dim: int) -> int:
        """Makes and builds the subclass' layers; returns F."""
        raise NotImplementedError(f"{type(self).__name__} lacks `build_found`.")

    def found(self, target_BCD, state: dict):
        """What the whole history says about each candidate, `[B, C, F]`.

        Args:
            target_BCD: projected candidates.
            state: from `encode`.
        """
        raise NotImplementedError(f"{type(self).__name__} lacks `found`.")

    def interest(self, target_BCD, state, training=False):
        """What is found and what the latest behaviors say."""
        latest = self.latest(state)
        recent_BCD = self.recent_attention(
            target_BCD, latest["behaviors"], latest["mask"]
        )
        return ops.concatenate([self.found(target_BCD, state), recent_BCD], axis=-1)

    def latest(self, state: dict) -> dict:
        """`behaviors` and `mask` of the last `recent` ones."""
        latest = slice(-self.config.recent, None)
        return {key: state[key][:, latest] for key in ("behaviors", "mask")}
