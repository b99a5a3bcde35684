"""Which behaviors count in KernelAttention: no times, no positions, no padding."""

from typing import Any

import keras

from ctr_tf.tensors import Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class KernelKeys(keras.layers.Layer):
    """The mask, and nothing else: projected keys have no time (see `KernelAttention`).

    Call arguments:
        time: not used; the arguments are those of `EvoKeys`.
        mask: `[B, N]` bool.
        chunk: not used.

    Returns:
        The plan `{"mask": [B, N]}` and an empty state.

    Reference:
        See `KernelAttention`.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.layers import KernelKeys
        >>> time = np.array([[0, 100, 160, 9_000, 9_030, 9_100]])  # left-padded
        >>> plan, state = KernelKeys()(time, time > 0)
        >>> np.asarray(plan["mask"]).astype(int).tolist(), state
        ([[0, 1, 1, 1, 1, 1]], {})
    """

    def __init__(self, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)

    def call(
        self, time: Tensor, mask: Tensor, chunk: Tensor | None = None
    ) -> tuple[dict, dict]:
        """Keeps the mask."""
        return {"mask": mask}, {}

    def relations_to(self, state: dict, request_time: Tensor) -> dict:
        """No relations."""
        return {}
