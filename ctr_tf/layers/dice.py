"""An activation whose kink lies where the data are."""

from typing import Any

import keras
from keras import ops

from ctr_tf.errors import UserError
from ctr_tf.tensors import Shape, Tensor


@keras.saving.register_keras_serializable(package="ctr_tf")
class Dice(keras.layers.Layer):
    """``p(s) s + (1 - p(s)) alpha s``, ``p(s) = sigmoid((s - E[s]) / sqrt(Var[s]+e))``.

    Mean and variance are those of a channel over the batch in training, and their
    moving averages otherwise; alpha is learnable, 0 at first, one a channel. Where a
    mask is given, hidden rows have no part in the statistics. All of it is float32.

    Args:
        momentum: of the moving averages.
        epsilon: e.

    Call arguments:
        inputs: `[..., U]`.
        mask: bool, broadcastable to `[..., 1]`; all rows count where None.
        training: whether to use, and to record, the batch's statistics.

    Returns:
        `[..., U]`.

    Raises:
        UserError: if `momentum` is not in 0 … 1.

    Reference:
        Deep Interest Network, section 5.2 (data adaptive activation).

    Example:
        >>> import numpy as np
        >>> from keras import ops
        >>> from ctr_tf.layers import Dice
        >>> inputs = np.array([[-1.0], [3.0]], "float32")
        >>> print(ops.convert_to_numpy(Dice()(inputs, training=True)).round(3))
        [[-0.269]
         [ 2.193]]
    """

    def __init__(self, momentum: float = 0.99, epsilon: float = 1e-8, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= momentum <= 1:
            raise UserError(f"`momentum` lies in 0 … 1. Received: momentum={momentum}")
        self.momentum = momentum
        self.epsilon = epsilon

    def build(
        self, inputs_shape: Shape, *other_shapes: Shape, **more_shapes: Shape
    ) -> None:
        """Makes the slopes and the moving averages."""
        shape = (inputs_shape[-1],)
        self.alpha = self.add_weight(
            name="alpha", shape=shape, initializer="zeros", autocast=False
        )
        # On several replicas each records its own; a checkpoint holds the mean.
        self.mean, self.variance = (
            keras.Variable(
                keras.initializers.Constant(initial),
                shape=shape,
                dtype="float32",
                trainable=False,
                autocast=False,
                synchronization="on_read",
                aggregation="mean",
                name=name,
            )
            for name, initial in (("mean", 0), ("variance", 1))
        )
        self.built = True

    def call(
        self, inputs: Tensor, mask: Tensor | None = None, training: bool = False
    ) -> Tensor:
        """Activates every channel."""
        values = ops.cast(inputs, "float32")
        mean, variance = self.mean.value, self.variance.value
        if training:
            mean, variance = _moments(values, mask)
            for moving, new in ((self.mean, mean), (self.variance, variance)):
                new = ops.stop_gradient(new)
                moving.assign(moving.value + (1 - self.momentum) * (new - moving.value))
        share = ops.sigmoid((values - mean) * ops.rsqrt(variance + self.epsilon))
        output = values * (share + (1 - share) * self.alpha.value)
        return ops.cast(output, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }


def _moments(values, mask):
    """Mean and variance of each channel over all rows that count."""
    axes = tuple(range(len(values.shape) - 1))
    if mask is None:
        mean = ops.mean(values, axis=axes)
        return mean, ops.mean(ops.square(values - mean), axis=axes)
    shape = (*ops.shape(values)[:-1], 1)
    weight = ops.broadcast_to(ops.cast(mask, "float32"), shape)
    count = ops.maximum(ops.sum(weight), 1.0)
    mean = ops.sum(values * weight, axis=axes) / count
    return mean, ops.sum(ops.square(values - mean) * weight, axis=axes) / count
