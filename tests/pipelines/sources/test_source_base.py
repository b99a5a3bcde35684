import pickle
from importlib import import_module

import numpy as np
import pyarrow as pa
import pytest

from pipelines.sources.source import Batch, Rejected, Shard, get_source

NAMES = (
    *("jsonl", "synthetic", "alibaba", "ebnerd", "eleme", "kuairand", "kuairec"),
    *("kuaivideo", "movielens", "movielens_ratings"),
)


@pytest.mark.parametrize("name", NAMES)
def test_every_source_has_its_name_and_its_manual(name):
    source = get_source(name)
    assert source.name == name
    manual = import_module(type(source).__module__).__doc__
    for part in ("Obtained:", "Licence:", "Read", f"--source {name} ", "becomes what"):
        assert part in manual, part


@pytest.mark.parametrize("name", [name for name in NAMES if name != "jsonl"])
def test_schemas_are_package_data(name):
    schema = get_source(name).schema()
    assert schema.name == name
    assert "position" not in {feature.name for feature in schema.features}


def test_unknown_source_names_the_nearest():
    with pytest.raises(ValueError, match="Unknown source 'ebnrd'. Did you mean 'ebne"):
        get_source("ebnrd")


def test_general_format_has_no_schema_of_its_own():
    with pytest.raises(ValueError, match="`--schema`.*schema.yaml"):
        get_source("jsonl").schema()


@pytest.mark.parametrize("name", NAMES)
def test_missing_folder(name, tmp_path):
    source = get_source(name)
    schema = get_source("synthetic" if name == "jsonl" else name).schema()
    with pytest.raises(FileNotFoundError, match="no-such"):
        source.shards(str(tmp_path / "no-such"), schema)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FileNotFoundError, match="Found: notes.txt"):
        source.shards(str(tmp_path), schema)


def test_shards_and_sources_can_be_sent_to_workers():
    shard = Shard("exposures", "a.jsonl", 3, 5, 2, ("user_id",))
    assert pickle.loads(pickle.dumps(shard)) == shard
    assert pickle.loads(pickle.dumps(get_source("ebnerd"))).name == "ebnerd"


def test_batch_numbers_and_rejects():
    rows = pa.table({"user_id": [5, 6, 7]})
    batch = Batch("users", rows, "users.csv", first_row=2)
    assert batch.numbers().tolist() == [2, 3, 4]
    assert batch.reject(np.array([2]), "odd") == [
        Rejected("odd", "users.csv:4", {"user_id": 7})
    ]
    batch.row_numbers = np.array([2, 9, 11])
    assert batch.reject(np.array([1]), "odd")[0].source == "users.csv:9"
