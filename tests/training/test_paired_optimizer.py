"""One step of network and tables together: clipping, decay, loss scaling."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.tables.embedding_table import EmbeddingTable
from ctr_tf.tables.replicated import ReplicatedTables
from ctr_tf.tables.row_wise_optimizers import RowWiseAdagrad, unique_rows
from ctr_tf.training import paired_optimizer
from ctr_tf.training.paired_optimizer import (
    SGD,
    Adam,
    LossScaleOptimizer,
    PairedOptimizer,
)

ROWS, WIDTH = 20, 3


def start():
    """The table as every test begins with it."""
    return np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype("float32")


def slices(ids, gradient):
    return tf.IndexedSlices(tf.constant(gradient), tf.constant(ids), (ROWS, WIDTH))


def pair(global_clipnorm=None, **network):
    """An optimizer of one weight of four numbers and one table, and these two."""
    layer = EmbeddingTable(ROWS, WIDTH)
    layer.build()
    layer.table.assign(start())
    weights = keras.Variable(np.ones(4, "float32"))
    store = ReplicatedTables({"items": layer}, RowWiseAdagrad(1.0))
    optimizer = PairedOptimizer(SGD(1.0, **network), store, global_clipnorm)
    optimizer.build([weights])
    return optimizer, weights, layer.table


def apply(optimizer, weights, of_weights, ids, of_rows):
    unique = unique_rows(slices(np.array(ids), of_rows))
    optimizer.apply([tf.constant(of_weights), unique], [weights, "items"])


def test_pair_clips_by_the_norm_of_all_gradients_together():
    optimizer, weights, variable = pair(global_clipnorm=1.0)
    gradient = np.full((2, WIDTH), 2.0, "float32")
    apply(optimizer, weights, np.full(4, 3.0, "f"), [3, 3], gradient)
    norm = np.sqrt(WIDTH * 4.0**2 + 4 * 3.0**2)  # the two slices are one row's
    np.testing.assert_allclose(weights.numpy(), 1 - 3.0 / norm, rtol=1e-6)
    g = 4.0 / norm
    np.testing.assert_allclose(
        start()[3] - variable.numpy()[3], g / np.sqrt(0.1 + g * g), rtol=1e-5
    )


def test_a_norm_that_is_small_is_left_alone():
    optimizer, weights, _ = pair(global_clipnorm=10.0)
    apply(optimizer, weights, np.full(4, 3.0, "f"), [3], np.ones((1, WIDTH), "f"))
    np.testing.assert_allclose(weights.numpy(), 1 - 3.0, rtol=1e-6)


def test_weight_decay_leaves_tables_alone():
    optimizer, weights, variable = pair(weight_decay=0.5)
    apply(optimizer, weights, np.zeros(4, "f"), [0], np.zeros((1, WIDTH), "f"))
    np.testing.assert_array_equal(variable.numpy(), start())
    np.testing.assert_allclose(weights.numpy(), 0.5)


@pytest.mark.parametrize("name", ["Adam", "Adagrad", "SGD"])
def test_a_weight_at_a_rate_of_its_own_is_as_under_an_optimizer_of_that_rate(name):
    """Its decay, too, under a schedule; the other weight is as without scales."""
    gradients = np.random.default_rng(2).normal(size=(5, 2, 4)).astype("float32")

    def trained(make, peak, scale=None):
        rate = keras.optimizers.schedules.CosineDecay(peak, 5)
        optimizer = make(rate, weight_decay=0.1)
        first, second = (keras.Variable(np.ones(4, "float32")) for _ in range(2))
        if scale is not None:
            optimizer.rate_scale = lambda v: scale if v is second else 1.0
        optimizer.build([first, second])
        step = tf.function(lambda g: optimizer.apply(tf.unstack(g), [first, second]))
        for gradient in gradients:
            step(tf.constant(gradient))
        return first.numpy(), second.numpy()

    ours, keras_own = getattr(paired_optimizer, name), getattr(keras.optimizers, name)
    first, second = trained(ours, 0.1, scale=0.25)
    np.testing.assert_allclose(first, trained(keras_own, 0.1)[0], rtol=1e-5)
    np.testing.assert_allclose(second, trained(keras_own, 0.025)[1], rtol=1e-5)
    assert np.abs(second - trained(keras_own, 0.1)[1]).min() > 1e-4


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_loss_scaling_skips_a_step_that_is_not_finite(bad):
    inner, weights, variable = pair()
    optimizer = LossScaleOptimizer(inner, initial_scale=8.0)
    optimizer.build([weights])
    gradient = np.full((1, WIDTH), bad, "float32")
    apply(optimizer, weights, np.ones(4, "f"), [2], gradient)
    np.testing.assert_array_equal(variable.numpy(), start())
    np.testing.assert_array_equal(weights.numpy(), 1.0)
    assert float(optimizer.dynamic_scale) == 4.0
    apply(optimizer, weights, np.ones(4, "f"), [2], np.ones((1, WIDTH), "f"))
    g = 1 / 4
    np.testing.assert_allclose(
        start()[2] - variable.numpy()[2], g / np.sqrt(0.1 + g * g), rtol=1e-5
    )
    np.testing.assert_allclose(weights.numpy(), 1 - g)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_adam_is_that_of_keras(jit_compile):
    """Of gradients, large, small and sparse, a schedule and decay.

    Keras is given the sparse ones as dense ones: of slices of one row it sums the
    squares, where Adam squares the sum.
    """
    random = np.random.default_rng(1)
    scales = 10.0 ** random.integers(-6, 3, 40)
    dense = tf.constant(random.normal(size=(6, 40)) * scales, "float32")
    rows, values = [5, 2, 5], tf.constant(random.normal(size=(6, 3, WIDTH)), "float32")

    def trained(make, as_given):
        rate = keras.optimizers.schedules.CosineDecay(0.01, 6)
        optimizer = make(rate, weight_decay=0.1)
        weights = [keras.Variable(np.ones(40, "f")), keras.Variable(start())]
        optimizer.build(weights)

        @tf.function(jit_compile=jit_compile)
        def step(gradient, values):
            sparse = tf.IndexedSlices(values, tf.constant(rows), (ROWS, WIDTH))
            optimizer.apply([gradient, as_given(sparse)], weights)

        for gradients in zip(dense, values, strict=True):
            step(*gradients)
        return [w.numpy() for w in (*weights, *optimizer.variables)]

    seen = trained(Adam, lambda sparse: sparse)
    assert np.all(seen[0] != 1)
    of_keras = trained(keras.optimizers.Adam, tf.convert_to_tensor)
    for value, expected in zip(seen, of_keras, strict=True):
        np.testing.assert_allclose(value, expected, rtol=2e-5, atol=1e-12)
