"""ETA with GAP: the long-term view is searched by SimHash before it is attended to.

Shape suffixes: `B` batch, `M` behaviors of the view, `C` candidates, `J` retrieved
behaviors, `D` model width.
"""

import dataclasses

import keras

from ctr_tf.layers.sim_hash import SimHash
from ctr_tf.layers.state_spec import StateSpec
from ctr_tf.layers.top_behaviors import take_behaviors, top_behaviors
from ctr_tf.models.config_checks import check_positive
from ctr_tf.models.gap import GAP, GAPConfig
from ctr_tf.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class ETAGAPConfig(GAPConfig):
    """Sizes and variants of `ETAGAP`.

    Args:
        top_k: behaviors of the long-term view that a candidate attends to.
        num_bits: of a hash code.
    """

    name: str = "eta_gap"
    top_k: int = 50
    num_bits: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "top_k", "num_bits")


@keras.saving.register_keras_serializable(package="ctr_tf")
class ETAGAP(GAP):
    """`GAP` whose long-term view is ETA's: attention over the k nearest by SimHash.

    Hashed are the queries and keys of the attention that follows (ours), the queries
    being calibrated. The hash has no gradient, so only an attention can learn to make
    the two comparable; and so the search looks for what the attention will look at. The
    codes of the view's behaviors are part of the state.

    Reference:
        GAP-Net, table 2 (ETA w/ GAP); ETA (Chen et al. 2021), section 3.3.
    """

    config_class = ETAGAPConfig

    def make_long_term(self) -> None:
        """Makes the attention and the hash."""
        super().make_long_term()
        self.hash = SimHash(self.config.num_bits, dtype=self.dtype_policy, name="hash")

    def build_long_term(self, rows: tuple) -> None:
        """Builds the attention and the hash."""
        super().build_long_term(rows)
        self.hash.build(rows)

    def long_term_spec(self) -> dict:
        """The codes."""
        codes = StateSpec((self.views.long_term_axis, self.hash.num_groups), "int64")
        return {"codes": codes}

    def encode_long_term(self, behaviors_BMD: Tensor, visible_BM: Tensor) -> dict:
        """Hashes the keys."""
        return {"codes": self.hash(self.long_term.key(behaviors_BMD))}

    def search_long_term(
        self, query_BCD: Tensor, behaviors_BMD: Tensor, visible_BM: Tensor, state: dict
    ) -> Tensor:
        """Attention over the behaviors whose codes are nearest to the queries'."""
        query_codes = self.hash(self.long_term.query(query_BCD))
        distance_BCM = self.hash.distance(query_codes, state["codes"])
        index_BCJ, found_BCJ = top_behaviors(
            -distance_BCM, visible_BM, self.config.top_k
        )
        keys_BCJD = take_behaviors(behaviors_BMD, index_BCJ)
        return self.long_term(query_BCD, keys_BCJD, found_BCJ)
