"""Training: the step, optimizers, distribution, checkpoints, the loop."""
