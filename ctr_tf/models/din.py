"""DIN: each candidate weighs the history by a small network.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `D` width of a behavior, `E`
width of a candidate.
"""

import dataclasses
from typing import Any

import keras
from keras import ops

from ctr_tf.layers.activation_unit import ActivationUnit
from ctr_tf.layers.state_spec import StateSpec, history
from ctr_tf.layers.tower_head import TowerHead
from ctr_tf.models.config_checks import check_units
from ctr_tf.models.ranker import Ranker
from ctr_tf.models.sizes import TowerSizes
from ctr_tf.schema import Schema
from ctr_tf.tensors import Tensor


@dataclasses.dataclass(frozen=True)
class DINConfig(TowerSizes):
    """Sizes of `DIN`; heads and `dim` are not used: D is a behavior's own width.

    Args:
        activation_units: hidden widths of the activation unit.
    """

    name: str = "din"
    activation_units: tuple[int, ...] = (36,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_units(self, "activation_units")

    @property
    def unread(self) -> tuple[str, ...]:
        """Sizes of projections and heads, of which there are none."""
        return "dim", "num_heads"


@keras.saving.register_keras_serializable(package="ctr_tf")
class DIN(Ranker):
    """``interest = sum_j a(e_j, t) e_j``, the weights not normalized; a tower scores.

    Behaviors and targets are compared as they are embedded, by the same tables, as in
    the paper. Behind projections, that a candidate is like a behavior would have to be
    learned first. A target has the channels of a behavior: the item's, and 0 where only
    behaviors have something. The tower sees all features of the candidate.

    Reference:
        Deep Interest Network for Click-Through Rate Prediction (KDD 2018), section 4.3.
    """

    config_class = DINConfig

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        config: DINConfig | None = None,
        **kwargs: Any,
    ):
        super().__init__(schema, table_sizes, config, **kwargs)
        policy = self.dtype_policy
        self.unit = ActivationUnit(
            self.config.activation_units, dtype=policy, name="unit"
        )
        self.head = TowerHead(
            self.config.head_units, self.tasks, dtype=policy, name="head"
        )

    def build_parts(self) -> None:
        """Builds the activation unit and the head."""
        self.unit.build((None, None, self.embedding.width("behavior")))
        shown = self.embedding.width("candidate")
        self.head.build_for(self.embedding, shown, self.interest_width)

    @property
    def interest_width(self) -> int:
        """Of what `interest` gives."""
        return self.embedding.width("behavior")

    def state_spec(self) -> dict:
        """User and request, and the behaviors as they are embedded."""
        return {
            **self.request_spec(),
            "mask": StateSpec((history,), "bool"),
            "behaviors": StateSpec((history, self.embedding.width("behavior"))),
        }

    def encode(
        self,
        user: dict,
        behaviors: dict,
        context: dict,
        training: bool = False,
    ) -> dict:
        """Keeps the behaviors."""
        return {
            **self.request_state(user, context),
            "mask": behaviors["mask"],
            "behaviors": behaviors["embedding"],
        }

    def history_logits(
        self, state: dict, candidates: dict, training: bool = False
    ) -> Tensor:
        """Logits `[B, C, T]` float32."""
        interest_BCI = self.interest(state, candidates, training)
        shown_BCE = candidates["embedding"]
        return self.head(shown_BCE, state["user"], state["context"], interest_BCI)

    def interest(self, state: dict, candidates: dict, training: bool) -> Tensor:
        """The weighted sum of the behaviors, `[B, C, D]`."""
        behaviors_BND = state["behaviors"]
        weight_BCN = self.unit(
            self._like_behaviors(candidates["embedding"]),
            behaviors_BND,
            state["mask"],
            candidates["mask"],
            training=training,
        )
        return ops.matmul(ops.cast(weight_BCN, behaviors_BND.dtype), behaviors_BND)

    def _like_behaviors(self, candidates_BCE):
        """`[B, C, D]`: candidates in the channels of behaviors."""
        common = self.embedding.item_dim
        lacking = self.embedding.width("behavior") - common
        return ops.pad(candidates_BCE[..., :common], ((0, 0), (0, 0), (0, lacking)))
