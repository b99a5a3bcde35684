"""What the table of items knows of some items."""

import pyarrow as pa

from pipelines.items import ItemTable


def test_rows_come_by_id_and_unknown_items_are_empty():
    parts = [
        pa.table({"item_id": [3, 1], "brand": ["c", "a"]}),
        pa.table({"item_id": [2], "brand": ["b"]}),
    ]
    rows, known = ItemTable(parts).of(pa.array([2, 9, 3]))
    assert rows.to_pydict() == {"item_id": [2, 9, 3], "brand": ["b", None, "c"]}
    assert known.tolist() == [True, False, True]


def test_items_may_have_no_feature():
    rows, known = ItemTable([pa.table({"item_id": [3, 1]})]).of(pa.array([1, 9]))
    assert rows.to_pydict() == {"item_id": [1, 9]}
    assert known.tolist() == [True, False]


def test_there_may_be_no_items():
    rows, known = ItemTable([]).of(pa.array([1, 9]))
    assert rows.to_pydict() == {"item_id": [1, 9]} and known is None
