"""What the keys layers of SparseCTR's attentions have in common.

Shape suffixes: `B` batch, `N` behaviors, `W` window.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.layers.temporal_relations import (
    ALL_RELATIONS,
    RELATIONS,
    check_relations,
    temporal_relations,
)
from ctr_tf.tensors import Tensor


class SequenceKeys(keras.layers.Layer):
    """Says which behaviors are keys of a `SequenceAttention`, to whom, how far away.

    It has no weights: what it says depends on times and chunks alone, is computed once
    a forward pass and shared by all blocks. A call gives the plan and the state, the
    method `relations_to` the candidates' relations to the keys of the state.

    Args:
        relations: those of the encoding, see `temporal_relations`.
        zone: of local time; see `ctr_tf.time.local_time`.

    Raises:
        UserError: for an unknown relation.
    """

    def __init__(
        self, relations: tuple[str, ...] = RELATIONS, zone: int | str = 0, **kwargs: Any
    ):
        super().__init__(autocast=False, **kwargs)
        self.relations = check_relations(relations, ALL_RELATIONS)
        self.zone = zone

    def relate(
        self, query_time: Tensor, key_time: Tensor, visible: Tensor, distance: Tensor
    ) -> Tensor:
        """The `temporal_relations` that the encoding asks for."""
        return temporal_relations(
            query_time, key_time, visible, self.relations, self.zone, distance
        )

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "relations": list(self.relations),
            "zone": self.zone,
        }


def sliding_window(inputs_BN: Tensor, window: int) -> Tensor:
    """`[B, N]` → `[B, N, W]`: positions i - w + 1 … i, zero before the first."""
    length = inputs_BN.shape[1]
    padded = ops.pad(inputs_BN, ((0, 0), (window - 1, 0)))
    return ops.stack([padded[:, s : s + length] for s in range(window)], axis=-1)


def window_distance(window: int) -> Tensor:
    """`[1, W]`: how far back the slots of a behavior's window are, w - 1 … 0."""
    return ops.arange(window - 1, -1, -1, dtype="int32")[None, :]
