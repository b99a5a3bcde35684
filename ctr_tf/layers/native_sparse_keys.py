"""Which behaviors are keys of NativeSparseAttention, to whom, and how far away.

Shape suffixes: `B` batch, `N` behaviors, `Q` queries, `P` blocks, `L` behaviors a
block, `W` window, `R` relations.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.layers.blocks import last_rows, to_blocks
from ctr_tf.layers.checks import check_positive
from ctr_tf.layers.sequence_keys import SequenceKeys, sliding_window, window_distance
from ctr_tf.layers.temporal_relations import RELATIONS
from ctr_tf.tensors import Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class NativeSparseKeys(SequenceKeys):
    """Blocks of equal length, counted from the newest behavior, and a window.

    * compressed: behavior i sees the blocks that end at or before i; a block's time and
      position are the integer means of its behaviors'; blocks of padding are hidden.
    * selected: behaviors 0 … i of the blocks that `NativeSparseAttention` selects.
    * local: behaviors i - w + 1 … i.

    A candidate sees every compressed block, whole selected blocks and the last w
    behaviors. Borders are counted from the newest so that padding moves none (ours).

    Args:
        block_length: l.
        window: w.
        relations: those of the encoding, see `temporal_relations`.
        zone: of local time; see `ctr_tf.time.local_time`.

    Call arguments:
        time: `[B, N]` int64 seconds, left-padded, oldest first.
        mask: `[B, N]` bool.
        chunk: not used; the arguments are those of `EvoKeys`.

    Returns:
        The plan, a dict: `"mask"` `[B, N]` bool, `"position"` int32, of `"behaviors"`
        `[N]` and `"compressed"` blocks `[B, P]`, and `"relations"`: `"compressed"`
        `[B, R, N, P]`, `"local"` `[B, R, N, W]` and, for what is selected later, the
        queries' `"time"` `[B, Q, 1]` and `"position"` `[Q]` and the blocks'
        `"block_time"`, `"block_mask"` `[B, P, L]`. And the state `{"time": [B, N],
        "mask": [B, N]}`. Positions count from the candidates'.

    Raises:
        UserError: for a size that is not positive, an unknown relation.

    Reference:
        See `NativeSparseAttention`.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.layers import NativeSparseKeys
        >>> time = np.array([[0, 100, 160, 9_000, 9_030, 9_100]])  # left-padded
        >>> plan, _ = NativeSparseKeys(block_length=2, window=2)(time, time > 0)
        >>> np.asarray(plan["relations"]["block_time"]).tolist()
        [[[0, 100], [160, 9000], [9030, 9100]]]
    """

    def __init__(
        self,
        block_length: int,
        window: int,
        relations: tuple[str, ...] = RELATIONS,
        zone: int | str = 0,
        **kwargs: Any,
    ):
        super().__init__(relations, zone, **kwargs)
        check_positive(block_length=block_length, window=window)
        self.block_length = block_length
        self.window = window

    def call(
        self, time: Tensor, mask: Tensor, chunk: Tensor | None = None
    ) -> tuple[dict, dict]:
        """Relates the behaviors to blocks and window."""
        position_N = ops.arange(-time.shape[1], 0, dtype="int32")
        relations, position_BP = self._to_blocks(
            time[..., None], position_N, time, mask
        )
        relations["local"] = self.relate(
            time[..., None],
            sliding_window(time, self.window),
            sliding_window(mask, self.window),
            window_distance(self.window),
        )
        plan = {
            "mask": mask,
            "position": {"behaviors": position_N, "compressed": position_BP},
            "relations": relations,
        }
        return plan, {"time": time, "mask": mask}

    def relations_to(self, state: dict, request_time: Tensor) -> dict:
        """Relations of the candidates, as the plan's, Q = 1."""
        time, mask = state["time"], state["mask"]
        query_time = request_time[:, None, None]
        now_1 = ops.zeros(1, "int32")
        relations, _ = self._to_blocks(query_time, now_1, time, mask)
        relations["local"] = self.relate(
            query_time,
            last_rows(time, self.window)[:, None, :],
            last_rows(mask, self.window)[:, None, :],
            window_distance(self.window) + 1,
        )
        return relations

    def _to_blocks(self, query_time, query_position, time, mask):
        """What queries need to know of the blocks; and the blocks' positions."""
        time_BPL, mask_BPL = (to_blocks(x, self.block_length) for x in (time, mask))
        count = time_BPL.shape[1]
        size_BP = ops.sum(ops.cast(mask_BPL, "int32"), axis=-1)
        total_BP = ops.sum(ops.where(mask_BPL, time_BPL, 0), axis=-1)
        mean_BP = total_BP // ops.cast(ops.maximum(size_BP, 1), time.dtype)
        end_P = ops.arange(1 - count, 1, dtype="int32") * self.block_length - 1
        position_BP = ops.subtract(end_P, size_BP // 2)
        complete_QP = end_P <= query_position[:, None]
        compressed = self.relate(
            query_time,
            mean_BP[:, None, :],
            (size_BP > 0)[:, None, :] & complete_QP,
            ops.subtract(query_position[:, None], position_BP[:, None, :]),
        )
        relations = {
            "compressed": compressed,
            "time": query_time,
            "position": query_position,
            "block_time": time_BPL,
            "block_mask": mask_BPL,
        }
        return relations, position_BP

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "block_length": self.block_length,
            "window": self.window,
        }
