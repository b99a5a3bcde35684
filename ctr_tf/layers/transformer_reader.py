"""A reader of the history: behaviors and candidate through blocks, as one sequence.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `D` model width.
"""

from collections.abc import Sequence
from typing import Any, Self

import keras

from ctr_tf.layers.full_keys import FullKeys
from ctr_tf.layers.state_spec import StateSpec, history
from ctr_tf.layers.time_gap import NUM_GAPS, one_hot_gap
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class TransformerReader(keras.layers.Layer):
    """``[b_1 … b_N, c]`` through L blocks; the candidate's row is the interest.

    Behaviors see themselves and what was before, each candidate sees all behaviors and
    itself, nobody sees a candidate. So the behaviors' keys and values are the state,
    and nobody reads their rows after the last block, which computes none.

    Args:
        blocks: layers with the methods of `SparseBlock`.
        relations: that their encodings take, see `temporal_relations`.
        zone: of local time; see `ctr_tf.time.local_time`.
        time_gaps: whether rows know the time between them and the request: its bucket
            is one of their features.

    Call arguments:
        target: `[B, C, D]`.
        state: from `encode`.
        request_time: `[B]` int64 seconds.

    Returns:
        The candidates' rows after the last block, `[B, C, D]`.

    Example:
        >>> import numpy as np
        >>> from keras.random import normal
        >>> from ctr_tf.layers import FullAttention, SparseBlock, TransformerReader
        >>> block = SparseBlock(FullAttention(num_heads=2, sees_itself=True))
        >>> reader = TransformerReader([block], relations=("time", "hour", "weekend"))
        >>> reader.build((None, None, 8))
        >>> time = np.array([[0, 100, 160, 9_000, 9_030, 9_100]])  # left-padded
        >>> state = reader.encode(normal((1, 6, 8)), time, time > 0, np.array([9_200]))
        >>> tuple(reader(normal((1, 4, 8)), state, np.array([9_200])).shape)
        (1, 4, 8)
    """

    def __init__(
        self,
        blocks: Sequence[keras.layers.Layer],
        relations: tuple[str, ...] = (),
        zone: int | str = 0,
        time_gaps: bool = False,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        self.blocks = list(blocks)
        self.relations = tuple(relations)
        self.zone = zone
        self.time_gaps = time_gaps
        self.keys = FullKeys(relations, zone, name="keys")

    def build(self, target_shape: Shape) -> None:
        """Builds the blocks, and the map of time gaps."""
        dim = target_shape[-1]
        if self.time_gaps:
            self.gap = keras.layers.Dense(
                dim, use_bias=False, dtype=self.dtype_policy, name="gap"
            )
            self.gap.build((None, None, NUM_GAPS))
        for block in self.blocks:
            block.build((None, None, dim))
        self.dim = dim
        self.built = True

    def state_spec(self) -> dict:
        """The state of `encode`, declared."""
        rows = StateSpec((history, self.dim))
        return {
            "time": StateSpec((history,), "int64"),
            "mask": StateSpec((history,), "bool"),
            "blocks": [{"key": rows, "value": rows} for _ in self.blocks],
        }

    def encode(
        self, behaviors: Tensor, time: Tensor, mask: Tensor, request_time: Tensor
    ) -> dict:
        """Runs the behaviors.

        Args:
            behaviors: `[B, N, D]`.
            time: `[B, N]` int64 seconds, left-padded, oldest first.
            mask: `[B, N]` bool.
            request_time: `[B]` int64 seconds.
        """
        rows_BND = self._with_gap(behaviors, time, request_time)
        plan, state = self.keys(time, mask)
        state["blocks"] = []
        for index, block in enumerate(self.blocks):
            last = index == len(self.blocks) - 1
            rows_BND, kept = block.encode(rows_BND, None, plan, not last)
            state["blocks"].append(kept)
        return state

    def call(self, target: Tensor, state: dict, request_time: Tensor) -> Tensor:
        """Runs the candidates."""
        rows_BCD = self._with_gap(target, request_time[:, None], request_time)
        relations = self.keys.relations_to(state, request_time)
        for block, kept in zip(self.blocks, state["blocks"], strict=True):
            rows_BCD = block.score(rows_BCD, kept, relations)
        return rows_BCD

    def _with_gap(self, rows_BND, time_BN, request_time_B):
        """Rows that know how long before the request they were."""
        if not self.time_gaps:
            return rows_BND
        return rows_BND + self.gap(one_hot_gap(request_time_B, time_BN, rows_BND.dtype))

    def compute_output_spec(
        self, target: Tensor, state: dict, request_time: Tensor
    ) -> keras.KerasTensor:
        """The candidates' rows."""
        return keras.KerasTensor(target.shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Config with the blocks' own."""
        return {
            **super().get_config(),
            "blocks": [keras.saving.serialize_keras_object(b) for b in self.blocks],
            "relations": list(self.relations),
            "zone": self.zone,
            "time_gaps": self.time_gaps,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Inverse of `get_config`."""
        blocks = map(keras.saving.deserialize_keras_object, config["blocks"])
        return cls(**{**config, "blocks": list(blocks)})
