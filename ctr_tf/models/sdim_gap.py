"""SDIM with GAP: the long-term view is searched by hash collisions.

Shape suffixes: `B` batch, `M` behaviors of the view, `C` candidates, `D` model
width.
"""

import dataclasses

import keras

from ctr_tf.layers.hash_collisions import HashCollisions
from ctr_tf.models.config_checks import check_positive
from ctr_tf.models.gap import GAP, GAPConfig


@dataclasses.dataclass(frozen=True)
class SDIMGAPConfig(GAPConfig):
    """Sizes and variants of `SDIMGAP`.

    Args:
        num_groups: G, groups of hash bits.
        num_bits: tau, bits of a group.
    """

    name: str = "sdim_gap"
    num_groups: int = 16
    num_bits: int = 3

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "num_groups", "num_bits")


@keras.saving.register_keras_serializable(package="ctr_tf")
class SDIMGAP(GAP):
    """`GAP` whose long-term view is SDIM's collision average.

    The calibrated query picks buckets of the (sifted) behaviors. With output gating,
    ``sigmoid(query W)`` multiplies what they hold (ours). The other two views keep
    their full attention.

    Hashed are the short-term attention's query and keys (ours): collisions say nothing
    about vectors of two unrelated spaces, and the hash has no gradient to relate them,
    while that attention learns to, for the same queries and behaviors of the same kind.

    State: also `buckets` `[B, G 2^tau, D]`, of the long-term view.

    Reference:
        GAP-Net, table 2 (SDIM w/ GAP); SDIM (Cao et al. 2022), section 4.2.
    """

    config_class = SDIMGAPConfig

    def build_long_term(self, dim):
        """Makes the hash and the gate."""
        config, policy = self.config, self.dtype_policy
        self.long_term = HashCollisions(
            config.num_groups, config.num_bits, dtype=policy, name="long_term"
        )
        self.long_term.build((None, None, dim))
        if "qaog" in config.gates:
            self.long_term_gate = keras.layers.Dense(
                dim,
                activation="sigmoid",
                use_bias=False,
                dtype=policy,
                name="long_term_gate",
            )
            self.long_term_gate.build((None, None, dim))

    def encode(self, user, behaviors, context, training=False) -> dict:
        """The user's state; see the class."""
        state = super().encode(user, behaviors, context, training)
        positions, visible_BM = self.cut_views(state)["long_term"]
        behaviors_BMD = state["behaviors"][:, positions]
        state["buckets"] = self.long_term.encode(
            self.short_term.key(behaviors_BMD), behaviors_BMD, visible_BM
        )
        return state

    def search_long_term(self, query_BCD, state, view):
        """The mean of the buckets that the queries fall into."""
        hashed_BCD = self.short_term.query(query_BCD)
        found_BCD = self.long_term.score(hashed_BCD, state["buckets"])
        if "qaog" in self.config.gates:
            found_BCD = found_BCD * self.long_term_gate(query_BCD)
        return found_BCD
