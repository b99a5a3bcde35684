"""CAN: DIN, and the candidate's own little network over the behaviors.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates.
"""

import dataclasses
from typing import Any

import keras
from keras import ops

from ctr_tf.layers.co_action import CoAction
from ctr_tf.layers.feature_embedding import ExtraTable
from ctr_tf.layers.state_spec import StateSpec, history
from ctr_tf.models.config_checks import check_positive, check_units
from ctr_tf.models.din import DIN, DINConfig
from ctr_tf.schema import ITEM_KEY, Schema
from ctr_tf.tensors import Tensor

INPUTS, WEIGHTS = "co_action_inputs", "co_action_weights"


@dataclasses.dataclass(frozen=True)
class CANConfig(DINConfig):
    """Sizes of `CAN`.

    Args:
        co_action_dim: width of a behavior's input to the candidate's network.
        co_action_units: widths of that network's layers.
        co_action_orders: powers of the input that it reads.
    """

    name: str = "can"
    co_action_dim: int = 16
    co_action_units: tuple[int, ...] = (8, 4)
    co_action_orders: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "co_action_dim", "co_action_orders")
        check_units(self, "co_action_units")

    def co_action(self, **kwargs: Any) -> CoAction:
        """The layer of these sizes."""
        return CoAction(self.co_action_units, self.co_action_orders, **kwargs)


@keras.saving.register_keras_serializable(package="ctr_tf")
class CAN(DIN):
    """DIN's interest, and the co-action of the candidate's and the behaviors' items.

    Two more tables belong to the items: of the weights of a candidate's network, and of
    a behavior's inputs to it. Neither shares anything with the embeddings, as in the
    paper (parameter independence). The rest is DIN (ours; the authors' is DIEN).

    Reference:
        CAN: Feature Co-Action Network for Click-Through Rate Prediction (WSDM 2022).
    """

    config_class = CANConfig

    def __init__(
        self,
        schema: Schema,
        table_sizes: dict[str, int],
        config: CANConfig | None = None,
        **kwargs: Any,
    ):
        config = config or CANConfig()
        width = config.co_action_dim
        weights = config.co_action().num_weights(width)
        tables = (
            ExtraTable(INPUTS, f"behavior_{ITEM_KEY}", width),
            ExtraTable(WEIGHTS, f"candidate_{ITEM_KEY}", weights),
        )
        super().__init__(schema, table_sizes, config, extra_tables=tables, **kwargs)
        self.co_action = config.co_action(dtype=self.dtype_policy, name="co_action")
        self.co_action.built = True  # its weights are rows of a table

    @property
    def interest_width(self) -> int:
        """DIN's and the co-action's."""
        config = self.config
        width = config.co_action_orders * sum(config.co_action_units)
        return super().interest_width + width

    def state_spec(self) -> dict:
        """DIN's, and the behaviors' inputs."""
        inputs = StateSpec((history, self.config.co_action_dim))
        return {**super().state_spec(), INPUTS: inputs}

    def encode(
        self,
        user: dict,
        behaviors: dict,
        context: dict,
        training: bool = False,
    ) -> dict:
        """Keeps the behaviors, and their inputs."""
        state = super().encode(user, behaviors, context, training)
        return {**state, INPUTS: behaviors[INPUTS]}

    def interest(self, state: dict, candidates: dict, training: bool) -> Tensor:
        """DIN's interest and the co-action."""
        interest_BCD = super().interest(state, candidates, training)
        co_action = self.co_action(candidates[WEIGHTS], state[INPUTS], state["mask"])
        return ops.concatenate([interest_BCD, co_action], axis=-1)
