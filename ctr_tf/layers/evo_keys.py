"""Which behaviors are keys of EvoAttention, to whom, and how far away.

Shape suffixes: `B` batch, `N` behaviors, `P` chunks, `T` = m P transition keys, `W`
window, `J` keys, `R` relations.
"""

import itertools
from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.layers.checks import check_positive
from ctr_tf.layers.sequence_keys import SequenceKeys, sliding_window, window_distance
from ctr_tf.layers.temporal_relations import RELATIONS, append_key
from ctr_tf.tensors import Tensor

BRANCHES = ("global", "transition", "local")


@keras.saving.register_keras_serializable(package="ctr_tf")
class EvoKeys(SequenceKeys):
    """Keys of the three branches, their relations and positions.

    * global: behavior i sees chunk p if p's last behavior is before i; a chunk's time
      and position are the integer means of its behaviors'; surplus chunks are hidden.
    * transition: the last m behaviors of each chunk; i sees those at index <= i.
    * local: i sees behaviors i - w + 1 … i, and the user, whose relations are 0.

    A candidate sees every key of the state: all chunks, all transition keys, the last
    w behaviors and the user. Positions count from the candidates': a behavior's is its
    index minus N.

    Args:
        num_chunks: P.
        transition: m.
        window: w.
        branches: those that exist, of `BRANCHES`.
        relations: those of the encoding, see `temporal_relations`.
        zone: of local time; see `ctr_tf.time.local_time`.

    Call arguments:
        time: `[B, N]` int64 seconds, left-padded, oldest first.
        mask: `[B, N]` bool.
        chunk: `[B, N]` int32 from a chunking layer.

    Returns:
        The plan that `EvoAttention.encode` takes, a dict: `"pool"` `[B, P, N]` float32
        (averages each chunk), `"index"` `[B, T]` int32 (of the transition keys),
        `"position"` int32, of `"behaviors"` `[N]` and of `"global"` keys `[B, P]`, and
        `"relations"`, branch → `[B, R, N, J]`; and the state, which `relations_to`
        takes: per branch `"<branch>_time"` `[B, J]` int64, `"<branch>_mask"` bool and,
        where `relations` has the distance, `"<branch>_position"` int64 (not local).

    Raises:
        UserError: for a size that is not positive, an unknown branch or relation.

    Reference:
        SparseCTR, sections 3.4.2 to 3.4.4.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.layers import EvoKeys, TimeChunking
        >>> time = np.array([[0, 100, 160, 9_000, 9_030, 9_100]])  # left-padded
        >>> keys = EvoKeys(num_chunks=2, transition=1, window=3)
        >>> plan, state = keys(time, time > 0, TimeChunking(2)(time, time > 0))
        >>> np.asarray(state["global_time"]).tolist()  # the mean of each chunk
        [[130, 9043]]
        >>> np.asarray(state["transition_time"]).tolist()  # the last behavior of each
        [[160, 9100]]
    """

    def __init__(
        self,
        num_chunks: int,
        transition: int,
        window: int,
        branches: tuple[str, ...] = BRANCHES,
        relations: tuple[str, ...] = RELATIONS,
        zone: int | str = 0,
        **kwargs: Any,
    ):
        super().__init__(relations, zone, **kwargs)
        check_positive(num_chunks=num_chunks, transition=transition, window=window)
        self.num_chunks = num_chunks
        self.transition = transition
        self.window = window
        self.branches = check_branches(branches)

    def call(self, time: Tensor, mask: Tensor, chunk: Tensor) -> tuple[dict, dict]:
        """Finds the keys."""
        length = time.shape[1]
        chunk = ops.where(mask, chunk, 0)
        number_P1 = ops.arange(1, self.num_chunks + 1, dtype="int32")[:, None]
        member_BPN = chunk[:, None, :] == number_P1
        size_BP = ops.sum(ops.cast(member_BPN, "int32"), axis=-1)
        position_N = ops.arange(length, dtype="int32")
        last_BP = ops.max(ops.where(member_BPN, position_N, -1), axis=-1, initial=-1)
        plan: dict[str, Any] = {"relations": {}}
        state = {}
        plan["position"] = {"behaviors": position_N - length}
        if "global" in self.branches:
            divisor_BP = ops.maximum(size_BP, 1)
            weight_BP1 = 1.0 / ops.cast(divisor_BP, "float32")[..., None]
            plan["pool"] = ops.cast(member_BPN, "float32") * weight_BP1
            total_BP = ops.sum(ops.where(member_BPN, time[:, None, :], 0), axis=-1)
            state["global_time"] = total_BP // ops.cast(divisor_BP, time.dtype)
            state["global_mask"] = size_BP > 0
            middle_BP = last_BP - size_BP // 2
            plan["position"]["global"] = middle_BP - length
            plan["relations"]["global"] = self.relate(
                time[..., None],
                state["global_time"][:, None, :],
                state["global_mask"][:, None, :]
                & (last_BP[:, None, :] < position_N[:, None]),
                position_N[:, None] - middle_BP[:, None, :],
            )
        if "transition" in self.branches:
            back_M = ops.arange(self.transition, dtype="int32")
            index_BPM = last_BP[..., None] - back_M
            mask_BPM = back_M < size_BP[..., None]
            plan["index"] = _flatten(ops.maximum(index_BPM, 0))
            state["transition_time"] = ops.take_along_axis(time, plan["index"], axis=1)
            state["transition_mask"] = _flatten(mask_BPM)
            distance_BNT = position_N[:, None] - plan["index"][:, None, :]
            plan["position"]["transition"] = plan["index"] - length
            plan["relations"]["transition"] = self.relate(
                time[..., None],
                state["transition_time"][:, None, :],
                state["transition_mask"][:, None, :] & (distance_BNT >= 0),
                distance_BNT,
            )
        if "local" in self.branches:
            time_BNW = sliding_window(time, self.window)
            mask_BNW = sliding_window(mask, self.window)
            state["local_time"] = time_BNW[:, -1]
            state["local_mask"] = mask_BNW[:, -1]
            plan["relations"]["local"] = append_key(
                self.relate(
                    time[..., None], time_BNW, mask_BNW, window_distance(self.window)
                )
            )
        if "distance" in self.relations:
            for branch in self.branches:
                if branch != "local":
                    position = ops.cast(plan["position"][branch], "int64")
                    state[f"{branch}_position"] = position
        return plan, state

    def relations_to(self, state: dict, request_time: Tensor) -> dict:
        """Relations of the candidates, which share one time, to the keys of the state.

        Args:
            state: from `call`.
            request_time: `[B]` int64 seconds.

        Returns:
            Branch → `[B, R, 1, J]` float32.
        """
        times = [state[f"{branch}_time"] for branch in self.branches]
        masks = [state[f"{branch}_mask"] for branch in self.branches]
        distance_B1J = None
        if "distance" in self.relations:
            distances = [self._distance_to(state, branch) for branch in self.branches]
            distance_B1J = ops.concatenate(distances, axis=1)[:, None, :]
        relations = self.relate(
            request_time[:, None, None],
            ops.concatenate(times, axis=1)[:, None, :],
            ops.concatenate(masks, axis=1)[:, None, :],
            distance_B1J,
        )
        parts = split_keys(relations, [time.shape[1] for time in times])
        relations = dict(zip(self.branches, parts, strict=True))
        if "local" in relations:
            relations["local"] = append_key(relations["local"])
        return relations

    def _distance_to(self, state: dict, branch: str) -> Tensor:
        """`[B, J]` int64: how far the keys of a branch are from the candidates."""
        if branch != "local":
            return -state[f"{branch}_position"]
        distance_1W = ops.cast(window_distance(self.window) + 1, "int64")
        return ops.zeros_like(state["local_time"]) + distance_1W

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "num_chunks": self.num_chunks,
            "transition": self.transition,
            "window": self.window,
            "branches": list(self.branches),
        }


def check_branches(branches: tuple[str, ...]) -> tuple[str, ...]:
    """Returns `branches` as a tuple; UserError for none or an unknown one."""
    for name in branches:
        if name not in BRANCHES:
            raise UserError(unknown_name("attention branch", name, BRANCHES))
    if not branches:
        raise UserError(f"`branches` must name one of {BRANCHES}. Received: ()")
    return tuple(branches)


def split_keys(inputs: Tensor, sizes: list[int]) -> list:
    """Cuts the last axis into parts of these sizes."""
    ends = list(itertools.accumulate(sizes))[:-1]
    return ops.split(inputs, ends, axis=-1) if ends else [inputs]


def _flatten(inputs_BPM):
    _, chunks, transition = inputs_BPM.shape
    return ops.reshape(inputs_BPM, (-1, chunks * transition))
