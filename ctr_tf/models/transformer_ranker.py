"""The base of models that run behaviors and candidate through blocks as one sequence.

Shape suffixes: `B` batch, `N` behaviors, `C` candidates, `D` model width.
"""

import dataclasses

import keras

from ctr_tf.layers.full_keys import FullKeys
from ctr_tf.layers.time_gap import NUM_GAPS, one_hot_gap
from ctr_tf.models.config_checks import check_positive
from ctr_tf.models.target_ranker import TargetRanker, TargetRankerConfig


@dataclasses.dataclass(frozen=True)
class TransformerRankerConfig(TargetRankerConfig):
    """Sizes that all of these models have.

    Args:
        num_blocks: L.
    """

    num_blocks: int = 2

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "num_blocks")


class TransformerRanker(TargetRanker):
    """``[b_1 … b_N, c]`` through L blocks; the candidate's row is the interest.

    Behaviors see themselves and what was before, each candidate sees all behaviors and
    itself, nobody sees a candidate. So the behaviors' keys and values are the state,
    and nobody reads their rows after the last block, which computes none.

    State, batch first: `request_time` `[B]`, `user` `[B, Du]`, `context` `[B, Dx]`,
    `time`, `mask` `[B, N]` and of each block l `block_<l>_key`, `block_<l>_value`
    `[B, N, D]`.

    A subclass implements `make_block` and says which `relations` its blocks take (see
    `temporal_relations`) and whether rows know the time between them and the request
    (`time_gaps`): its bucket is one of their features.
    """

    relations: tuple[str, ...] = ()
    time_gaps = False

    def make_block(self, name: str) -> keras.layers.Layer:
        """A block with the methods of `SparseBlock`."""
        raise NotImplementedError(f"{type(self).__name__} lacks `make_block`.")

    def build_interest(self, dim):
        """Makes the keys and the blocks."""
        self.keys = FullKeys(self.relations, self.schema.zone, name="keys")
        self.build_blocks(dim)
        return dim

    def build_blocks(self, dim: int):
        """Makes the blocks, and the map of time gaps."""
        if self.time_gaps:
            self.gap = keras.layers.Dense(
                dim, use_bias=False, dtype=self.dtype_policy, name="gap"
            )
            self.gap.build((None, None, NUM_GAPS))
        self.blocks = [
            self.make_block(f"block_{index}") for index in range(self.config.num_blocks)
        ]
        for block in self.blocks:
            block.build((None, None, dim))

    def encode(self, user, behaviors, context, training=False) -> dict:
        """The user's state; see the class."""
        state = super().encode(user, behaviors, context, training)
        rows_BND = self.with_gap(
            state.pop("behaviors"), state["time"], state["request_time"]
        )
        plan, _ = self.keys(state["time"], state["mask"])
        for index, block in enumerate(self.blocks):
            last = index == len(self.blocks) - 1
            rows_BND, kept = block.encode(rows_BND, None, plan, not last)
            state.update({f"block_{index}_{key}": kept[key] for key in kept})
        return state

    def interest(self, target_BCD, state, training=False):
        """The candidates' rows after the last block."""
        request_time = state["request_time"]
        rows_BCD = self.with_gap(target_BCD, request_time[:, None], request_time)
        relations = self.relations_to(state)
        for index, block in enumerate(self.blocks):
            kept = {key: state[f"block_{index}_{key}"] for key in ("key", "value")}
            rows_BCD = block.score(rows_BCD, kept, relations[index])
        return rows_BCD

    def relations_to(self, state) -> list:
        """Relations `[B, R, 1, J]` of the candidates to the keys of each block."""
        relations = self.keys.relations_to(state, state["request_time"])
        return [relations] * len(self.blocks)

    def with_gap(self, rows_BND, time_BN, request_time_B):
        """Rows that know how long before the request they were."""
        if not self.time_gaps:
            return rows_BND
        return rows_BND + self.gap(one_hot_gap(request_time_B, time_BN, rows_BND.dtype))
