"""What training makes small: one file a term of the objective.

`LOSSES` are the terms that a recipe's section `objective` weighs by name. The section
`distillation` adds `DistillationLoss`, which looks at two rankers.
"""

from ctr_tf.losses.auxiliary import AuxiliaryLoss
from ctr_tf.losses.distillation import DistillationLoss
from ctr_tf.losses.listwise import ListwiseSoftmax
from ctr_tf.losses.log_loss import LogLoss
from ctr_tf.losses.loss import Loss
from ctr_tf.losses.outputs import Outputs

__all__ = [
    "LOSSES",
    "AuxiliaryLoss",
    "DistillationLoss",
    "ListwiseSoftmax",
    "LogLoss",
    "Outputs",
]

LOSSES: dict[str, type[Loss]] = {
    loss.name: loss
    for loss in (
        LogLoss,
        ListwiseSoftmax,
        AuxiliaryLoss,
    )
}
