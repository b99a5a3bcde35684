"""Keys of full causal self-attention: every behavior (variant A1)."""

import keras
from keras import ops

from ctr_tf.layers.sequence_keys import SequenceKeys
from ctr_tf.tensors import Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class FullKeys(SequenceKeys):
    """Behavior i sees behaviors 0 … i; a candidate sees every behavior.

    Args:
        relations: those of the encoding, see `temporal_relations`.
        zone: of local time; see `ctr_tf.time.local_time`.

    Call arguments:
        time: `[B, N]` int64 seconds, left-padded, oldest first.
        mask: `[B, N]` bool.
        chunk: not used; the arguments are those of `EvoKeys`.

    Returns:
        The plan `{"relations": [B, R, N, N], "position": [N]}` and the state
        `{"time": [B, N], "mask": [B, N]}`. Positions count from the candidates'.

    Reference:
        SparseCTR, section 4.4.1, variant A1.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.layers import FullKeys
        >>> time = np.array([[0, 100, 160, 9_000, 9_030, 9_100]])  # left-padded
        >>> plan, _ = FullKeys(relations=("time",))(time, time > 0)
        >>> np.asarray(plan["relations"])[0, 0, 3].tolist()  # log2 of seconds
        [0.0, 13.0, 13.0, 0.0, 0.0, 0.0]
    """

    def call(
        self, time: Tensor, mask: Tensor, chunk: Tensor | None = None
    ) -> tuple[dict, dict]:
        """Relates all pairs."""
        position_N = ops.arange(-time.shape[1], 0, dtype="int32")
        distance_NN = position_N[:, None] - position_N[None, :]
        visible_BNN = mask[:, None, :] & (distance_NN >= 0)
        relations = self.relate(
            time[..., None], time[:, None, :], visible_BNN, distance_NN
        )
        plan = {"relations": relations, "position": position_N}
        return plan, {"time": time, "mask": mask}

    def relations_to(self, state: dict, request_time: Tensor) -> Tensor:
        """Relations `[B, R, 1, N]` of the candidates to the keys of the state."""
        return self.relate(
            request_time[:, None, None],
            state["time"][:, None, :],
            state["mask"][:, None, :],
            ops.arange(state["time"].shape[1], 0, -1, dtype="int32")[None, :],
        )
