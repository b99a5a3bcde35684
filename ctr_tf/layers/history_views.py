"""The history cut by recency into a real-time, a short-term and a long-term view.

Shape suffixes: `B` batch, `N` behaviors.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.tensors import Tensor, check_int64

VIEWS = ("real_time", "short_term", "long_term")
CUTS = {"age": (3_600, 7 * 86_400), "count": (20, 200)}  # and their usual limits


def check_limits(cut: str, limits: tuple | None) -> tuple[int, int]:
    """The limits of a cut, its usual ones for None; UserError if they are none."""
    if cut not in CUTS:
        raise UserError(unknown_name("cut", cut, CUTS))
    limits = CUTS[cut] if limits is None else tuple(limits)
    if len(limits) != 2 or not 0 < limits[0] < limits[1]:
        raise UserError(
            "`limits` must be two positive numbers in ascending order. "
            f"Received: limits={limits}"
        )
    return limits


@keras.saving.register_keras_serializable(package="ctr_tf")
class HistoryViews(keras.layers.Layer):
    """Says which behaviors belong to which view.

    With limits a < b, a behavior of recency r is in the real-time view if r <= a, in
    the short-term view if a < r <= b, in the long-term view beyond. Its recency is its
    age, the seconds from it to the request, or its number counted from the latest
    behavior, 1.

    A view is a range of positions that surely holds it and a mask over that range. By
    age the range is the whole history. By count it is no longer than the view, so that
    the views together cost what the history costs; it keeps one (masked) position where
    the history is too short for the view.

    Args:
        cut: `"age"`, or `"count"` where times are anonymized or unreliable.
        limits: a and b, in seconds or behaviors; those of `CUTS` where None.

    Call arguments:
        time: `[B, N]` int64 seconds, left-padded, oldest first.
        mask: `[B, N]` bool, False on padding.
        request_time: `[B]` int64 seconds.

    Returns:
        `{view: (range, mask)}` of `VIEWS`: a `slice` of positions, and `[B, M]` bool
        over its M positions.

    Raises:
        UserError: for an unknown cut; if the limits do not ascend from a positive one.

    Reference:
        GAP-Net, sections 3.1 and 3.3.1 (by count; by age: ours).

    Example:
        >>> import numpy as np
        >>> from keras import ops
        >>> from ctr_tf.layers import HistoryViews
        >>> time = np.array([[0, 100, 160, 9_000, 9_030, 9_100]])  # left-padded
        >>> layer = HistoryViews("age", limits=(150, 5_000))
        >>> views = layer(time, time > 0, np.array([9_200]))
        >>> {name: int(ops.sum(mask)) for name, (_, mask) in views.items()}
        {'real_time': 1, 'short_term': 2, 'long_term': 2}
    """

    def __init__(self, cut: str = "age", limits: tuple | None = None, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.cut = cut
        self.limits = check_limits(cut, limits)

    def call(
        self, time: Tensor, mask: Tensor, request_time: Tensor
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Cuts the histories."""
        check_int64()
        length, (near, far) = mask.shape[1], self.limits
        if self.cut == "age":
            recency_BN = ops.cast(request_time, "int64")[:, None] - time
            ranges = [slice(0, length)] * 3
        else:
            recency_BN = ops.arange(length, 0, -1, dtype="int64")[None]
            ranges = [
                slice(_clip(length - near, length), length),
                slice(_clip(length - far, length), max(length - near, 1)),
                slice(0, self.long_term_axis(length)),
            ]
        masks = [
            mask & (recency_BN <= near),
            mask & (recency_BN > near) & (recency_BN <= far),
            mask & (recency_BN > far),
        ]
        return {
            view: (positions, mask_BN[:, positions])
            for view, positions, mask_BN in zip(VIEWS, ranges, masks, strict=True)
        }

    def long_term_axis(self, history_length: int) -> int:
        """M of the long-term view for histories of a length, to declare a state by."""
        if self.cut == "age":
            return history_length
        return max(history_length - self.limits[1], 1)

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "cut": self.cut,
            "limits": list(self.limits),
        }


def _clip(position: int, length: int) -> int:
    return min(max(position, 0), length - 1)
