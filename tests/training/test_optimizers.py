"""Row-wise updates: Adagrad equals dense Keras, Adam its definition row by row."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.tables.embedding_table import EmbeddingTable
from ctr_tf.tables.replicated import ReplicatedTables
from ctr_tf.tables.row_wise_optimizers import RowWiseAdagrad, RowWiseAdam, unique_rows
from ctr_tf.training.paired_optimizer import SGD, LossScaleOptimizer, PairedOptimizer

ROWS, WIDTH, STEPS = 20, 3, 6


def table(seed=0):
    value = np.random.default_rng(seed).normal(size=(ROWS, WIDTH)).astype("float32")
    return keras.Variable(value)


def batches():
    random = np.random.default_rng(1)
    for _ in range(STEPS):
        ids = random.integers(0, 8, 12)  # repeats, and rows 8 … 19 never come
        yield ids, random.normal(size=(12, WIDTH)).astype("float32")


def slices(ids, gradient):
    return tf.IndexedSlices(tf.constant(gradient), tf.constant(ids), (ROWS, WIDTH))


def dense(ids, gradient):
    result = np.zeros((ROWS, WIDTH), "float32")
    np.add.at(result, ids, gradient)
    return result


def test_unique_rows_adds_up():
    ids, gradient = next(batches())
    unique = unique_rows(slices(ids, gradient))
    assert len(set(unique.indices.numpy())) == len(unique.indices) == len(set(ids))
    np.testing.assert_allclose(
        tf.convert_to_tensor(unique), dense(ids, gradient), rtol=1e-6, atol=1e-6
    )


def test_adagrad_equals_dense_keras():
    ours, keras_own = table(), table()
    row_wise = RowWiseAdagrad(0.1)
    stock = keras.optimizers.Adagrad(0.1)
    for ids, gradient in batches():
        row_wise.apply([slices(ids, gradient)], [ours])
        stock.apply([tf.constant(dense(ids, gradient))], [keras_own])
    np.testing.assert_allclose(ours.numpy(), keras_own.numpy(), rtol=1e-6, atol=1e-7)


def test_adam_equals_its_definition_row_by_row():
    variable, optimizer = table(), RowWiseAdam(0.1, beta_1=0.8, beta_2=0.95)
    w = variable.numpy().astype("float64")
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, (ids, gradient) in enumerate(batches(), start=1):
        optimizer.apply([slices(ids, gradient)], [variable])
        total = dense(ids, gradient).astype("float64")
        for row in set(ids):
            m[row] = 0.8 * m[row] + 0.2 * total[row]
            v[row] = 0.95 * v[row] + 0.05 * total[row] ** 2
            rate = 0.1 * np.sqrt(1 - 0.95**t) / (1 - 0.8**t)
            w[row] -= rate * m[row] / (np.sqrt(v[row]) + 1e-7)
        np.testing.assert_allclose(variable.numpy(), w, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(variable.numpy()[8:], table().numpy()[8:])


def test_adam_equals_dense_keras_where_every_row_is_in_every_batch():
    ours, keras_own = table(), table()
    row_wise, stock = RowWiseAdam(0.1), keras.optimizers.Adam(0.1)
    random = np.random.default_rng(2)
    for _ in range(STEPS):
        gradient = random.normal(size=(ROWS, WIDTH)).astype("float32")
        row_wise.apply([slices(np.arange(ROWS), gradient)], [ours])
        stock.apply([tf.constant(gradient)], [keras_own])
    np.testing.assert_allclose(ours.numpy(), keras_own.numpy(), rtol=1e-5, atol=1e-6)


def test_a_dense_gradient_is_refused():
    with pytest.raises(ValueError, match="IndexedSlices. Received: EagerTensor"):
        RowWiseAdam().apply([tf.zeros((ROWS, WIDTH))], [table()])


def test_options_that_touch_every_row_are_refused():
    with pytest.raises(ValueError, match="Received: weight_decay=0.1"):
        RowWiseAdagrad(weight_decay=0.1)


def pair(global_clipnorm=None, **network):
    """An optimizer of one weight of four numbers and one table, and these two."""
    layer = EmbeddingTable(ROWS, WIDTH)
    layer.build()
    layer.table.assign(table().numpy())
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
        table().numpy()[3] - variable.numpy()[3], g / np.sqrt(0.1 + g * g), rtol=1e-5
    )


def test_a_norm_that_is_small_is_left_alone():
    optimizer, weights, _ = pair(global_clipnorm=10.0)
    apply(optimizer, weights, np.full(4, 3.0, "f"), [3], np.ones((1, WIDTH), "f"))
    np.testing.assert_allclose(weights.numpy(), 1 - 3.0, rtol=1e-6)


def test_weight_decay_leaves_tables_alone():
    optimizer, weights, variable = pair(weight_decay=0.5)
    apply(optimizer, weights, np.zeros(4, "f"), [0], np.zeros((1, WIDTH), "f"))
    np.testing.assert_array_equal(variable.numpy(), table().numpy())
    np.testing.assert_allclose(weights.numpy(), 0.5)


def test_tables_and_slots_are_saved_and_loaded(tmp_path):
    optimizer, weights, variable = pair()
    ids, gradient = next(batches())
    apply(optimizer, weights, np.ones(4, "f"), ids, gradient)
    optimizer.tables.save(tmp_path)
    other, _, fresh = pair()
    other.tables.load(tmp_path)
    np.testing.assert_array_equal(fresh.numpy(), variable.numpy())
    assert np.abs(variable.numpy() - table().numpy()).max() > 0.1
    for one, two in zip(
        optimizer.tables.optimizer.variables,
        other.tables.optimizer.variables,
        strict=True,
    ):
        np.testing.assert_array_equal(two.numpy(), one.numpy())


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"items": (ROWS, 2)},
            "'items' must have the shape [20, 2]. Received: [20, 3]",
        ),
        ({"users": (4, 2)}, "it has no 'users', of shape [4, 2], among its tables."),
        ({}, "its 'items' of tables, of shape [20, 3], is nothing that is wanted"),
    ],
)
def test_other_tables_are_told(tables, message, tmp_path):
    optimizer, *_ = pair()
    optimizer.tables.save(tmp_path)
    layers = {name: EmbeddingTable(*shape) for name, shape in tables.items()}
    for layer in layers.values():
        layer.build()
    with pytest.raises(ValueError) as error:
        ReplicatedTables(layers).load(tmp_path, slots=False)
    assert message in str(error.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_loss_scaling_skips_a_step_that_is_not_finite(bad):
    inner, weights, variable = pair()
    optimizer = LossScaleOptimizer(inner, initial_scale=8.0)
    optimizer.build([weights])
    gradient = np.full((1, WIDTH), bad, "float32")
    apply(optimizer, weights, np.ones(4, "f"), [2], gradient)
    np.testing.assert_array_equal(variable.numpy(), table().numpy())
    np.testing.assert_array_equal(weights.numpy(), 1.0)
    assert float(optimizer.dynamic_scale) == 4.0
    apply(optimizer, weights, np.ones(4, "f"), [2], np.ones((1, WIDTH), "f"))
    g = 1 / 4
    np.testing.assert_allclose(
        table().numpy()[2] - variable.numpy()[2], g / np.sqrt(0.1 + g * g), rtol=1e-5
    )
    np.testing.assert_allclose(weights.numpy(), 1 - g)
