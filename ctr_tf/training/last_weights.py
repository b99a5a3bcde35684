"""What stands for a validation where there is none: the last weights are the best."""

import math
from collections.abc import Mapping
from typing import Any

import keras

from ctr_tf.training.checkpoints import Checkpoints, Progress


class LastWeights(keras.callbacks.Callback):
    """Keeps the weights of the last step as the best; in the place of `Validation`.

    Args:
        progress: of the run.
        checkpoints: of the run.
        total_steps: of the run.
    """

    def __init__(self, progress: Progress, checkpoints: Checkpoints, total_steps: int):
        super().__init__()
        self.progress = progress
        self.checkpoints = checkpoints
        self.total_steps = total_steps

    def make_up(self) -> None:
        """Keeps the weights of the last step, if the training was killed behind it."""
        if self.progress.step == self.total_steps:
            self.progress.best_step = self.progress.step
            self.checkpoints.save_best(self.progress.step)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Takes up the running metrics, which Keras has just reset."""
        self.checkpoints.restore_metrics()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any]) -> None:
        """Keeps the weights of the last step."""
        # Where the loss is no number, the next step's check tells.
        if math.isfinite(logs["loss"]):
            self.make_up()
