"""Row-wise updates: Adagrad equals dense Keras, Adam its definition row by row."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.tables.row_wise_optimizers import (
    RowScalarAdagrad,
    RowWiseAdagrad,
    RowWiseAdam,
    unique_rows,
)

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


def test_adagrad_of_one_scalar_equals_its_definition_row_by_row():
    variable, optimizer = table(), RowScalarAdagrad(0.1, initial_accumulator_value=0.2)
    w = variable.numpy().astype("float64")
    a = np.full((ROWS, 1), 0.2)
    for ids, gradient in batches():
        optimizer.apply([slices(ids, gradient)], [variable])
        total = dense(ids, gradient).astype("float64")
        for row in set(ids):
            a[row] += np.mean(total[row] ** 2)
            w[row] -= 0.1 * total[row] / np.sqrt(a[row] + 1e-7)
        np.testing.assert_allclose(variable.numpy(), w, rtol=1e-5, atol=1e-6)
    (slot,) = optimizer.slots
    np.testing.assert_allclose(slot.numpy(), a, rtol=1e-5)


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
