"""Tables that are whole on every replica: saved, loaded, compared by name."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.tables.embedding_table import EmbeddingTable
from ctr_tf.tables.replicated import ReplicatedTables
from ctr_tf.tables.row_wise_optimizers import RowWiseAdagrad

ROWS, WIDTH = 20, 3


def make(seed=0):
    keras.utils.set_random_seed(seed)
    table = EmbeddingTable(ROWS, WIDTH)
    table.build()
    return ReplicatedTables({"items": table}, RowWiseAdagrad(1.0))


def step(store):
    """One update by the gradients of two lookups in one table."""
    lookups = {
        "seen": ("items", tf.constant([[3, 5], [3, 3]])),
        "shown": ("items", tf.constant([7, 5])),
        "unused": ("items", tf.constant([9])),
    }
    rows, looked_up = store.lookup(lookups)
    assert {name: tuple(value.shape) for name, value in rows.items()} == {
        "seen": (2, 2, WIDTH),
        "shown": (2, WIDTH),
        "unused": (1, WIDTH),
    }
    of_rows = {name: tf.ones_like(value) for name, value in rows.items()}
    gradients = store.gradients(looked_up, {**of_rows, "unused": None})
    store.apply(gradients)
    return gradients["items"]


def test_gradients_of_all_lookups_are_added_row_by_row():
    store = make()
    before = store.export()["items"].numpy()
    gradient = step(store)
    rows, values = gradient.indices.numpy().tolist(), gradient.values.numpy()[:, 0]
    sums = dict(zip(rows, values, strict=True))
    assert sums == {3: 3, 5: 2, 7: 1}
    squares = WIDTH * (9 + 4 + 1)
    assert float(store.squared_norm({"items": gradient})) == pytest.approx(squares)
    moved = before - store.export()["items"].numpy()
    for row in range(ROWS):
        g = sums.get(row, 0)
        np.testing.assert_allclose(moved[row], g / np.sqrt(0.1 + g * g), rtol=1e-5)


def test_tables_and_slots_are_saved_and_loaded(tmp_path):
    store, other = make(), make(1)
    step(store)
    store.save(tmp_path)
    other.load(tmp_path)
    for one, two in zip(store.variables, other.variables, strict=True):
        np.testing.assert_array_equal(two.numpy(), one.numpy())
    assert np.ptp(store.variables[-1].numpy()) > 0  # slots that moved


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"items": (20, 2)}, "'items' must have the shape [20, 2]. Received: [20, 3]"),
        ({"users": (4, 2)}, "it has no 'users', of shape [4, 2], among its tables."),
        ({}, "its 'items' of tables, of shape [20, 3], is nothing that is wanted"),
    ],
)
def test_other_tables_are_told(tables, message, tmp_path):
    make().save(tmp_path)
    layers = {name: EmbeddingTable(*shape) for name, shape in tables.items()}
    for layer in layers.values():
        layer.build()
    with pytest.raises(ValueError) as error:
        ReplicatedTables(layers).load(tmp_path, slots=False)
    assert message in str(error.value)
