"""Which behaviors are keys of DilatedAttention, to whom, and how far away.

Shape suffixes: `B` batch, `N` behaviors, `M` behaviors with those that fill up the
classes, `Z` = B r classes, `G` = M / r behaviors a class, `W` window, `J` = G + W keys,
`R` relations.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.layers.blocks import fill_blocks, last_rows, to_blocks
from ctr_tf.layers.checks import check_positive
from ctr_tf.layers.sequence_keys import SequenceKeys, sliding_window, window_distance
from ctr_tf.layers.temporal_relations import RELATIONS
from ctr_tf.tensors import Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class DilatedKeys(SequenceKeys):
    """Behavior i sees ``i, i - 1, … i - w + 1``, and of those before every r-th.

    That is, behavior j with ``i - j >= w`` where r divides i - j: one of the same class
    of behaviors, those r apart. Candidates see what the newest behavior sees (ours: as
    many keys as it, and the newest behaviors among them).

    Args:
        window: w.
        dilation: r.
        relations: those of the encoding, see `temporal_relations`.
        zone: of local time; see `ctr_tf.time.local_time`.

    Call arguments:
        time: `[B, N]` int64 seconds, left-padded, oldest first.
        mask: `[B, N]` bool.
        chunk: not used; the arguments are those of `EvoKeys`.

    Returns:
        The plan `{"relations": [Z, R, G, J], "position": [N]}`, queries and keys by
        class, the window last; and the state, the candidates' keys,
        `{"time": [B, J], "mask": [B, J]}`. Positions count from the candidates'.

    Raises:
        UserError: for a size that is not positive, an unknown relation.

    Reference:
        Child et al., Generating Long Sequences with Sparse Transformers (2019), section
        4.2, the strided pattern in one softmax; an alternative of SparseCTR, section
        4.4.1.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.layers import DilatedKeys
        >>> time = np.array([[0, 100, 160, 9_000, 9_030, 9_100]])  # left-padded
        >>> _, state = DilatedKeys(window=2, dilation=3)(time, time > 0)
        >>> np.asarray(state["time"]).tolist()  # every third, then the last two
        [[160, 9100, 9030, 9100]]
    """

    def __init__(
        self,
        window: int,
        dilation: int,
        relations: tuple[str, ...] = RELATIONS,
        zone: int | str = 0,
        **kwargs: Any,
    ):
        super().__init__(relations, zone, **kwargs)
        check_positive(window=window, dilation=dilation)
        self.window = window
        self.dilation = dilation

    def call(
        self, time: Tensor, mask: Tensor, chunk: Tensor | None = None
    ) -> tuple[dict, dict]:
        """Relates the pairs of each class, and the window."""
        length = time.shape[1]
        time_BM, mask_BM = (fill_blocks(x, self.dilation) for x in (time, mask))
        time_ZG, mask_ZG = (to_classes(x, self.dilation) for x in (time_BM, mask_BM))
        distance_GG = self._class_distance(time_ZG.shape[1])
        far_GG = distance_GG >= self.window
        dilated = self.relate(
            time_ZG[..., None],
            time_ZG[:, None, :],
            mask_ZG[:, None, :] & far_GG,
            distance_GG,
        )
        time_BMW, mask_BMW = (
            sliding_window(x, self.window) for x in (time_BM, mask_BM)
        )
        window = self.relate(
            time_ZG[..., None],
            to_classes(time_BMW, self.dilation),
            to_classes(mask_BMW, self.dilation),
            window_distance(self.window),
        )
        plan = {
            "relations": ops.concatenate([dilated, window], axis=-1),
            "position": ops.arange(-length, 0, dtype="int32"),
        }
        state = {
            "time": candidate_keys(time_BM, self.window, self.dilation),
            "mask": ops.concatenate(
                [newest_class(mask_BM, self.dilation) & far_GG[-1], mask_BMW[:, -1]],
                axis=1,
            ),
        }
        return plan, state

    def relations_to(self, state: dict, request_time: Tensor) -> Tensor:
        """Relations `[B, R, 1, J]` of the candidates to the keys of the state."""
        of_class_1G = self._class_distance(state["time"].shape[1] - self.window)[-1:]
        distance_1J = ops.concatenate(
            [of_class_1G, window_distance(self.window)], axis=1
        )
        return self.relate(
            request_time[:, None, None],
            state["time"][:, None, :],
            state["mask"][:, None, :],
            distance_1J + 1,
        )

    def _class_distance(self, count: int) -> Tensor:
        """`[G, G]`: i - j within a class."""
        order_G = ops.arange(count, dtype="int32") * self.dilation
        return order_G[:, None] - order_G

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "window": self.window,
            "dilation": self.dilation,
        }


def to_classes(inputs: Tensor, dilation: int) -> Tensor:
    """`[B, M, …]` → `[Z, G, …]`: behaviors r apart, as samples of their own."""
    rows = ops.swapaxes(to_blocks(inputs, dilation), 1, 2)
    return ops.reshape(rows, (-1, *rows.shape[2:]))


def from_classes(inputs: Tensor, dilation: int) -> Tensor:
    """Inverse of `to_classes`."""
    _, count, *more = inputs.shape
    rows = ops.reshape(inputs, (-1, dilation, count, *more))
    return ops.reshape(ops.swapaxes(rows, 1, 2), (-1, count * dilation, *more))


def newest_class(inputs: Tensor, dilation: int) -> Tensor:
    """`[B, M, …]` → `[B, G, …]`: the class of the newest behavior."""
    return to_blocks(inputs, dilation)[:, :, -1]


def count_keys(history_length: int, window: int, dilation: int) -> int:
    """J: how many keys a candidate has."""
    return -(-history_length // dilation) + window


def candidate_keys(inputs: Tensor, window: int, dilation: int) -> Tensor:
    """`[B, M, …]` → `[B, J, …]`: rows of a candidate's keys, the window last."""
    newest_BW = last_rows(inputs, window)
    return ops.concatenate([newest_class(inputs, dilation), newest_BW], axis=1)
