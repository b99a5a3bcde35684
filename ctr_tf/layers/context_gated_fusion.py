"""Fusion of the views by weights that depend on the decision's context.

Shape suffixes: `B` batch, `C` candidates, `V` views, `D` model width, `X` width of the
context.
"""

from typing import Any

import keras
from keras import ops

from ctr_tf.layers.pafs import PAFS
from ctr_tf.tensors import Shape, Tensor

ABSENT = -3e4  # logit of an absent view; finite in half precision too


@keras.saving.register_keras_serializable(package="ctr_tf")
class ContextGatedFusion(keras.layers.Layer):
    """``concat(α_1 H_1, …, α_V H_V)``, the views H weighed by a softmax.

        anchor = concat(target, context, H_1, …, H_V), filtered by `PAFS` if `purified`
        α      = softmax(ReLU(anchor W_h + b_h) W_logit)

    The hidden layer has the width D of a view (ours; the paper: "an MLP"). A view
    without behaviors gets the weight 0 (ours), unless all are without, when every H is
    0. Weights are float32 under every policy.

    Args:
        purified: whether the gated network filters the anchor.

    Call arguments:
        target: `[B, C, D]`.
        context: `[B, Dx]`, what else should decide; Dx may be 0.
        views: `[B, C, V, D]`, what the target found in each view.
        present: `[B, V]` bool, whether a view has any behavior.

    Returns:
        `[B, C, V * D]`.

    Reference:
        GAP-Net, section 3.4, equations 12 to 16.

    Example:
        >>> import numpy as np
        >>> from keras.random import normal
        >>> from ctr_tf.layers import ContextGatedFusion
        >>> views, present = normal((1, 5, 2, 8)), np.array([[True, True]])
        >>> layer = ContextGatedFusion()
        >>> fused = layer(normal((1, 5, 8)), normal((1, 3)), views, present)
        >>> tuple(fused.shape)
        (1, 5, 16)
    """

    def __init__(self, purified: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        self.purified = purified

    def build(
        self,
        target_shape: Shape,
        context_shape: Shape,
        views_shape: Shape,
        present_shape: Shape,
    ) -> None:
        """Makes the filter and the gate."""
        views, width = views_shape[-2:]
        anchor_width = target_shape[-1] + context_shape[-1] + views * width
        anchor_shape = (*target_shape[:-1], anchor_width)
        if self.purified:
            self.purification = PAFS(dtype=self.dtype_policy, name="purification")
            self.purification.build(anchor_shape)
        self.hidden = keras.layers.Dense(
            width, activation="relu", dtype=self.dtype_policy, name="hidden"
        )
        self.hidden.build(anchor_shape)
        self.logit = keras.layers.Dense(
            views, use_bias=False, dtype="float32", name="logit"
        )
        self.logit.build((*anchor_shape[:-1], width))
        self.built = True

    def call(
        self, target: Tensor, context: Tensor, views: Tensor, present: Tensor
    ) -> Tensor:
        """Weighs the views of every candidate."""
        batch, candidates, count, width = ops.shape(views)
        flat_shape = (batch, candidates, count * width)
        context_BCX = ops.broadcast_to(
            context[:, None], (batch, candidates, context.shape[-1])
        )
        anchor = ops.concatenate(
            [target, context_BCX, ops.reshape(views, flat_shape)], axis=-1
        )
        if self.purified:
            anchor = self.purification(anchor)
        logit_BCV = self.logit(self.hidden(anchor))
        weight_BCV = ops.softmax(ops.where(present[:, None], logit_BCV, ABSENT))
        fused_BCVD = views * ops.cast(weight_BCV, views.dtype)[..., None]
        return ops.reshape(fused_BCVD, flat_shape)

    def compute_output_shape(
        self,
        target_shape: Shape,
        context_shape: Shape,
        views_shape: Shape,
        present_shape: Shape,
    ) -> Shape:
        """The views side by side."""
        return (*views_shape[:-2], views_shape[-2] * views_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {**super().get_config(), "purified": self.purified}
