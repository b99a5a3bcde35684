"""The log loss of what a model predicts on the side, to train a part of its own."""

from collections.abc import Mapping

from keras import ops

from ctr_tf.losses.log_loss import cross_entropy
from ctr_tf.losses.loss import Loss
from ctr_tf.models.outputs import Outputs
from ctr_tf.models.ranker import Ranker
from ctr_tf.tensors import Tensor


class AuxiliaryLoss(Loss):
    """Sum, over the auxiliary logits, of their log losses; see `Ranker.auxiliary`.

    They predict the first label, the one that the ranker is trained for.
    """

    name = "auxiliary"
    weight = 1.0
    trains_scores = False

    def total(
        self, outputs: Mapping[str, Outputs], labels: Tensor, weights: Tensor
    ) -> Tensor:
        """Of all auxiliary logits."""
        return sum(
            ops.sum(cross_entropy(labels[..., :1], logits, weights))
            for logits in outputs[self.ranker].auxiliary.values()
        )

    def applies_to(self, ranker: Ranker) -> bool:
        """Whether it has auxiliary logits."""
        return bool(ranker.auxiliary)
