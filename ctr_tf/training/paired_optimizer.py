"""One optimizer for the tables and one for the rest, used as one by Keras.

`keras.optimizers.MultiOptimizer` would pair them, but it clips each part by a global
norm of its own, and each part reduces its own gradients over the replicas, after
clipping. Here the training step has summed the gradients over the replicas before, so
that clipping and loss scaling see those of the global batch, all of them together.
"""

import keras
import tensorflow as tf

from ctr_tf.training.row_wise_optimizers import RowWiseOptimizer, unique_rows


def is_table(variable: keras.Variable) -> bool:
    """Whether a variable is an embedding table (`EmbeddingTable` marks its own)."""
    return getattr(variable, "row_wise", False)


@keras.saving.register_keras_serializable(package="ctr_tf")
class PairedOptimizer(keras.optimizers.Optimizer):
    """Updates embedding tables by one optimizer and dense weights by another.

    Gradients must have been summed over the replicas already.

    Args:
        dense: a Keras optimizer; its own clipping, weight decay and averages are not
            used.
        tables: a row-wise optimizer.
        global_clipnorm: gradients of tables and dense weights, taken together, are
            scaled down to this norm.
        weight_decay: of dense weights, decoupled as in AdamW; tables have none.
        name: of the optimizer.
    """

    def __init__(
        self,
        dense: keras.optimizers.Optimizer,
        tables: RowWiseOptimizer,
        global_clipnorm: float | None = None,
        weight_decay: float | None = None,
        name="paired",
        **kwargs,
    ):
        kwargs.pop("learning_rate", None)
        super().__init__(
            learning_rate=0.0,
            global_clipnorm=global_clipnorm,
            weight_decay=weight_decay,
            name=name,
            **kwargs,
        )
        self.dense = dense
        self.tables = tables

    def build(self, variables):
        """Makes the slots of both."""
        if self.built:
            return
        variables = list(variables)
        tables = [v for v in variables if is_table(v)]
        self.exclude_from_weight_decay(tables)
        self.tables.build(tables)
        self.dense.build([v for v in variables if not is_table(v)])
        super().build(variables)
        self._tables = {self._var_key(v) for v in tables}

    @property
    def variables(self):
        """Own variables, then those of `dense`, then those of `tables`."""
        return [*self._variables, *self.dense.variables, *self.tables.variables]

    @property
    def learning_rate(self):
        """Current learning rate of the dense weights."""
        return self.dense.learning_rate

    def apply(self, grads, trainable_variables=None):
        """Updates the variables by gradients of the global batch."""
        grads = [
            unique_rows(g) if isinstance(g, tf.IndexedSlices) else g for g in grads
        ]
        super().apply(grads, trainable_variables)
        self.dense.iterations.assign_add(1)
        self.tables.iterations.assign_add(1)

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable by the optimizer it belongs to."""
        if self._var_key(variable) in self._tables:
            rate = self.tables.learning_rate
            self.tables.update_rows(gradient.indices, gradient.values, variable, rate)
        else:
            self.dense.update_step(gradient, variable, self.dense.learning_rate)

    def _clip_gradients(self, grads):
        if not self.global_clipnorm:
            return grads
        return tf.clip_by_global_norm(grads, self.global_clipnorm)[0]

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return list(grads_and_vars)  # the training step has summed them

    def get_config(self):
        """Config."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "dense": serialize(self.dense),
            "tables": serialize(self.tables),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Inverse of `get_config`."""
        config = dict(config)
        for key in ("dense", "tables"):
            config[key] = keras.saving.deserialize_keras_object(
                config[key], custom_objects=custom_objects
            )
        return cls(**config)


class TableLossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Dynamic loss scaling that looks only at the rows of a table's gradient.

    Keras' own makes a table's gradient dense in order to look for NaN and infinity.
    """

    def check_finite(self, grads):
        """Whether every gradient is finite; sparse ones by their rows."""
        values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in grads]
        return super().check_finite(values)
