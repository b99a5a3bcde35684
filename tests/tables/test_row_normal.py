"""New rows: normal numbers, by the row alone."""

import numpy as np
import pytest
from scipy import stats

from ctr_tf.tables.embedding_table import EmbeddingTable
from ctr_tf.tables.row_normal import row_normal
from ctr_tf.tables.shard import Shard, place


@pytest.mark.parametrize("width", [1, 5, 8])
def test_a_part_has_the_rows_of_the_whole(width, monkeypatch):
    whole = row_normal(range(1_000), width, 0.2, seed=3)
    monkeypatch.setattr("ctr_tf.tables.row_normal._BLOCK", 64)
    for rows in (range(1_000), range(2, 1_000, 3), range(500, 501), range(0)):
        np.testing.assert_array_equal(row_normal(rows, width, 0.2, 3), whole[rows])


def test_numbers_are_normal_and_independent():
    values = row_normal(range(20_000), 6, 1.0, seed=0)
    assert stats.kstest(values.ravel(), "norm").pvalue > 0.01
    other = row_normal(range(20_000), 6, 1.0, seed=1)
    columns = np.concatenate([values[:-1], values[1:], other[:-1]], axis=1)
    correlation = np.corrcoef(columns, rowvar=False) - np.eye(18)
    assert np.abs(correlation).max() < 0.03
    assert len(np.unique(values[:, 0])) > 19_900


def test_a_table_starts_alike_however_it_is_cut():
    whole = EmbeddingTable(23, 4, seed=9)
    whole.build()
    for count in (2, 3, 30):
        for index in range(count):
            part = EmbeddingTable(23, 4, seed=9)
            part.cut(Shard(index, count))
            part.build()
            mine = [r for r in range(23) if place(r, count)[0] == index]
            assert [place(r, count)[1] for r in mine] == list(range(len(mine)))
            np.testing.assert_array_equal(part.table, whole.table.numpy()[mine])


def test_seeds_are_drawn_like_those_of_keras_and_kept():
    one, other = EmbeddingTable(5, 2), EmbeddingTable(5, 2)
    assert one.seed != other.seed
    again = EmbeddingTable.from_config(one.get_config())
    for table in (one, other, again):
        table.build()
    np.testing.assert_array_equal(one.table, again.table)
    assert np.abs(one.table.numpy() - other.table.numpy()).min() > 0
