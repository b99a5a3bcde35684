"""The network's optimizer and that of the tables, one step of both together.

`keras.optimizers.MultiOptimizer` would pair them, but it clips each part by a global
norm of its own, and each part reduces its own gradients over the replicas, after
clipping. Here gradients have been summed over the replicas before, so that clipping and
loss scaling see those of the global batch, all of them together.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from ctr_tf.tables.replicated import ReplicatedTables
from ctr_tf.tables.sharded import ShardedTables


class _Summed(keras.optimizers.Optimizer):
    """An optimizer whose gradients have been summed over the replicas before.

    Attributes:
        rate_scale: variable → by what its learning rate is multiplied.
    """

    rate_scale: Callable[[keras.Variable], float] | None = None
    weight_decay: Any

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Makes the slots, and knows each weight's scale."""
        super().build(variables)
        self._scales = [
            1.0 if self.rate_scale is None else float(self.rate_scale(variable))
            for variable in variables
        ]

    def update_step(
        self, gradient: Any, variable: tf.Variable, learning_rate: Any
    ) -> None:
        """Updates a weight at its own learning rate."""
        rate = self._rate(variable, learning_rate)
        super().update_step(gradient, variable, rate)

    def _rate(self, variable, learning_rate):
        scale = self._scales[self._get_variable_index(variable)]
        return learning_rate if scale == 1.0 else learning_rate * scale

    def _apply_weight_decay(self, variables):
        """Decay goes by the learning rate, so by each weight's own."""
        whole = self.weight_decay
        if whole is None:
            return
        scales = [self._scales[self._get_variable_index(v)] for v in variables]
        for scale in dict.fromkeys(scales):
            self.weight_decay = whole * scale
            group = [v for v, s in zip(variables, scales, strict=True) if s == scale]
            super()._apply_weight_decay(group)
        self.weight_decay = whole

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return list(grads_and_vars)


class Adam(_Summed, keras.optimizers.Adam):
    """Keras' own, for a network, a weight in one operation; see `PairedOptimizer`.

    Keras writes the same update in some forty operations a weight. A network of many
    small weights is traced, optimized and run faster without them. Of a gradient with
    several slices of one row it squares the sum, where Keras sums the squares.

    Args:
        learning_rate: a number or a schedule.
        weight_decay: decoupled (AdamW); None: none.
    """

    def __init__(self, learning_rate: Any, weight_decay: float | None = None):
        super().__init__(learning_rate, weight_decay=weight_decay)

    def update_step(
        self, gradient: Any, variable: tf.Variable, learning_rate: Any
    ) -> None:
        """Updates a weight and its two moments."""
        place = self._get_variable_index(variable)
        dtype = variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].value.handle,
            v=self._velocities[place].value.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=tf.cast(self._rate(variable, learning_rate), dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(tf.convert_to_tensor(gradient), dtype),
        )


class Adagrad(_Summed, keras.optimizers.Adagrad):
    """Keras' own, for a network; see `PairedOptimizer`."""


class SGD(_Summed, keras.optimizers.SGD):
    """Keras' own, for a network; see `PairedOptimizer`."""


class PairedOptimizer(keras.optimizers.Optimizer):
    """Updates the network by its optimizer, and tables by theirs.

    Gradients are those of the global batch, as `gradients` of the tables gives theirs.

    Args:
        network: one of this module's optimizers; only it may decay weights.
        tables: with their optimizer.
        global_clipnorm: all gradients, taken together, are scaled down to this norm.
        owner: variable of the network, or name of a table → whose it is: gradients of
            each owner are clipped by themselves. None: there is one.

    Attributes:
        first_step: steps done before the training; see `begin_schedules`.
    """

    first_step = 0

    def __init__(
        self,
        network: keras.optimizers.Optimizer,
        tables: ReplicatedTables | ShardedTables,
        global_clipnorm: float | None = None,
        owner: Callable[[Any], str] | None = None,
    ):
        super().__init__(learning_rate=0.0, global_clipnorm=global_clipnorm)
        self.network = network
        self.tables = tables
        self._owner = owner

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Makes the network's slots."""
        self.network.build(variables)
        self.built = True

    @property
    def variables(self) -> list[keras.Variable]:
        """Those of the network's optimizer; the tables save their own."""
        return self.network.variables

    @property
    def learning_rate(self) -> Any:
        """Current learning rate of the network."""
        return self.network.learning_rate

    @property
    def iterations(self) -> keras.Variable:
        """Steps done."""
        return self.network.iterations

    def apply(self, grads: Sequence, trainable_variables: Sequence) -> None:
        """Updates network and tables.

        Args:
            grads: see the class.
            trainable_variables: whose they are: variables of the network, and names of
                tables.
        """
        pairs = list(zip(grads, trainable_variables, strict=True))
        if self.global_clipnorm:
            pairs = self._clipped(pairs)
        of_network = [pair for pair in pairs if not isinstance(pair[1], str)]
        if of_network:
            self.network.apply(*zip(*of_network, strict=True))
        self.tables.apply(_of_tables(pairs))

    def _clipped(self, pairs):
        owners = [self._owner(v) if self._owner else "" for _, v in pairs]
        factors = {
            owner: self._clip_factor(
                [pair for pair, o in zip(pairs, owners, strict=True) if o == owner]
            )
            for owner in dict.fromkeys(owners)
        }
        return [
            (_scaled(gradient, factors[owner]), variable)
            for (gradient, variable), owner in zip(pairs, owners, strict=True)
        ]

    def _clip_factor(self, pairs):
        squares = [2 * tf.nn.l2_loss(g) for g, v in pairs if not isinstance(v, str)]
        squares.append(self.tables.squared_norm(_of_tables(pairs)))
        # Not `add_n`, whose order TensorFlow changes with the graph around it.
        norm = tf.sqrt(tf.reduce_sum(tf.stack(squares)))
        return self.global_clipnorm / tf.maximum(norm, self.global_clipnorm)


class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Dynamic loss scaling that looks only at the rows of a table's gradient.

    Keras' own makes a table's gradient dense in order to look for NaN and infinity.
    """

    def check_finite(self, grads: Sequence) -> tf.Tensor:
        """Whether every gradient is finite; sparse ones by their rows."""
        values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in grads]
        return super().check_finite(values)


def _of_tables(pairs: Sequence[tuple]) -> dict[str, tf.IndexedSlices]:
    return {owner: gradient for gradient, owner in pairs if isinstance(owner, str)}


def _scaled(gradient, factor):
    if isinstance(gradient, tf.IndexedSlices):
        values = gradient.values * factor
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return gradient * factor
