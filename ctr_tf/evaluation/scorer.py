"""A ranker as a function from a batch's inputs to probabilities."""

import functools
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from ctr_tf.evaluation.predictions import sigmoid
from ctr_tf.models.ranker import Ranker


class Scorer:
    """Scores batches by a ranker: one graph a shape of batch, whatever its size.

    Args:
        ranker: maps inputs to logits.
        task: which of the ranker's tasks; the label that it is trained for where None.
    """

    def __init__(self, ranker: Ranker, task: str | None = None):
        self._ranker = ranker
        self._task = 0 if task is None else 1 + ranker.tasks.index(task)
        self._graphs: dict[tuple, Callable] = {}

    def __call__(self, inputs: Mapping[str, tf.Tensor]) -> np.ndarray:
        """Probabilities, float64 `[B, C]`."""
        key = tuple((name, tuple(inputs[name].shape[1:])) for name in sorted(inputs))
        if key not in self._graphs:
            signature = {
                name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)
                for name, tensor in inputs.items()
            }
            # Each a function to TensorFlow, which else warns of retracing one.
            self._graphs[key] = tf.function(functools.partial(self._run), [signature])
        return sigmoid(self._graphs[key](inputs).numpy())

    def _run(self, inputs):
        return self._ranker(inputs, training=False)[..., self._task]


class WithoutHistory:
    """Scores a batch's candidates as if its users had no behaviors.

    Computed features of candidates, such as how often the user has clicked the item,
    stay as they are.

    Args:
        scorer: of the ranker.
        history: of `ctr_tf.data.dataset.empty_history`.
    """

    def __init__(self, scorer: Scorer, history: Mapping[str, tf.Tensor]):
        self._scorer = scorer
        self._history = dict(history)

    def __call__(self, inputs: dict[str, tf.Tensor]) -> np.ndarray:
        """Probabilities, float64 `[B, C]`."""
        size = len(inputs["request_time"])
        empty = {
            k: tf.repeat(value, size, axis=0) for k, value in self._history.items()
        }
        return self._scorer({**inputs, **empty})
