"""SDIM with GAP: the long-term view is searched by hash collisions.

Shape suffixes: `B` batch, `M` behaviors of the view, `C` candidates, `D` model
width.
"""

import dataclasses

import keras

from ctr_tf.layers.hash_collisions import HashCollisions
from ctr_tf.layers.state_spec import StateSpec
from ctr_tf.models.config_checks import check_positive
from ctr_tf.models.gap import GAP, GAPConfig
from ctr_tf.tensors import Tensor


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

    def __post_init__(self) -> None:
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
    So the short-term view must not be empty as a rule: those maps learn on it alone.
    The buckets of the view are part of the state.

    Reference:
        GAP-Net, table 2 (SDIM w/ GAP); SDIM (Cao et al. 2022), section 4.2.
    """

    config_class = SDIMGAPConfig

    def make_long_term(self) -> None:
        """Makes the hash and the gate."""
        config = self.config
        self.long_term = HashCollisions(
            config.num_groups,
            config.num_bits,
            dtype=self.dtype_policy,
            name="long_term",
        )
        if "qaog" in config.gates:
            self.long_term_gate = self.dense(
                config.dim, "long_term_gate", activation="sigmoid", use_bias=False
            )

    def build_long_term(self, rows: tuple) -> None:
        """Builds the hash and the gate."""
        self.long_term.build(rows)
        if "qaog" in self.config.gates:
            self.long_term_gate.build(rows)

    def long_term_spec(self) -> dict:
        """The buckets."""
        return {"buckets": StateSpec((self.long_term.num_buckets, self.config.dim))}

    def encode_long_term(self, behaviors_BMD: Tensor, visible_BM: Tensor) -> dict:
        """Sums up the buckets."""
        hashed_BMD = self.short_term.key(behaviors_BMD)
        buckets = self.long_term.encode(hashed_BMD, behaviors_BMD, visible_BM)
        return {"buckets": buckets}

    def search_long_term(
        self, query_BCD: Tensor, behaviors_BMD: Tensor, visible_BM: Tensor, state: dict
    ) -> Tensor:
        """The mean of the buckets that the queries fall into."""
        hashed_BCD = self.short_term.query(query_BCD)
        found_BCD = self.long_term.score(hashed_BCD, state["buckets"])
        if "qaog" in self.config.gates:
            found_BCD = found_BCD * self.long_term_gate(query_BCD)
        return found_BCD
