"""Which behaviors count in KernelAttention: no times, no positions, no padding."""

import keras


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
    """

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    def call(self, time, mask, chunk=None):
        """Keeps the mask."""
        return {"mask": mask}, {}

    def relations_to(self, state: dict, request_time) -> dict:
        """No relations."""
        return {}
