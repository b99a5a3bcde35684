"""The bench of tables whole and cut: its ids, and its cases as real processes."""

import numpy as np
import pytest

from benchmarks import tables
from ctr_tf.commands.main import main


def test_a_quarter_of_the_ids_are_distinct_and_workers_draw_their_own():
    one, other = (tables.drawn(1_000_000, worker)[0] for worker in (0, 1))
    assert one.min() >= 2 and one.max() < 1_000_000
    distinct = len(np.unique(one[0])) / one[0].size
    assert 0.22 < distinct < 0.3
    assert (one != other).mean() > 0.5
    both = np.intersect1d(one[0], other[0])
    assert len(both) > 500  # what is frequent is frequent for all


@pytest.mark.long
@pytest.mark.study
def test_a_cut_table_takes_half_the_memory_of_two_workers():
    result = tables.report([2], 20_000, 1)
    whole, cut = result["cases"]
    assert (whole["tables"], cut["tables"]) == tables.KINDS
    assert cut["kept"] <= 0.6 * whole["kept"]
    assert min(case[key] for case in (whole, cut) for key in ("seconds", "sent")) > 0


def test_a_table_without_rows(capsys):
    assert main(["bench", "tables", "--rows", "3"]) == 2
    assert "`--rows` is at least 10. Received: 3" in capsys.readouterr().err
