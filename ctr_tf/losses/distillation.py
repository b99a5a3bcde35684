"""The loss by which one ranker learns from another: its softened probabilities.

Shape suffixes: `B` batch, `C` candidates, `T` labels.
"""

from collections.abc import Mapping

from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.losses.log_loss import cross_entropy
from ctr_tf.losses.loss import MAIN, TEACHER, Loss
from ctr_tf.losses.outputs import Outputs
from ctr_tf.tensors import Tensor


class DistillationLoss(Loss):
    """Mean over the real candidates of ``t^2 BCE(sigmoid(z_T / t), z_S / t)``.

    The teacher's logits z_T are a target like any other: no gradient reaches it. The
    factor t^2 keeps the gradient's size, which the temperature t divides by t^2.

    Args:
        ranker: the student.
        teacher: name of the ranker that it learns from.
        temperature: t; above 1 it softens both.

    Raises:
        UserError: if the temperature is not positive.

    Reference:
        SUAN, section 3.6 of our reading; Hinton et al., Distilling the Knowledge in a
        Neural Network (2015), section 2, for two classes.

    Example:
        >>> import numpy as np
        >>> from ctr_tf.losses import DistillationLoss, Outputs
        >>> labels, weights = np.ones((1, 2, 1), "float32"), np.ones((1, 2), "float32")
        >>> student, teacher = np.zeros((1, 2, 1)), np.ones((1, 2, 1))
        >>> outputs = {"main": Outputs(student), "teacher": Outputs(teacher)}
        >>> loss = DistillationLoss(temperature=2.0)
        >>> total = loss.total(outputs, labels, weights)
        >>> round(float(total / loss.count(labels, weights)), 4)  # 4 ln 2
        2.7726
    """

    name = "distillation"

    def __init__(
        self, ranker: str = MAIN, teacher: str = TEACHER, temperature: float = 1.0
    ):
        super().__init__(ranker)
        if not temperature > 0:
            raise UserError(f"`temperature` must be positive. Received: {temperature}")
        self.teacher = teacher
        self.temperature = temperature

    @property
    def rankers(self) -> tuple[str, ...]:
        """The student and the teacher."""
        return self.ranker, self.teacher

    def total(
        self, outputs: Mapping[str, Outputs], labels: Tensor, weights: Tensor
    ) -> Tensor:
        """Of the main logits, all labels."""
        softened = {
            name: ops.cast(outputs[name].logits, "float32") / self.temperature
            for name in self.rankers
        }
        target_BCT = ops.sigmoid(ops.stop_gradient(softened[self.teacher]))
        losses_BC = cross_entropy(target_BCT, softened[self.ranker], weights)
        return self.temperature**2 * ops.sum(losses_BC)
