"""SDIM: behaviors that share hash buckets with the candidate.

Shape suffixes: `B` batch, `C` candidates, `D` model width.
"""

import dataclasses

import keras
from keras import ops

from ctr_tf.layers.hash_collisions import HashCollisions
from ctr_tf.layers.target_attention import TargetAttention
from ctr_tf.models.config_checks import check_positive
from ctr_tf.models.target_ranker import TargetRanker, TargetRankerConfig


@dataclasses.dataclass(frozen=True)
class SDIMConfig(TargetRankerConfig):
    """Sizes of `SDIM`.

    Args:
        num_groups: G, groups of hash bits.
        num_bits: tau, bits of a group.
        recent: latest behaviors, which every candidate looks at, too.
    """

    name: str = "sdim"
    num_groups: int = 16
    num_bits: int = 3
    recent: int = 50

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "num_groups", "num_bits", "recent")


@keras.saving.register_keras_serializable(package="ctr_tf")
class SDIM(TargetRanker):
    """``interest = [mean of the candidate's buckets, attention(t, last behaviors)]``.

    Hashed are the rows of the items' features alone, for the reason that `ETA` gives;
    summed are the projected behaviors. The short branch is a `TargetAttention` (ours).

    State: `request_time` `[B]`, `user` `[B, Du]`, `context` `[B, Dx]`, `buckets`
    `[B, G 2^tau, D]`, and of the `recent` latest behaviors `behaviors` `[B, R, D]` and
    `mask` `[B, R]`. It does not grow with the history.

    Reference:
        SDIM (Cao et al. 2022), "Sampling is all you need on modeling long-term user
        behaviors for CTR prediction".
    """

    config_class = SDIMConfig

    def build_interest(self, dim):
        """Makes the hash and the attention."""
        config, policy = self.config, self.dtype_policy
        self.collisions = HashCollisions(
            config.num_groups, config.num_bits, dtype=policy, name="collisions"
        )
        self.collisions.build((None, None, self.embedding.shared_dim))
        self.recent_attention = TargetAttention(
            config.num_heads, dtype=policy, name="recent"
        )
        self.recent_attention.build((None, None, dim), (None, None, dim))
        return 2 * dim

    def encode(self, user, behaviors, context, training=False) -> dict:
        """The user's state; see the class."""
        state = super().encode(user, behaviors, context, training)
        state["buckets"] = self.collisions.encode(
            self._hashed(behaviors), state["behaviors"], state["mask"]
        )
        del state["time"]
        for key in ("behaviors", "mask"):
            state[key] = state[key][:, -self.config.recent :]
        return state

    def score(self, state, candidates, training=False):
        """Logits `[B, C]` float32."""
        found_BCD = self.collisions.score(self._hashed(candidates), state["buckets"])
        return super().score({**state, "found": found_BCD}, candidates, training)

    def interest(self, target_BCD, state, training=False):
        """Both branches."""
        recent_BCD = self.recent_attention(
            target_BCD, state["behaviors"], state["mask"]
        )
        return ops.concatenate([state["found"], recent_BCD], axis=-1)

    def _hashed(self, group: dict):
        return self.embedding.shared(group["embedding"])
