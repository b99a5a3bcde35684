"""Adam and Adagrads that touch only the rows of the batch, whatever the table's size.

They take a table's gradient as `tf.IndexedSlices`, add up the gradients of each row
(`unique_rows`), gather that row's slots, and scatter the new values of slots and row.
Table and slots are never read or written as a whole.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ctr_tf.errors import UserError


def unique_rows(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """Adds up the gradients of each row, so that every row appears once.

    Args:
        gradient: values `[n, width]` of rows `[n]`, in any order, with repetitions.

    Returns:
        The same gradient; rows in the order of their first appearance.
    """
    rows, position = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, position, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def _native(variable):
    return variable.value if isinstance(variable, keras.Variable) else variable


class RowWiseOptimizer(keras.optimizers.Optimizer):
    """Base: an optimizer that updates rows.

    Subclasses implement `slot_width` and `update_rows`. On one replica it is a Keras
    optimizer like any other; on several, gradients must have been summed over them, as
    `ReplicatedTables` does.

    Args:
        learning_rate: float or schedule.
        name: of the optimizer.

    Attributes:
        slots: what is remembered of rows: one variable a table, with as many rows.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.001,
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        for option in ("weight_decay", "use_ema", "gradient_accumulation_steps"):
            if getattr(self, option):
                raise UserError(
                    f"`{option}` touches every row of a table, so {type(self).__name__}"
                    f" does without it. Received: {option}={getattr(self, option)!r}"
                )

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Makes the slots."""
        if self.built:
            return
        super().build(variables)
        self.slots = [
            self.add_variable(
                shape=(variable.shape[0], self.slot_width(variable.shape[1])),
                initializer=keras.initializers.Constant(self.initial_slot),
                dtype=variable.dtype,
                name=f"{variable.name}_slots",
            )
            for variable in variables
        ]

    @property
    def initial_slot(self) -> float:
        """What new slots are filled with."""
        return 0.0

    def slot_width(self, width: int) -> int:
        """Numbers that are remembered of a row of `width`."""
        raise NotImplementedError(f"{type(self).__name__} lacks `slot_width`.")

    def apply(
        self,
        grads: Sequence,
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """Updates tables by gradients whose rows may repeat.

        Args:
            grads: `tf.IndexedSlices` each.
            trainable_variables: the tables.

        Raises:
            UserError: for a dense gradient, whose cost would grow with the table.
        """
        for gradient in grads:
            if not isinstance(gradient, tf.IndexedSlices):
                raise UserError(
                    f"{type(self).__name__} takes gradients as tf.IndexedSlices. "
                    f"Received: {type(gradient).__name__}"
                )
        self.apply_unique([unique_rows(g) for g in grads], trainable_variables)

    def apply_unique(
        self,
        grads: Sequence,
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """As `apply`, for gradients in which every row is there once."""
        super().apply(grads, trainable_variables)

    def apply_here(
        self, grads: Sequence[tf.IndexedSlices], variables: Sequence[keras.Variable]
    ) -> None:
        """As `apply_unique`, for variables that no strategy keeps."""
        for gradient, variable in zip(grads, variables, strict=True):
            self.update_step(gradient, variable, self.learning_rate)
        self.iterations.assign_add(1)

    def _slot(self, variable: keras.Variable) -> keras.Variable:
        return self.slots[self._get_variable_index(variable)]

    def update_step(
        self, gradient: tf.IndexedSlices, variable: keras.Variable, learning_rate: Any
    ) -> None:
        """Keras' hook: updates one table by a gradient of unique rows."""
        self.update_rows(
            gradient.indices,
            gradient.values,
            variable,
            tf.cast(learning_rate, "float32"),
        )

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return list(grads_and_vars)  # they are those of all replicas

    def update_rows(
        self,
        rows: tf.Tensor,
        gradient: tf.Tensor,
        variable: keras.Variable,
        learning_rate: tf.Tensor,
    ) -> None:
        """Updates `rows` `[n]`, each there once, by `gradient` `[n, width]`."""
        raise NotImplementedError(f"{type(self).__name__} lacks `update_rows`.")


def _gather(variable, rows):
    return tf.gather(_native(variable), rows)


def _scatter(variable, rows, values):
    _native(variable).scatter_update(tf.IndexedSlices(values, rows))


def _scatter_subtract(variable, rows, values):
    _native(variable).scatter_sub(tf.IndexedSlices(values, rows))


@keras.saving.register_keras_serializable(package="ctr_tf")
class RowWiseAdagrad(RowWiseOptimizer):
    """Adagrad; the same numbers as Keras' dense Adagrad.

    For every row of the batch, with g the sum of its gradients:

        a ← a + g²
        w ← w − learning_rate · g / sqrt(a + epsilon)

    A row without gradient stays as it is in dense Adagrad too, so the two are equal.

    Args:
        learning_rate: float or schedule.
        initial_accumulator_value: of a.
        epsilon: see above.
        name: of the optimizer.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        name: str = "row_wise_adagrad",
        **kwargs: Any,
    ):
        super().__init__(learning_rate, name=name, **kwargs)
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    @property
    def initial_slot(self) -> float:
        """Of the accumulators."""
        return self.initial_accumulator_value

    def slot_width(self, width: int) -> int:
        """See `RowWiseOptimizer`."""
        return width

    def squares(self, gradient: tf.Tensor) -> tf.Tensor:
        """What is added to the accumulators, for gradients `[n, width]`."""
        return tf.square(gradient)

    def update_rows(
        self,
        rows: tf.Tensor,
        gradient: tf.Tensor,
        variable: keras.Variable,
        learning_rate: tf.Tensor,
    ) -> None:
        """See the class."""
        slot = self._slot(variable)
        accumulator = _gather(slot, rows) + self.squares(gradient)
        _scatter(slot, rows, accumulator)
        change = learning_rate * gradient / tf.sqrt(accumulator + self.epsilon)
        _scatter_subtract(variable, rows, change)

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "initial_accumulator_value": self.initial_accumulator_value,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable(package="ctr_tf")
class RowScalarAdagrad(RowWiseAdagrad):
    """Adagrad with one number a row, where Adam keeps two a channel.

    For every row of the batch, with g the sum of its gradients:

        a ← a + mean(g²)
        w ← w − learning_rate · g / sqrt(a + epsilon)
    """

    def slot_width(self, width: int) -> int:
        """See `RowWiseOptimizer`."""
        return 1

    def squares(self, gradient: tf.Tensor) -> tf.Tensor:
        """One number for all channels of a row."""
        return tf.reduce_mean(tf.square(gradient), axis=1, keepdims=True)


@keras.saving.register_keras_serializable(package="ctr_tf")
class RowWiseAdam(RowWiseOptimizer):
    """Adam, lazily: a row that is not in the batch does not change at all.

    In step t, which counts the optimizer's steps and not those that had the row, for
    every row of the batch, with g the sum of its gradients:

        m ← beta_1 · m + (1 − beta_1) · g
        v ← beta_2 · v + (1 − beta_2) · g²
        rate ← learning_rate · sqrt(1 − beta_2^t) / (1 − beta_1^t)
        w ← w − rate · m / (sqrt(v) + epsilon)

    Of every other row, w, m and v stay as they are: moments do not decay while a row is
    away, and the row does not go on moving by its momentum, as it would in dense Adam.
    For a row that is in every batch the two are equal.

    Args:
        learning_rate: float or schedule.
        beta_1: see above.
        beta_2: see above.
        epsilon: see above.
        name: of the optimizer.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name: str = "row_wise_adam",
        **kwargs: Any,
    ):
        super().__init__(learning_rate, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def slot_width(self, width: int) -> int:
        """Both moments of a row lie side by side.

        So a row that is far away in memory is fetched once and not twice.
        """
        return 2 * width

    def update_rows(
        self,
        rows: tf.Tensor,
        gradient: tf.Tensor,
        variable: keras.Variable,
        learning_rate: tf.Tensor,
    ) -> None:
        """See the class."""
        slot = self._slot(variable)
        momentum, velocity = tf.split(_gather(slot, rows), 2, axis=1)
        momentum += (gradient - momentum) * (1 - self.beta_1)
        velocity += (tf.square(gradient) - velocity) * (1 - self.beta_2)
        _scatter(slot, rows, tf.concat([momentum, velocity], axis=1))
        step = tf.cast(self.iterations + 1, tf.float32)
        rate = learning_rate * tf.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step)
        change = rate * momentum / (tf.sqrt(velocity) + self.epsilon)
        _scatter_subtract(variable, rows, change)

    def get_config(self) -> dict[str, Any]:
        """Config."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }
