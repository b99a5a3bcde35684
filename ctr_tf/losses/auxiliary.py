"""The log loss of what a model predicts on the side, to train a part of its own."""

from collections.abc import Mapping
from typing import Any

from keras import ops

from ctr_tf.losses.log_loss import cross_entropy
from ctr_tf.losses.loss import Loss
from ctr_tf.losses.outputs import Outputs
from ctr_tf.tensors import Tensor


class AuxiliaryLoss(Loss):
    """Sum, over the auxiliary logits, of their log losses; see `Ranker.auxiliary`.

    They predict the first label, the one that the ranker is trained for.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.losses import AuxiliaryLoss, Outputs
        >>> labels, weights = np.ones((1, 2, 1), "float32"), np.ones((1, 2), "float32")
        >>> logits = np.zeros((1, 2, 1), "float32")
        >>> outputs = {"main": Outputs(logits, {"one": logits, "two": logits})}
        >>> loss = AuxiliaryLoss()
        >>> total = loss.total(outputs, labels, weights)
        >>> round(float(total / loss.count(labels, weights)), 4)  # twice ln 2
        1.3863
    """

    name = "auxiliary"
    weight = 1.0
    trains_scores = False

    def total(
        self, outputs: Mapping[str, Outputs], labels: Tensor, weights: Tensor
    ) -> Tensor:
        """Of all auxiliary logits, of candidates where they were shown."""
        return sum(
            ops.sum(cross_entropy(labels[..., :1], logits, weights))
            for logits in outputs[self.ranker].auxiliary_as_shown.values()
        )

    def applies_to(self, ranker: Any) -> bool:
        """Whether it has auxiliary logits."""
        return bool(ranker.auxiliary)
