"""The listwise softmax loss: which candidates of one slate are clicked.

Shape suffixes: `B` batch, `C` candidates, `T` labels.
"""

from collections.abc import Mapping

from keras import ops

from ctr_tf.losses.loss import Loss
from ctr_tf.losses.outputs import Outputs
from ctr_tf.tensors import Tensor

_HIDDEN = -1e9  # in place of the logit of padding


class ListwiseSoftmax(Loss):
    """Mean over the slates of ``- sum_c y_c log softmax(logits)_c / sum_c y_c``.

    It is the ranking within a slate that it looks at: what is added to all logits of a
    slate changes nothing, so that on its own it leaves probabilities uncalibrated.
    Slates without a click, or with nothing else than clicks, say nothing, and do not
    count. Labels are the first of T, the one that the ranker is trained for.

    Reference:
        Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach (ICML
        2007), section 4, with the labels as the distribution.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.losses import ListwiseSoftmax, Outputs
        >>> labels = np.array([[[1.0], [0.0], [0.0]]], "float32")
        >>> weights = np.array([[1.0, 1.0, 0.0]], "float32")  # the third is padding
        >>> logits = np.array([[[np.log(3.0)], [0.0], [9.0]]], "float32")
        >>> loss = ListwiseSoftmax()
        >>> total = loss.total({"main": Outputs(logits)}, labels, weights)
        >>> round(float(total / loss.count(labels, weights)), 4)  # -ln(3/4)
        0.2877
    """

    name = "listwise"

    def count(self, labels: Tensor, weights: Tensor) -> Tensor:
        """The number of slates that say something."""
        return ops.sum(ops.cast(_tells(labels, weights), "float32"))

    def total(
        self, outputs: Mapping[str, Outputs], labels: Tensor, weights: Tensor
    ) -> Tensor:
        """Of the first label's logits."""
        real_BC = weights > 0
        clicks_BC = ops.where(real_BC, labels[..., 0], 0.0)
        logits_BC = ops.cast(outputs[self.ranker].as_shown[..., 0], "float32")
        log_share_BC = ops.log_softmax(ops.where(real_BC, logits_BC, _HIDDEN), axis=-1)
        clicked_B = ops.maximum(ops.sum(clicks_BC, axis=-1), 1e-9)
        loss_B = -ops.sum(clicks_BC * log_share_BC, axis=-1) / clicked_B
        return ops.sum(ops.where(_tells(labels, weights), loss_B, 0.0))


def _tells(labels, weights):
    """`[B]` bool: the slates that have both clicked and unclicked candidates."""
    real_BC = weights > 0
    clicked_BC = labels[..., 0] > 0
    return ops.any(real_BC & clicked_BC, axis=-1) & ops.any(
        real_BC & ~clicked_BC, axis=-1
    )
