"""Rows that are unfit for use: counted by reason, kept aside, never lost."""

import base64
import dataclasses
import json
import re

import pytest
from job_helpers import SCHEMA, read_manifest, read_samples, run_job, write_log

from ctr_tf.schema import Categorical, Schema

START = 1_700_000_000


def exposure(item, **changes):
    row = {"user_id": "a", "time": START, "item_id": item, "click": 0, "like": 0}
    return {**row, "request_id": "r", **changes}


LOG = {
    "exposures": [
        exposure(1),
        exposure(2, time=None),
        exposure(3, time=-5),
        exposure(4, time=START * 1000),
        exposure(5, click=2),
        exposure(6, like=None),
        exposure(1, click=1, time=START + 1),
        exposure(7, user_id=None),
        exposure(8, request_id=None),
        exposure(8, request_id=None),
    ],
    "behaviors": [
        {"user_id": "a", "time": START - 5, "item_id": 1},
        {"user_id": "a", "time": START - 5, "item_id": 1},
        {"user_id": "a", "time": START - 5, "item_id": None},
    ],
    "users": [{"user_id": "a", "gender": "f"}, {"user_id": "a", "gender": "m"}],
    "items": [{"item_id": 1, "category": "x"}, {"item_id": 1, "category": "y"}],
}
ABSURD = (
    "time after the year 2242: times are read as seconds, perhaps they are "
    "milliseconds or microseconds; set the schema's time_unit"
)
EXPECTED = {
    "exposures": {
        "missing field time": [2],
        "negative time": [3],
        ABSURD: [4],
        "label click is neither 0 nor 1": [5],
        "missing field like": [6],
        "missing field user_id": [8],
    },
    "behaviors": {"missing field item_id": [3]},
    "users": {"duplicate user": [2]},
    "items": {"duplicate item": [2]},
}


def lines(folder):
    return [
        json.loads(line)
        for path in sorted(folder.glob("part-*.jsonl"))
        for line in path.read_text("utf-8").splitlines()
    ]


def test_every_row_is_kept_or_rejected_with_its_reason(tmp_path):
    write_log(tmp_path / "raw", LOG, SCHEMA)
    run_job(tmp_path / "raw", tmp_path / "out", "--max_rejected_fraction", 1)
    manifest = read_manifest(tmp_path / "out")
    for table, reasons in EXPECTED.items():
        count = manifest.events[table]
        assert count.read == len(LOG[table])
        expected = {reason: len(rows) for reason, rows in reasons.items()}
        assert count.rejected == expected
        assert count.kept == count.read - sum(expected.values())
    merged = {table: count.merged for table, count in manifest.events.items()}
    assert merged == {"exposures": 2, "behaviors": 1, "users": 0, "items": 0}
    found = {
        (line["reason"], line["source"]) for line in lines(tmp_path / "out/rejected")
    }
    assert found == {
        (reason, f"{table}.parquet:{row}")
        for table, reasons in EXPECTED.items()
        for reason, rows in reasons.items()
        for row in rows
    }
    samples = read_samples(tmp_path / "out")
    assert set(samples) == {("a", "r"), ("a", f"a:{START}")}
    sample = samples["a", "r"][1]
    assert sample["label"] == [1]  # its click is a row of its own
    assert sample["behavior_time"] == [START - 5]


def test_too_many_rejected_rows_publish_nothing(tmp_path):
    write_log(tmp_path / "raw", LOG, SCHEMA)
    with pytest.raises(ValueError) as error:
        run_job(tmp_path / "raw", tmp_path / "out")
    message = str(error.value)
    assert "6 of 10 rows of exposures are unfit for use, more than 0.01" in message
    assert "1 negative time, such as {" in message
    assert "exposures.parquet:4" in message
    assert message.endswith("Received: max_rejected_fraction=0.01")
    kept_at = tmp_path / "out.rejected"
    assert f"'{kept_at}'" in message
    assert len(lines(kept_at)) == 9
    assert {path.name for path in tmp_path.iterdir()} == {"raw", "out.rejected"}


def test_rejected_rows_can_be_read_again(tmp_path):
    raw = tmp_path / "raw"
    write_log(raw, {"behaviors": LOG["behaviors"]}, SCHEMA)
    bad = [
        b'{"user_id" :"a", "time":1700000000, "item_id":1, "click":3, "more":[1]}',
        b'{"user_id": "\xff", "time": 1700000000}',
        b'{"x": "' + b"y" * 20_000 + b'"',
    ]
    good = json.dumps(exposure(1)).encode()
    (raw / "exposures.jsonl").write_bytes(b"\n".join([good, *bad]))
    with pytest.raises(ValueError) as error:
        run_job(raw, tmp_path / "out")
    assert len(str(error.value)) < 8_000
    told = {line["source"]: line for line in lines(tmp_path / "out.rejected")}
    for number in (2, 4):
        line = told[f"exposures.jsonl:{number}"]
        assert line["table"] == "exposures"
        assert line["row"].encode() == bad[number - 2]
    assert "row" not in told["exposures.jsonl:3"]
    assert base64.b64decode(told["exposures.jsonl:3"]["row_base64"]) == bad[1]
    assert told["behaviors.parquet:3"]["table"] == "behaviors"
    assert told["behaviors.parquet:3"]["row"] == LOG["behaviors"][2]


def test_values_that_a_kind_cannot_take_are_rejected(tmp_path):
    item = Categorical("item_id", "item")
    tags = Categorical("tags", "item", length=3)
    schema = Schema("texts", (item, tags))
    table = [
        {"user_id": "a", "time": START + i, "item_id": name, "click": 0, "tags": tags}
        for i, (name, tags) in enumerate(
            [("x", ["p"]), ("y\0", ["p"]), ("z", ["p", "q\0"]), ("x", None)]
        )
    ]
    write_log(tmp_path / "raw", {"exposures": table}, schema)
    manifest = run_job(tmp_path / "raw", tmp_path / "out", "--max_rejected_fraction=1")
    words = item.wanted
    assert manifest.events["exposures"].rejected == {
        f"bad value of item_id, not {words}": 1,
        f"bad value of tags, not {words}": 1,
    }


def test_clicks_before_their_exposure_or_in_a_far_future_are_rejected(tmp_path):
    """A far click was once taken for one that never became known."""
    schema = dataclasses.replace(SCHEMA, time_unit="milliseconds")
    after = [None, 0, 5_000, -1, (1 << 33) * 1_000]
    rows = [
        exposure(
            i,
            time=START * 1_000,
            click=1,
            click_time=None if a is None else START * 1_000 + a,
        )
        for i, a in enumerate(after)
    ]
    write_log(tmp_path / "raw", {"exposures": rows}, schema)
    options = ("--max_rejected_fraction=1",)
    manifest = run_job(tmp_path / "raw", tmp_path / "out", *options)
    counts = manifest.events["exposures"]
    assert counts.kept == 3
    assert counts.rejected == {
        "click_time is before time": 1,
        "click_time is after the year 2242": 1,
    }


def test_an_existing_output_stays_unless_told_otherwise(tmp_path):
    write_log(tmp_path / "raw", {"exposures": [exposure(1)]}, SCHEMA)
    run_job(tmp_path / "raw", tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists. Give another `--output`"):
        run_job(tmp_path / "raw", tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").exists()
    run_job(tmp_path / "raw", tmp_path / "out", "--overwrite")
    assert not (tmp_path / "out" / "mine.txt").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num_shards", 0], "`--num_shards` must be positive. Received: 0"),
        (["--compression", "zip"], "must be 'none' or 'gzip'. Received: 'zip'"),
        (["--test_from", "soon"], "`--test_from` must be an ISO date-time"),
        (["--test_days", 1, "--test_from", 1_700_000_005], "not both"),
        (
            ["--validation_from", 1_700_000_009, "--test_from", 1_700_000_005],
            "must begin before the test",
        ),
        (["--num_shard", 3], "Unknown option '--num_shard'. Did you mean"),
        (["--source", "json"], "Unknown source 'json'. Did you mean 'jsonl'?"),
    ],
)
def test_impossible_options(tmp_path, options, message):
    write_log(tmp_path / "raw", {"exposures": [exposure(1)]}, SCHEMA)
    with pytest.raises(ValueError, match=re.escape(message)):
        run_job(tmp_path / "raw", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()
