"""CAN: DIN, and the candidate's own little network over the behaviors.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates.
"""

import dataclasses

import keras
from keras import ops

from ctr_tf.layers.co_action import CoAction
from ctr_tf.layers.feature_embedding import ExtraTable
from ctr_tf.models.config_checks import check_positive, check_units
from ctr_tf.models.din import DIN, DINConfig
from ctr_tf.schema import ITEM_KEY

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

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "co_action_dim", "co_action_orders")
        check_units(self, "co_action_units")

    def co_action(self, **kwargs) -> CoAction:
        """The layer of these sizes."""
        return CoAction(self.co_action_units, self.co_action_orders, **kwargs)


@keras.saving.register_keras_serializable(package="ctr_tf")
class CAN(DIN):
    """DIN's interest, and the co-action of the candidate's and the behaviors' items.

    Two more tables belong to the items: of the weights of a candidate's network, and of
    a behavior's inputs to it. Neither shares anything with the embeddings, as in the
    paper (parameter independence). The rest is DIN (ours; the authors' is DIEN).

    The state has also `co_action_inputs`, `[B, N, co_action_dim]`.

    Reference:
        CAN: Feature Co-Action Network for Click-Through Rate Prediction (WSDM 2022).
    """

    config_class = CANConfig

    @staticmethod
    def extra_tables(config):
        """Inputs of the behaviors, weights of the candidates."""
        width = config.co_action_dim
        num_weights = config.co_action().num_weights(width)
        return (
            ExtraTable(INPUTS, f"behavior_{ITEM_KEY}", width),
            ExtraTable(WEIGHTS, f"candidate_{ITEM_KEY}", num_weights),
        )

    def build_interest(self, dim):
        """Makes the activation unit and the co-action."""
        self.co_action = self.config.co_action(
            dtype=self.dtype_policy, name="co_action"
        )
        self.co_action.built = True
        width = self.config.co_action_orders * sum(self.config.co_action_units)
        return super().build_interest(dim) + width

    def encode(self, user, behaviors, context, training=False) -> dict:
        """The user's state; see the class."""
        state = super().encode(user, behaviors, context, training)
        return {**state, INPUTS: behaviors[INPUTS]}

    def score(self, state, candidates, training=False):
        """Logits `[B, C]` float32."""
        state = {**state, WEIGHTS: candidates[WEIGHTS]}
        return super().score(state, candidates, training)

    def interest(self, target_BCD, state, training=False):
        """DIN's interest and the co-action."""
        interest_BCD = super().interest(target_BCD, state, training)
        co_action = self.co_action(state[WEIGHTS], state[INPUTS], state["mask"])
        return ops.concatenate([interest_BCD, co_action], axis=-1)
