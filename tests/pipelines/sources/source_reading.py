"""Reading a whole source, and where the real data are."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

DATA = Path(__file__).parents[4] / "shared" / "data"


def real_data(name: str) -> str:
    """The folder of a real data set; skips the test where it is absent."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"the real data set '{name}' is not at ../shared/data/{name}")
    return str(folder)


def as_text(raw) -> str:
    """A rejected row for comparisons."""
    if isinstance(raw, bytes):
        return raw.decode("utf-8", "replace")
    return raw if isinstance(raw, str) else json.dumps(raw, default=str)


def read_all(source, folder, schema=None):
    """Table → all rows; and the rejected rows as (reason, source, raw)."""
    schema = schema or source.schema()
    tables, rejected = {}, []
    for shard in source.shards(str(folder), schema):
        for batch in source.read(shard, schema):
            assert batch.table == shard.table
            assert len(batch.numbers()) == len(batch.rows)
            tables.setdefault(batch.table, []).append(batch.rows)
            rejected += [(r.reason, r.source, as_text(r.raw)) for r in batch.rejected]
    whole = {
        name: pa.concat_tables(parts, promote_options="default")
        for name, parts in tables.items()
    }
    return whole, rejected
