import pytest
from source_reading import read_all

from ctr_tf.synthetic.synthesize import WorldConfig, synthesize, write
from pipelines.sources.source import get_source

WORLD = WorldConfig(users=40, items=200, days=6, behaviors_per_user=20)


@pytest.mark.parametrize("file_format", ["parquet", "jsonl", "csv"])
def test_what_is_written_is_what_is_read(tmp_path, file_format):
    source = get_source("synthetic")
    write(WORLD, tmp_path / "logs", file_format)
    read, rejected = read_all(source, tmp_path / "logs")
    assert not rejected
    for name, made in synthesize(WORLD).items():
        table = read[name]
        unread = set(made.column_names) - set(table.column_names)
        assert unread == ({"position"} if name == "exposures" else set())
        assert table.select(table.column_names).equals(
            made.select(table.column_names).cast(table.schema)
        ), name
