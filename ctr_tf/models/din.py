"""DIN: each candidate weighs the history by a small network.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `D` model width.
"""

import dataclasses

import keras
from keras import ops

from ctr_tf.layers.activation_unit import ActivationUnit
from ctr_tf.models.config_checks import check_units
from ctr_tf.models.target_ranker import TargetRanker, TargetRankerConfig


@dataclasses.dataclass(frozen=True)
class DINConfig(TargetRankerConfig):
    """Sizes of `DIN`; heads and `dim` are not used: D is a behavior's own width.

    Args:
        activation_units: hidden widths of the activation unit.
    """

    name: str = "din"
    activation_units: tuple[int, ...] = (36,)

    def __post_init__(self):
        super().__post_init__()
        check_units(self, "activation_units")


@keras.saving.register_keras_serializable(package="ctr_tf")
class DIN(TargetRanker):
    """``interest = sum_j a(e_j, t) e_j``, the weights not normalized.

    Behaviors and targets are compared as they are embedded, by the same tables, as in
    the paper. Behind projections, that a candidate is like a behavior would have to be
    learned first.

    Reference:
        Deep Interest Network for Click-Through Rate Prediction (KDD 2018), section 4.3.
    """

    config_class = DINConfig
    projects = False

    def build_interest(self, dim):
        """Makes the activation unit."""
        self.unit = ActivationUnit(
            self.config.activation_units, dtype=self.dtype_policy, name="unit"
        )
        self.unit.build((None, None, dim))
        return dim

    def score(self, state, candidates, training=False):
        """Logits `[B, C]` float32."""
        state = {**state, "target_mask": candidates["mask"]}
        return super().score(state, candidates, training)

    def interest(self, target_BCD, state, training=False):
        """The weighted sum of the behaviors."""
        behaviors_BND = state["behaviors"]
        weight_BCN = self.unit(
            target_BCD,
            behaviors_BND,
            state["mask"],
            state["target_mask"],
            training=training,
        )
        return ops.matmul(ops.cast(weight_BCN, behaviors_BND.dtype), behaviors_BND)
