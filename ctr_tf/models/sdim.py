"""SDIM: behaviors that share hash buckets with the candidate.

Shape suffixes: `B` batch, `C` candidates, `D` model width.
"""

import dataclasses

import keras

from ctr_tf.layers.hash_collisions import HashCollisions
from ctr_tf.models.config_checks import check_positive
from ctr_tf.models.recent_ranker import RecentConfig, RecentRanker


@dataclasses.dataclass(frozen=True)
class SDIMConfig(RecentConfig):
    """Sizes of `SDIM`.

    Args:
        num_groups: G, groups of hash bits.
        num_bits: tau, bits of a group.
    """

    name: str = "sdim"
    num_groups: int = 16
    num_bits: int = 3

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "num_groups", "num_bits")


@keras.saving.register_keras_serializable(package="ctr_tf")
class SDIM(RecentRanker):
    """``interest = [mean of the candidate's buckets, attention(t, last behaviors)]``.

    Hashed are the rows of the items' features alone, for the reason that `ETA` gives;
    summed are the projected behaviors.

    State: `request_time` `[B]`, `user` `[B, Du]`, `context` `[B, Dx]`, `buckets`
    `[B, G 2^tau, D]`, and of the `recent` latest behaviors `behaviors` `[B, R, D]` and
    `mask` `[B, R]`. It does not grow with the history.

    Reference:
        SDIM (Cao et al. 2022), "Sampling is all you need on modeling long-term user
        behaviors for CTR prediction".
    """

    config_class = SDIMConfig

    def build_found(self, dim):
        """Makes the hash."""
        config, policy = self.config, self.dtype_policy
        self.collisions = HashCollisions(
            config.num_groups, config.num_bits, dtype=policy, name="collisions"
        )
        self.collisions.build((None, None, self.embedding.shared_dim))
        return dim

    def encode(self, user, behaviors, context, training=False) -> dict:
        """The user's state; see the class."""
        state = super().encode(user, behaviors, context, training)
        state["buckets"] = self.collisions.encode(
            self._hashed(behaviors), state["behaviors"], state["mask"]
        )
        del state["time"]
        return state | self.latest(state)

    def score(self, state, candidates, training=False):
        """Logits `[B, C]` float32."""
        found_BCD = self.collisions.score(self._hashed(candidates), state["buckets"])
        return super().score({**state, "found": found_BCD}, candidates, training)

    def found(self, target_BCD, state):
        """The mean of the candidates' buckets."""
        return state["found"]

    def _hashed(self, group: dict):
        return self.embedding.shared(group["embedding"])
