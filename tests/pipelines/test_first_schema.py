"""`ctr-tf init`: what a column looks like, and what of it is left out."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyarrow import csv

from ctr_tf.commands.main import main
from ctr_tf.errors import UserError
from ctr_tf.schema import Schema
from pipelines import first_look
from pipelines.first_schema import check, first_schema
from pipelines.sources.source import get_source

T = 1_700_000_000_000  # milliseconds


def rows(count=400):
    """Slates of four; a hidden column tells of clicks, another of places."""
    random = np.random.default_rng(0)
    clicks = random.random(count) < 0.3
    return {
        "request_id": [f"r{i // 4}" for i in range(count)],
        "user_id": [f"u{i // 8}" for i in range(count)],
        "time": [T + 60_000 * (i // 4) for i in range(count)],
        "item_id": random.integers(10, 99, count).tolist(),
        "order": (clicks & (random.random(count) < 0.5)).astype(int).tolist(),
        "clicked": clicks.astype(int).tolist(),
        "dwell": [float(9 + i) if click else None for i, click in enumerate(clicks)],
        "rank": [i % 4 for i in range(count)],
        "bid": random.lognormal(0, 2, count).tolist(),
        "hour_of_day": [i // 4 % 24 for i in range(count)],
        "page": [f"p{i // 4 % 3}" for i in range(count)],
    }


def write_jsonl(path, columns):
    values = zip(*columns.values(), strict=True)
    lines = (dict(zip(columns, row, strict=True)) for row in values)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")


def found(folder):
    """The schema as a mapping, and its lines by the name of their feature."""
    text = first_schema(str(folder))
    lines = {}
    for line in text.splitlines():
        if "{name: " in line:
            lines[line.partition("{name: ")[2].partition(",")[0]] = line.strip()
    return yaml.safe_load(text), lines


def kinds(schema):
    return {f["name"]: (f["role"], f["kind"]) for f in schema["features"]}


def test_what_columns_are(tmp_path):
    write_jsonl(tmp_path / "exposures.jsonl", rows())
    (tmp_path / "items.csv").write_text(
        "item_id,tags,price,title,link\n"
        + "".join(
            f"{i},t{i % 7}|t{i % 5},{'NULL' if i % 9 else i},A title of item {i},\n"
            for i in range(10, 99)
        )
    )
    (tmp_path / "users.csv").write_text(
        "user_id,level\n" + "".join(f"u{i},{i % 3}\n" for i in range(50))
    )
    schema, lines = found(tmp_path)
    assert kinds(schema) == {
        "item_id": ("item", "categorical"),
        "tags": ("item", "categorical"),
        "price": ("item", "categorical"),
        "bid": ("candidate", "numeric"),
        "hour_of_day": ("context", "categorical"),
        "page": ("context", "categorical"),
        "level": ("user", "categorical"),
        "rank": ("position", "bucketized"),
    }
    assert schema["time_unit"] == "milliseconds"
    assert schema["labels"] == ["clicked", "order"]
    assert schema["null_values"] == ["", "NULL"]
    assert "length: 2}" in lines["tags"] and "dtype: int64" in lines["item_id"]
    assert "transform: log1p" in lines["bid"]
    assert "dtype" not in lines["tags"] and "dtype: int64" in lines["hour_of_day"]
    assert "num_values: 4}" in lines["rank"]
    assert "for the training alone" in lines["rank"]
    for name, why in {
        "dwell": "only clicked rows have it, so that it tells of the click",
        "link": "no value in the rows looked at",
        "title": "a text? `prepare --tokenizer` reads it",
    }.items():
        assert lines[name].startswith("# - ") and why in lines[name]


def test_every_line_says_why(tmp_path):
    write_jsonl(tmp_path / "exposures.jsonl", rows())
    told = [line for line in first_schema(str(tmp_path)).splitlines() if "name" in line]
    assert len(told) > 5
    assert all("  # " in line for line in told if "{" in line)


def test_the_worlds_schema_is_found_again(tmp_path):
    sizes = "--users 60 --items 200 --requests_per_user 4 --behaviors_per_user 30"
    assert main(["synthesize", "--output", str(tmp_path / "raw"), *sizes.split()]) == 0
    schema, _ = found(tmp_path / "raw")
    own = [f for f in get_source("synthetic").schema().features if not f.computed]
    position = {"position": ("position", "bucketized")}  # which the source leaves out
    assert kinds(schema) == {f.name: (f.role, f.kind) for f in own} | position
    assert schema["labels"] == ["click"] and schema["time_unit"] == "seconds"


def test_parquet_with_timestamps_and_lists(tmp_path):
    columns = rows(80)
    columns["time"] = pa.array(columns["time"], pa.timestamp("ms"))
    columns["topics"] = [["a", "b", "c"]] * 80
    columns["device"] = pa.array(columns["page"]).dictionary_encode()
    (tmp_path / "exposures").mkdir()
    table = pa.table(columns)
    pq.write_table(table.slice(0, 40), tmp_path / "exposures" / "part-0.parquet")
    pq.write_table(table.slice(40), tmp_path / "exposures" / "part-1.parquet")
    schema, lines = found(tmp_path)
    assert "length: 3}" in lines["topics"]
    assert kinds(schema)["device"] == ("context", "categorical")


def test_histories_are_as_long_as_most_users(tmp_path):
    write_jsonl(tmp_path / "exposures.jsonl", rows(80))
    (tmp_path / "behaviors.csv").write_text(
        "user_id,time,item_id,action\n"
        + "".join(f"u{i % 10},{T - i},{i % 50},view\n" for i in range(1_000))
    )
    schema, _ = found(tmp_path)
    assert schema["history_length"] == 128  # 100 and a few clicks
    assert kinds(schema)["action"] == ("behavior", "categorical")


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_part_of_a_table_is_no_whole(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(first_look, "ROWS", 60)
    monkeypatch.setattr(first_look, "_FEWEST_ROWS", 60)
    for count, told in ((60, "60 exposures."), (61, "60 exposures (not all).")):
        columns = rows(count)
        path = tmp_path / f"exposures.{suffix}"
        if suffix == "jsonl":
            write_jsonl(path, columns)
        else:
            csv.write_csv(pa.table(columns), path)
        text = first_schema(str(tmp_path))
        assert text.startswith(f"# A first guess, by {told}\n")
        assert ("19 of 20 users" in text) == (count == 60)


def without(name, new=None):
    columns = rows(40)
    values = columns.pop(name)
    return columns | ({new: values} if new else {})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            without("user_id", "uid"),
            "needs a column `user_id`. Rename `uid`?",
        ),
        (without("time", "ts"), "needs a column `time`. Rename `ts`"),
        (without("item_id", "product"), "needs a column `item_id`. Rename `product`?"),
    ],
)
def test_what_is_missing_is_named(tmp_path, columns, message):
    write_jsonl(tmp_path / "exposures.jsonl", columns)
    with pytest.raises(UserError, match=message):
        first_schema(str(tmp_path))


def test_files_that_are_something_else(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no table 'exposures'"):
        first_schema(str(tmp_path))
    path = tmp_path / "exposures.jsonl"
    path.write_text('{"user_id": 1}\nnonsense\n')
    with pytest.raises(UserError, match=r"exposures.jsonl, line 2: not JSON"):
        first_schema(str(tmp_path))
    path.write_text("[1]\n")
    with pytest.raises(UserError, match=r"line 1: not an object. Received: \[1\]"):
        first_schema(str(tmp_path))


def test_the_logs_are_prepared_by_it_as_it_is(tmp_path, capsys):
    logs, data = tmp_path / "logs", tmp_path / "data"
    logs.mkdir()
    write_jsonl(logs / "exposures.jsonl", rows())
    assert main(["init", "--input", str(logs)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("# A first guess, by 400 exposures.\n")
    assert f"ctr-tf prepare --source jsonl --input {logs} --output DATA" in shown
    assert main(["init", "--input", str(logs)]) == 2
    assert "`--overwrite` replaces it" in capsys.readouterr().err
    words = ["--source", "jsonl", "--input", str(logs), "--output", str(data)]
    assert main(["prepare", *words]) == 0
    assert Schema.load(data / "schema.yaml").labels == ("clicked", "order")


def test_a_log_of_clicks_alone_has_no_label_and_no_role_by_its_requests(tmp_path):
    columns = {k: rows()[k] for k in ("user_id", "time", "item_id", "page")}
    columns["brand"] = [f"b{item % 7}" for item in columns["item_id"]]
    write_jsonl(tmp_path / "exposures.jsonl", columns)
    schema, lines = found(tmp_path)
    assert schema["all_clicked"] and "labels" not in schema
    assert kinds(schema) == {
        "item_id": ("item", "categorical"),
        "brand": ("item", "categorical"),
    }
    assert "left out" in lines["page"] and "role context" in lines["page"]
    check(first_schema(str(tmp_path)), str(tmp_path))
    assert main(["init", "--input", str(tmp_path)]) == 0
    words = ["--input", str(tmp_path), "--output", str(tmp_path / "data")]
    prepare = ["prepare", "--source", "jsonl", *words]
    assert main([*prepare, "--negatives", "2"]) == 0


def test_a_column_of_ones_is_the_label_of_a_log_of_clicks(tmp_path):
    columns = {k: rows()[k] for k in ("user_id", "time", "item_id")}
    columns |= {"bought": [1] * 400, "country": ["de"] * 400}
    write_jsonl(tmp_path / "exposures.jsonl", columns)
    schema, lines = found(tmp_path)
    assert schema["labels"] == ["bought"] and "all_clicked" not in schema
    assert kinds(schema) == {"item_id": ("item", "categorical")}
    assert "left out" in lines["country"]
    assert "prepare --negatives" in first_schema(str(tmp_path))


def test_a_number_that_is_the_click_by_another_name_is_left_out(tmp_path):
    random = np.random.default_rng(0)
    columns = rows()
    clicked = np.array(columns["clicked"])
    columns["rating"] = (random.integers(1, 4, 400) + 3 * clicked).tolist()
    columns["hint"] = (clicked + random.normal(size=400)).round(3).tolist()
    columns["time"] = [T + 86_400_000 * (i // 4) * 3 for i in range(400)]
    write_jsonl(tmp_path / "exposures.jsonl", columns)
    schema, lines = found(tmp_path)
    assert "it alone tells clicks from others" in lines["rating"]
    assert kinds(schema)["hint"] == ("candidate", "numeric")
    assert schema["counter_windows"] == ["1d", "7d", "30d"]
