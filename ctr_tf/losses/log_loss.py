"""The log loss of each candidate by itself.

Shape suffixes: `B` batch, `C` candidates, `T` labels.
"""

from collections.abc import Mapping

from keras import ops

from ctr_tf.losses.loss import Loss
from ctr_tf.losses.outputs import Outputs
from ctr_tf.tensors import Tensor


class LogLoss(Loss):
    """Mean binary cross-entropy over the real candidates, and over the labels.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.losses import LogLoss, Outputs
        >>> labels = np.array([[[1.0], [0.0], [0.0]]], "float32")
        >>> weights = np.array([[1.0, 1.0, 0.0]], "float32")  # the third is padding
        >>> outputs, loss = {"main": Outputs(np.zeros((1, 3, 1), "float32"))}, LogLoss()
        >>> total = loss.total(outputs, labels, weights)
        >>> round(float(total / loss.count(labels, weights)), 4)  # ln 2
        0.6931
    """

    name = "log_loss"
    weight = 1.0

    def total(
        self, outputs: Mapping[str, Outputs], labels: Tensor, weights: Tensor
    ) -> Tensor:
        """Of the main logits."""
        return ops.sum(cross_entropy(labels, outputs[self.ranker].as_shown, weights))


def cross_entropy(labels_BCT: Tensor, logits_BCT: Tensor, weights_BC: Tensor) -> Tensor:
    """Weighted binary cross-entropy of each candidate, `[B, C]` float32, 0 on padding.

    Args:
        labels_BCT: 0 … 1; the mean over the T labels is taken.
        logits_BCT: as the labels; those of padding have no influence, NaN included.
        weights_BC: 0 on padding.
    """
    real_BC = weights_BC > 0
    logits_BCT = ops.where(real_BC[..., None], ops.cast(logits_BCT, "float32"), 0.0)
    losses_BCT = ops.binary_crossentropy(labels_BCT, logits_BCT, from_logits=True)
    losses_BC = ops.multiply(ops.mean(losses_BCT, axis=-1), weights_BC)
    return ops.where(real_BC, losses_BC, 0.0)
