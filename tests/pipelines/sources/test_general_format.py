"""The general format: three notations of the same log, and rows that are bad."""

import csv
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_reading import read_all

from ctr_tf.errors import UserError
from ctr_tf.schema import Bucketized, Categorical, Numeric, Schema
from pipelines.sources import parquet_files, text_files
from pipelines.sources.raw_files import SUFFIXES
from pipelines.sources.source import get_source

SCHEMA = Schema(
    name="toy",
    features=(
        Categorical("item_id", "item", dtype="int64"),
        Categorical("category", "item"),
        Numeric("price", "item"),
        Bucketized("dwell", "behavior", log2=True, dtype="int64"),
        Categorical("tags", "user", length=3),
        Categorical("level", "user", dtype="int64"),
        Categorical("device", "context"),
        Bucketized("position", "candidate", num_values=8, dtype="int64"),
    ),
    labels=("click", "buy"),
)
EVENT = {"user_id": "u", "time": 1_700_000_000, "item_id": 7}
EXPOSURE = {**EVENT, "click": 1, "buy": 0}
SOURCE = get_source("jsonl")


def write(folder, table, rows, suffix, name=None):
    """Writes rows (dictionaries with the same keys) in one of the notations."""
    path = folder / (name or table + suffix)
    if suffix == ".parquet":
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        pq.write_table(pa.table(columns), path, row_group_size=3)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            for row in rows:
                joined = {
                    key: "|".join(value) if isinstance(value, list) else value
                    for key, value in row.items()
                }
                writer.writerow(joined)


def read_lines(tmp_path, lines, suffix=".jsonl", table="exposures"):
    if table != "exposures":
        write(tmp_path, "exposures", [EXPOSURE], ".jsonl")
    text = "".join(line + "\n" for line in lines)
    (tmp_path / (table + suffix)).write_bytes(text.encode("utf-8", "surrogateescape"))
    tables, rejected = read_all(SOURCE, tmp_path, SCHEMA)
    return tables[table], rejected


words = st.text(
    st.characters(blacklist_categories=("C", "Z"), blacklist_characters='|"'),
    min_size=1,
    max_size=6,
)
whole = st.integers(-(2**62), 2**62)


def optional(strategy):
    return st.none() | strategy


exposures = st.lists(
    st.fixed_dictionaries(
        {
            "user_id": words,
            "time": st.integers(0, 2**40),
            "item_id": whole,
            "click": st.integers(0, 1),
            "buy": st.integers(0, 1),
            "request_id": words,
            "category": optional(words),
            "price": optional(st.floats(-1e6, 1e6, width=32)),
            "device": optional(words),
            "position": optional(whole),
            "behavior_dwell": optional(st.integers(0, 2**62)),
            "true_probability": optional(st.floats(0, 1, width=32)),
            "unknown": optional(words),
        }
    ),
    min_size=1,
    max_size=8,
)
users = st.lists(
    st.fixed_dictionaries(
        {
            "user_id": words,
            "tags": optional(st.lists(words, min_size=1, max_size=3)),
            "level": optional(whole),
        }
    ),
    min_size=1,
    max_size=5,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(exposures=exposures, users=users)
def test_three_notations_of_one_log_are_equal(tmp_path_factory, exposures, users):
    read = []
    for suffix in SUFFIXES:
        folder = tmp_path_factory.mktemp("log")
        write(folder, "exposures", exposures, suffix)
        write(folder, "users", users, suffix)
        tables, rejected = read_all(SOURCE, folder, SCHEMA)
        assert not rejected
        read.append(tables)
    for table, rows in (("exposures", exposures), ("users", users)):
        expected = [
            {key: value for key, value in row.items() if key != "unknown"}
            for row in rows
        ]
        for suffix, tables in zip(SUFFIXES, read, strict=True):
            known = {key for row in expected for key in row if row[key] is not None}
            assert known <= set(tables[table].column_names) <= set(expected[0])
            found = tables[table].to_pylist()
            for got, want in zip(found, expected, strict=True):
                assert got == {key: want[key] for key in got}, suffix


def test_column_types(tmp_path):
    table, _ = read_lines(tmp_path, [json.dumps(EXPOSURE)])
    assert {field.name: str(field.type) for field in table.schema} == {
        "user_id": "string",
        "time": "int64",
        "item_id": "int64",
        "click": "int8",
        "buy": "int8",
    }


def test_a_user_feature_sets_the_type_of_user_id(tmp_path):
    user = Categorical("user_id", "user", dtype="int64")
    schema = Schema("toy", features=(*SCHEMA.features, user), labels=("click",))
    write(tmp_path, "exposures", [{**EXPOSURE, "user_id": 5}], ".jsonl")
    tables, rejected = read_all(SOURCE, tmp_path, schema)
    assert tables["exposures"]["user_id"].to_pylist() == [5] and not rejected
    assert pa.types.is_int64(tables["exposures"].schema.field("user_id").type)


def test_other_spellings_of_the_same_values(tmp_path):
    lines = [
        '{"user_id": 5, "time": 1700000000, "item_id": 7, "click": true, "buy": 0}',
        '{"user_id": "5", "time": "1700000000", "item_id": 7.0, "click": 1, "buy": 0}',
        '{"user_id": "5", "time": "2023-11-14T22:13:20Z", "item_id": "7", '
        '"click": true, "buy": false}',
        "",
        '{"user_id": "5", "time": 1.7e9, "item_id": 7, "click": 1.0, "buy": null}',
    ]
    table, rejected = read_lines(tmp_path, lines)
    want = {**EXPOSURE, "user_id": "5"}
    assert table.to_pylist() == [want] * 3
    assert [reason for reason, *_ in rejected] == ["missing field buy"]
    assert rejected[0][1] == "exposures.jsonl:5"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_become_the_schemas_unit(tmp_path, unit):
    stamp = pa.array([1_700_000_000]).cast(pa.timestamp("s")).cast(pa.timestamp(unit))
    rows = {key: [value] for key, value in EXPOSURE.items()} | {"time": stamp}
    pq.write_table(pa.table(rows), tmp_path / "exposures.parquet")
    tables, _ = read_all(SOURCE, tmp_path, SCHEMA)
    assert tables["exposures"]["time"].to_pylist() == [1_700_000_000]


def test_csv_times_as_text(tmp_path):
    lines = [
        "user_id,time,item_id,click,buy",
        "u,2023-11-14 22:13:20,7,1,0",
        "u,2023-11-14 22:13:20Z,7,true,0",
        "u,some day,7,1,0",
    ]
    table, rejected = read_lines(tmp_path, lines, ".csv")
    assert table.to_pylist() == [EXPOSURE, EXPOSURE]
    assert [line[:2] for line in rejected] == [
        ("bad value of time, not an integer", "exposures.csv:4")
    ]


BAD_JSON = {
    "not json": "unparsable",
    "[1, 2]": "unparsable",
    '{"user_id": "u", "time": 17': "unparsable",
    '{"user_id": "\udcff", "time": 1, "item_id": 1, "click": 1, "buy": 0}': (
        "unparsable"
    ),
    json.dumps({**EXPOSURE, "time": "soon"}): "bad value of time, not an integer",
    json.dumps({**EXPOSURE, "time": 1.5}): "bad value of time, not an integer",
    json.dumps({**EXPOSURE, "item_id": "x7"}): "bad value of item_id, not an integer",
    json.dumps({**EXPOSURE, "item_id": 2**70}): "bad value of item_id, not an integer",
    json.dumps({**EXPOSURE, "item_id": [7]}): "bad value of item_id, not an integer",
    json.dumps({**EXPOSURE, "click": 300}): "bad value of click, not an integer",
    json.dumps({**EXPOSURE, "price": 1e300}): (
        "bad value of price, not a finite number"
    ),
    json.dumps({**EXPOSURE, "price": "cheap"}): (
        "bad value of price, not a finite number"
    ),
    json.dumps({**EXPOSURE, "category": "a\nb"}): (
        "bad value of category, not a string without line breaks or NUL"
    ),
    json.dumps({**EXPOSURE, "category": {"a": 1}}): (
        "bad value of category, not a string without line breaks or NUL"
    ),
    json.dumps({**EXPOSURE, "user_id": ""}): "missing field user_id",
    json.dumps({**EXPOSURE, "user_id": None}): "missing field user_id",
    json.dumps({k: v for k, v in EXPOSURE.items() if k != "time"}): (
        "missing field time"
    ),
}


@pytest.mark.parametrize("line", BAD_JSON)
def test_a_bad_json_line_is_rejected_and_the_others_survive(tmp_path, line):
    good = json.dumps({**EXPOSURE, "price": 2.5, "category": "a"})
    table, rejected = read_lines(tmp_path, [good, "", line, good])
    assert table["price"].to_pylist() == [2.5, 2.5]
    reason, source, raw = rejected[0]
    assert len(rejected) == 1
    assert (reason, source) == (BAD_JSON[line], "exposures.jsonl:3")
    assert raw == line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


BAD_CSV = {
    "u,1,7,1": "unparsable",
    "u,1,7,1,0,a,2,more": "unparsable",
    'u,1,7,1,0,"a,2': "unparsable",
    "u,1,7,1,0,\udcff,2": "unparsable",
    "u,later,7,1,0,a,2": "bad value of time, not an integer",
    "u,1,7.5,1,0,a,2": "bad value of item_id, not an integer",
    "u,1,99999999999999999999,1,0,a,2": "bad value of item_id, not an integer",
    "u,1,7,yes,0,a,2": "bad value of click, not an integer",
    "u,1,7,1,0,a,cheap": "bad value of price, not a finite number",
    "u,1,7,1,0,a,inf": "bad value of price, not a finite number",
    ",1,7,1,0,a,2": "missing field user_id",
    "u,,7,1,0,a,2": "missing field time",
}


@pytest.mark.parametrize("line", BAD_CSV)
def test_a_bad_csv_line_is_rejected_and_the_others_survive(tmp_path, line):
    header = "user_id,time,item_id,click,buy,category,price"
    good = 'u,1,7,1,0,"a, b",2.5'
    table, rejected = read_lines(tmp_path, [header, good, "", line, good], ".csv")
    assert table["price"].to_pylist() == [2.5, 2.5]
    assert table["category"].to_pylist() == ["a, b"] * 2
    reason, source, raw = rejected[0]
    assert len(rejected) == 1
    assert (reason, source) == (BAD_CSV[line], "exposures.csv:4")
    assert raw == line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def test_a_bad_parquet_row_is_rejected_and_the_others_survive(tmp_path):
    rows = [{**EXPOSURE, "item_id": value} for value in ("7", "x", "8", None, "9")]
    write(tmp_path, "exposures", rows, ".parquet")
    tables, rejected = read_all(SOURCE, tmp_path, SCHEMA)
    assert tables["exposures"]["item_id"].to_pylist() == [7, 8, 9]
    assert [line[:2] for line in rejected] == [
        ("bad value of item_id, not an integer", "exposures.parquet:2"),
        ("missing field item_id", "exposures.parquet:4"),
    ]
    assert json.loads(rejected[0][2])["item_id"] == "x"


def test_long_rows_are_kept_whole(tmp_path):
    _, rejected = read_lines(tmp_path, [json.dumps(EXPOSURE), "x" * 5_000])
    assert rejected[0][2] == "x" * 5_000


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_required_column_is_missing(tmp_path, suffix):
    row = {key: value for key, value in EXPOSURE.items() if key != "buy"}
    write(tmp_path, "exposures", [row], suffix)
    with pytest.raises(ValueError) as error:
        SOURCE.shards(str(tmp_path), SCHEMA)
    assert f"exposures{suffix}: the required column 'buy' is missing" in str(error)
    assert str(error.value).endswith("Columns found: user_id, time, item_id, click")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_column_that_is_there_twice(tmp_path, suffix):
    path = tmp_path / f"exposures{suffix}"
    for extra, times in ((["time"], 2), (["item_id"] * 2, 3), (["zebra"] * 2, 0)):
        names = [*EXPOSURE, *extra]
        values = [*EXPOSURE.values(), *[8] * len(extra)]
        if suffix == ".csv":
            path.write_text(
                "".join(",".join(map(str, x)) + "\n" for x in (names, values))
            )
        else:
            pq.write_table(pa.table([[value] for value in values], names=names), path)
        if times:
            message = f"{path}: the column '{extra[0]}' must be there once. Received: "
            with pytest.raises(UserError, match=f"^{message}{times} columns"):
                SOURCE.shards(str(tmp_path), SCHEMA)
    tables, rejected = read_all(SOURCE, tmp_path, SCHEMA)
    assert tables["exposures"].to_pylist() == [EXPOSURE] and not rejected


def test_a_parquet_column_of_the_wrong_kind(tmp_path):
    write(tmp_path, "exposures", [{**EXPOSURE, "time": [1]}], ".parquet")
    with pytest.raises(ValueError, match="'time' must hold an integer.*list<"):
        SOURCE.shards(str(tmp_path), SCHEMA)


@pytest.mark.parametrize("content", [b"PAR1 no more", b"not parquet at all"])
def test_a_broken_parquet_file(tmp_path, content):
    (tmp_path / "exposures.parquet").write_bytes(content)
    with pytest.raises(ValueError, match="exposures.parquet: not a Parquet file"):
        SOURCE.shards(str(tmp_path), SCHEMA)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_log_without_any_row(tmp_path, suffix):
    (tmp_path / f"exposures{suffix}").write_text("")
    with pytest.raises(ValueError, match="has no exposures: every file"):
        SOURCE.shards(str(tmp_path), SCHEMA)


def test_a_table_may_be_a_folder_of_several_notations(tmp_path):
    folder = tmp_path / "exposures"
    folder.mkdir()
    write(folder, "exposures", [EXPOSURE] * 2, ".csv", "part-1.csv")
    write(folder, "exposures", [{**EXPOSURE, "price": 2}], ".jsonl", "part-2.jsonl")
    write(folder, "exposures", [{**EXPOSURE, "time": "x"}], ".jsonl", "part-3.jsonl")
    (folder / "_SUCCESS").write_text("")
    tables, rejected = read_all(SOURCE, tmp_path, SCHEMA)
    assert tables["exposures"]["price"].to_pylist() == [None, None, 2]
    assert rejected[0][1] == "exposures/part-3.jsonl:1"


def test_a_table_that_is_there_twice(tmp_path):
    write(tmp_path, "exposures", [EXPOSURE], ".csv")
    write(tmp_path, "exposures", [EXPOSURE], ".jsonl")
    with pytest.raises(ValueError, match="once. Received: exposures.csv, exposures.j"):
        SOURCE.shards(str(tmp_path), SCHEMA)


def test_a_folder_table_without_files(tmp_path):
    (tmp_path / "exposures.parquet").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no file"):
        SOURCE.shards(str(tmp_path), SCHEMA)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_many_shards_and_blocks_read_the_same(tmp_path, suffix, monkeypatch):
    rng = random.Random(0)
    rows = [
        {**EXPOSURE, "time": index, "category": "é" * rng.randrange(1, 30)}
        for index in range(200)
    ]
    write(tmp_path, "exposures", rows, suffix)
    whole, _ = read_all(SOURCE, tmp_path, SCHEMA)
    assert whole["exposures"].to_pylist() == rows
    monkeypatch.setattr(text_files, "SHARD_BYTES", 3_000)
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 500)
    monkeypatch.setattr(parquet_files, "SHARD_ROWS", 50)
    monkeypatch.setattr(parquet_files, "BATCH_ROWS", 7)
    shards = SOURCE.shards(str(tmp_path), SCHEMA)
    assert len(shards) >= 3
    batches = [batch for shard in shards for batch in SOURCE.read(shard, SCHEMA)]
    parts = pa.concat_tables(batch.rows for batch in batches)
    assert parts.equals(whole["exposures"])
    numbers = [number for batch in batches for number in batch.numbers().tolist()]
    first = 2 if suffix == ".csv" else 1
    assert numbers == list(range(first, first + 200))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_line_endings_of_windows_and_no_last_line_break(tmp_path, suffix):
    write(tmp_path, "exposures", [EXPOSURE] * 3, suffix)
    path = tmp_path / f"exposures{suffix}"
    mark = b"\xef\xbb\xbf" if suffix == ".csv" else b""
    content = path.read_bytes().replace(b"\n", b"\r\n").removesuffix(b"\r\n")
    path.write_bytes(mark + content)
    tables, rejected = read_all(SOURCE, tmp_path, SCHEMA)
    assert tables["exposures"].to_pylist() == [EXPOSURE] * 3 and not rejected
    path.write_bytes(content.replace(b"1700000000", b"x", 1))
    tables, rejected = read_all(SOURCE, tmp_path, SCHEMA)
    assert rejected and all("\r" not in raw for _, _, raw in rejected)


def test_unknown_columns_are_told(tmp_path):
    write(tmp_path, "exposures", [{**EXPOSURE, "zebra": 1, "apple": 2}] * 3, ".csv")
    (shard,) = SOURCE.shards(str(tmp_path), SCHEMA)
    assert shard.unused == ("apple", "zebra")


def test_a_feature_that_no_table_has_is_told(tmp_path, caplog):
    schema = Schema(
        name="toy",
        features=(
            Categorical("item_id", "item", dtype="int64"),
            Categorical("brandd", "item"),
            Categorical("action", "behavior"),
        ),
    )
    row = {**EXPOSURE, "behavior_action": "click"}
    write(tmp_path, "exposures", [row], ".jsonl")
    write(tmp_path, "items", [{"item_id": 7, "brand": "b"}], ".csv")
    SOURCE.shards(str(tmp_path), schema)
    (told,) = (r.getMessage() for r in caplog.records if "WARNING" in r.getMessage())
    assert "Unknown column of 'exposures' or 'items', a feature of the schema: " in told
    assert "'brandd'. Did you mean 'brand'?" in told
    caplog.clear()
    late = {**row, "brandd": "x"}
    write(tmp_path, "exposures", [row] * 99 + [late], ".jsonl")
    SOURCE.shards(str(tmp_path), schema)
    assert not [r for r in caplog.records if "WARNING" in r.getMessage()]


def test_a_folder_may_be_a_uri(tmp_path):
    write(tmp_path, "exposures", [EXPOSURE] * 2, ".csv")
    write(tmp_path, "users", [{"user_id": "u", "tags": ["a"]}], ".parquet")
    tables, rejected = read_all(SOURCE, tmp_path.as_uri(), SCHEMA)
    assert len(tables["exposures"]) == 2 and not rejected
    assert tables["users"].to_pylist() == [{"user_id": "u", "tags": ["a"]}]
    with pytest.raises(FileNotFoundError, match="There is no folder 'file://"):
        SOURCE.shards(tmp_path.as_uri() + "/none", SCHEMA)
