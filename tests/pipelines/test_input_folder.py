"""Every file and every row of an input folder is read, or is told of."""

import bz2
import gzip
import json
import random
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctr_tf.errors import UserError
from ctr_tf.schema import Categorical, Numeric, Schema
from pipelines import listwise
from pipelines.limits import RejectionLimits
from pipelines.sources import text_files
from pipelines.sources.source import TABLES, get_source
from pipelines.sources.unread import check_all_read

SOURCE = get_source("jsonl")
START = 1_700_000_000
SCHEMA = Schema(
    "shop",
    (
        Categorical("item_id", "item", dtype="int64"),
        Categorical("page", "context"),
        Categorical("dt", "context"),
        Numeric("price", "candidate"),
        Categorical("tags", "candidate", length=3),
    ),
    null_values=("", "NULL"),
)


def rows(count, start=0):
    return [
        {"request_id": f"r{i}", "user_id": f"u{i % 7}", "time": START + i}
        | {"item_id": i % 11, "click": int(i % 5 == 0), "page": "home"}
        for i in range(start, start + count)
    ]


def lines(table):
    return "".join(f"{json.dumps(row)}\n" for row in table).encode()


def read(folder, schema=SCHEMA):
    """All rows of the exposures, and reasons of the rejected."""
    shards = SOURCE.shards(str(folder), schema)
    check_all_read(SOURCE, str(folder), shards)
    found, rejected = [], []
    for shard in shards:
        for batch in SOURCE.read(shard, schema):
            found += batch.rows.to_pylist()
            rejected += [entry.reason for entry in batch.rejected]
    return found, rejected


def prepare(folder, *words, schema=SCHEMA):
    schema.save(folder / "schema.yaml")
    output = folder.parent / f"{folder.name}.out"
    options = ["--source", "jsonl", "--input", str(folder), "--output", str(output)]
    return listwise.run([*options, "--num_buckets", "2", *words])


FILES = {
    "one file": {"exposures.jsonl": lines(rows(28))},
    "an ending in capitals": {"exposures.JSONL": lines(rows(28))},
    "gzip": {"exposures.jsonl.gz": gzip.compress(lines(rows(28)))},
    "gzip of several members": {
        "exposures.jsonl.gz": gzip.compress(lines(rows(10)))
        + gzip.compress(lines(rows(18, 10)))
    },
    "bzip2": {"exposures.jsonl.bz2": bz2.compress(lines(rows(28)))},
    "zstandard": {
        "exposures.jsonl.zst": pa.compress(lines(rows(28)), "zstd", asbytes=True)
    },
    "parts at the top": {
        "exposures.jsonl-00000-of-00002": lines(rows(10)),
        "exposures.jsonl-00001-of-00002": lines(rows(18, 10)),
    },
    "parts named first": {
        "exposures-00000-of-00002.jsonl": lines(rows(10)),
        "exposures-00001-of-00002.jsonl": lines(rows(18, 10)),
    },
    "parts without ending": {
        "exposures/part-00000-of-00002": lines(rows(10)),
        "exposures/part-00001-of-00002": lines(rows(18, 10)),
        "exposures/_SUCCESS": b"",
    },
    "a mixture of everything": {
        "exposures/part-0.jsonl": lines(rows(4)),
        "exposures/PART-1.JSONL.GZ": gzip.compress(lines(rows(10, 4))),
        "exposures/more/part-00000-of-00001": lines(rows(14, 14)),
        "exposures/empty.jsonl": b"",
        "exposures/.part-0.jsonl.crc": b"x",
    },
    "compressed empty parts": {
        "exposures/part-0.jsonl": lines(rows(28)),
        "exposures/part-1.jsonl.gz": gzip.compress(b""),
        "exposures/part-2.csv.bz2": bz2.compress(b""),
    },
    "empty parts": {
        "exposures/part-0.jsonl": lines(rows(28)),
        "exposures/part-1.parquet": b"",
        "exposures/part-2.csv": b"",
    },
}


@pytest.mark.parametrize("files", FILES.values(), ids=FILES)
def test_all_rows_of_all_files_are_read(tmp_path, files):
    for name, content in files.items():
        path = tmp_path / "log" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    found, rejected = read(tmp_path / "log")
    assert not rejected
    found = sorted(found, key=lambda row: row["time"])
    assert [{key: row[key] for key in rows(1)[0]} for row in found] == rows(28)


def test_folders_may_name_a_column(tmp_path):
    for name, table in (
        ("dt=2023-11-20", rows(4)),
        ("dt=a%20b", rows(4, 4)),
        ("dt=__HIVE_DEFAULT_PARTITION__", rows(4, 8)),
    ):
        folder = tmp_path / "exposures" / name
        folder.mkdir(parents=True)
        (folder / "part-0.jsonl").write_bytes(lines(table))
    found, _ = read(tmp_path)
    values = [row.get("dt") for row in sorted(found, key=lambda row: row["time"])]
    assert values == ["2023-11-20"] * 4 + ["a b"] * 4 + [None] * 4


@pytest.mark.parametrize("name", ["exposures.txt", "clicks.jsonl", "behaviors.jsnl"])
def test_an_entry_that_nobody_reads_is_named(tmp_path, name):
    (tmp_path / "exposures.jsonl").write_bytes(lines(rows(3)))
    (tmp_path / name).write_bytes(lines(rows(3)))
    with pytest.raises(ValueError, match=f"does not read .*{name}.*Received: {name}"):
        read(tmp_path)
    shards = SOURCE.shards(str(tmp_path), SCHEMA)
    (tmp_path / "README.md").write_text("about")
    ignored = check_all_read(SOURCE, str(tmp_path), shards, f"x*,{name[:4]}*")
    assert sorted(ignored) == sorted(["README.md", name])


def test_a_part_of_no_known_format_is_named(tmp_path):
    (tmp_path / "exposures").mkdir()
    (tmp_path / "exposures" / "part-0.jsonl").write_bytes(lines(rows(3)))
    (tmp_path / "exposures" / "part-1.orc").write_bytes(b"ORC")
    name = "exposures/part-1.orc"
    with pytest.raises(ValueError, match=f"does not read .* Received: {name}"):
        read(tmp_path)
    shards = SOURCE.shards(str(tmp_path), SCHEMA)
    for pattern in ("*.orc", name, "exposures/*.o*"):
        assert check_all_read(SOURCE, str(tmp_path), shards, pattern) == [name]


def test_a_compressed_file_cut_off_is_named(tmp_path):
    content = gzip.compress(lines(rows(5_000)))
    (tmp_path / "exposures.jsonl.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"exposures.jsonl.gz: cannot be read from li"):
        read(tmp_path)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_file_that_becomes_shorter_while_the_job_runs_is_named(
    tmp_path, suffix, monkeypatch
):
    monkeypatch.setattr(text_files, "SHARD_BYTES", 200)
    path, table = tmp_path / f"exposures{suffix}", rows(28)
    head = b"" if suffix == ".jsonl" else ",".join(table[0]).encode() + b"\n"
    body = [",".join(map(str, row.values())).encode() + b"\n" for row in table]
    body = lines(table).splitlines(keepends=True) if suffix == ".jsonl" else body
    path.write_bytes(head + b"".join(body))
    shards = SOURCE.shards(str(tmp_path), SCHEMA)
    assert len(shards) > 3
    path.write_bytes(head + b"".join(body[:15]))
    size, found = path.stat().st_size, 0
    for shard in shards:
        if shard.stop <= size:
            found += sum(len(batch.rows) for batch in SOURCE.read(shard, SCHEMA))
            continue
        message = rf"{path}: it has become shorter .* {shard.stop:,} bytes at least\."
        with pytest.raises(UserError, match=message):
            list(SOURCE.read(shard, SCHEMA))
    assert 0 < found <= 15


@pytest.mark.parametrize("odd", ["7.0", '"7"', '"x"', "7.5"])
def test_large_ids_are_exact_beside_anything(tmp_path, odd):
    ids = [1_780_000_000_000_000_001 + i for i in range(150)] + [2**63 - 1]
    text = [json.dumps(rows(1, i)[0] | {"item_id": n}) for i, n in enumerate(ids)]
    text.insert(70, json.dumps(rows(1, 999)[0] | {"item_id": 0}))
    text[70] = text[70].replace('"item_id": 0', f'"item_id": {odd}')
    (tmp_path / "exposures.jsonl").write_text("\n".join(text), "utf-8")
    found, rejected = read(tmp_path)
    good = odd in ("7.0", '"7"')
    assert len(rejected) == (not good)
    assert [row["item_id"] for row in found if row["item_id"] != 7] == ids
    csv = ["user_id,time,item_id,click"]
    csv += [f"u,{START + i},{n},0" for i, n in enumerate(ids)]
    csv.insert(70, f"u,{START},{odd.strip(chr(34))},0")
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "exposures.csv").write_text("\n".join(csv), "utf-8")
    found, rejected = read(tmp_path / "csv")
    assert len(rejected) == (not good)
    assert [row["item_id"] for row in found if row["item_id"] != 7] == ids


def test_a_double_that_lost_its_digits_is_no_id(tmp_path):
    table = {key: [row[key] for row in rows(3)] for key in rows(1)[0]}
    table["item_id"] = pa.array([1.0, 1.78e18, 3.0])
    pq.write_table(pa.table(table), tmp_path / "exposures.parquet")
    found, rejected = read(tmp_path)
    assert [row["item_id"] for row in found] == [1, 3]
    reason = "bad value of item_id, a double too large to be an exact integer"
    assert rejected == [reason]
    table["item_id"] = pa.array([1.0, 2.0**24 + 2, 3.0], pa.float32())
    pq.write_table(pa.table(table), tmp_path / "exposures.parquet")
    found, rejected = read(tmp_path)
    assert [row["item_id"] for row in found] == [1, 3]
    assert rejected == [reason.replace("double", "float")]


def test_a_double_that_lost_its_digits_is_no_text_either(tmp_path):
    table = {key: [row[key] for row in rows(4)] for key in rows(1)[0]}
    table["user_id"] = pa.array([7.0, 123_456_789_012.0, 1234567890123456789.0, 2**53])
    table["page"] = [0.5, -0.0, 2.0, 3.0]
    pq.write_table(pa.table(table), tmp_path / "exposures.parquet")
    found, rejected = read(tmp_path)
    assert [row["user_id"] for row in found] == ["7", "123456789012"]
    assert [row["page"] for row in found] == ["0.5", "0"]
    reason = "bad value of user_id, a double too large to be an exact integer"
    assert rejected == [reason] * 2


@pytest.mark.parametrize("kind", ["halffloat", "float", "double", "JSON"])
def test_a_whole_number_is_one_text_however_it_is_stored(tmp_path, kind):
    users, items = [7.0, 2e3, 0.5], [7.0, 2.0, 5.0]
    if kind == "JSON":
        told = [
            row | {"user_id": user, "item_id": item}
            for row, user, item in zip(rows(3), users, items, strict=True)
        ]
        (tmp_path / "exposures.jsonl").write_bytes(lines(told))
    else:
        table = {key: [row[key] for row in rows(3)] for key in rows(1)[0]}
        table["user_id"] = pa.array(np.array(users)).cast(kind)
        table["item_id"] = pa.array(np.array(items)).cast(kind)
        pq.write_table(pa.table(table), tmp_path / "exposures.parquet")
    found, rejected = read(tmp_path)
    assert [row["user_id"] for row in found] == ["7", "2000", "0.5"]
    assert [row["item_id"] for row in found] == [7, 2, 5]
    assert not rejected


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_whole_number_is_one_however_it_is_written(tmp_path, suffix):
    texts = ["7.0", "1e3", "2.50e1", "9007199254740993.0", "9223372036854775807"]
    whole = [7, 1_000, 25, 2**53 + 1, 2**63 - 1]
    bad = ["2.5", "1e-3", "9223372036854775808", "1e999999999999999999999", "1e400"]
    if suffix == ".csv":
        text = ["user_id,time,item_id,click"]
        text += [f"u,1.7e9,{number},0" for number in texts + bad]
    else:
        line = '{"user_id": "u", "time": 1.7e9, "item_id": %s, "click": 0}'
        text = [line % number for number in texts + bad]
    (tmp_path / f"exposures{suffix}").write_text("\n".join(text), "utf-8")
    found, rejected = read(tmp_path)
    assert [row["item_id"] for row in found] == whole
    assert rejected == ["bad value of item_id, not an integer"] * len(bad)


def test_values_of_lists_are_typed_like_single_ones(tmp_path):
    ids = Categorical("ids", "user", dtype="int64", length=4)
    schema = Schema("shop", (*SCHEMA.features, ids), null_values=("", "NULL", "-1"))
    (tmp_path / "exposures.jsonl").write_bytes(lines(rows(1)))
    values = [[1, "NULL", 3], ["2", None, -1, 7.0], [2**53 + 1, 2], "5|NULL"]
    users = [{"user_id": f"u{i}", "ids": value} for i, value in enumerate(values)]
    users += [{"user_id": "bad", "ids": [1, 2.5]}]
    (tmp_path / "users.jsonl").write_bytes(lines(users))
    found, reasons = [], []
    for shard in SOURCE.shards(str(tmp_path), schema):
        for batch in SOURCE.read(shard, schema) if shard.table == "users" else ():
            found += batch.rows["ids"].to_pylist()
            reasons += [entry.reason for entry in batch.rejected]
    assert found == [[1, None, 3], [2, None, None, 7], [2**53 + 1, 2], [5, None]]
    assert reasons == ["bad value of ids, not a list of an integer"]


def test_missing_spellings_hold_for_keys_too(tmp_path):
    odd = [{"user_id": "NULL"}, {"time": "NULL"}, {"request_id": "NULL"}]
    table = [row | change for row, change in zip(rows(3), odd, strict=True)]
    (tmp_path / "exposures.jsonl").write_bytes(lines(table))
    found, rejected = read(tmp_path)
    assert rejected == ["missing field user_id", "missing field time"]
    assert found[0].get("request_id") is None


def test_a_row_is_one_line(tmp_path):
    one, two, three = lines(rows(3)).splitlines()
    content = b"\n".join([one, b"", two + three])
    (tmp_path / "exposures.jsonl").write_bytes(content)
    found, rejected = read(tmp_path)
    assert (len(found), rejected) == (1, ["unparsable"])
    (tmp_path / "csv").mkdir()
    text = f"user_id,time,item_id,click\na,{START},1,0\n\nb,{START},2,0\rc,{START},3,0"
    (tmp_path / "csv" / "exposures.csv").write_bytes(text.encode())
    found, rejected = read(tmp_path / "csv")
    assert (len(found), rejected) == (1, ["unparsable"])


def test_a_field_that_comes_late_counts_like_any_other(tmp_path):
    late = ("page", "request_id")
    early = [{k: v for k, v in row.items() if k not in late} for row in rows(12_000)]
    table = early + rows(500, 12_000)
    (tmp_path / "exposures.jsonl").write_bytes(lines(table))
    found, rejected = read(tmp_path)
    assert not rejected and len(found) == 12_500
    assert all(row.get("page") is None for row in found[:12_000])
    assert {row["page"] for row in found[12_000:]} == {"home"}
    assert found[-1]["request_id"] == "r12499"


def test_what_the_log_calls_missing(tmp_path):
    own = Numeric("price", "candidate", null_values=(-1, "none"))
    schema = Schema("shop", (SCHEMA.features[0], SCHEMA.features[1], own))
    (tmp_path / "exposures.csv").write_text(
        "user_id,time,item_id,click,page,price\n"
        f"u,{START},1,0,NULL,-1\nu,{START},2,0,,none\nu,{START},3,0,a,-1.0\n"
        f"u,{START},4,0,b,-2\n"
    )
    schema = Schema("shop", schema.features[:3], null_values=("", "NULL"))
    found, rejected = read(tmp_path, schema)
    assert not rejected
    assert [row["page"] for row in found] == [None, None, "a", "b"]
    assert [row["price"] for row in found] == [None, None, None, -2]


def test_a_corrupt_row_group_costs_its_own_rows(tmp_path):
    table = pa.table({key: [row[key] for row in rows(600)] for key in rows(1)[0]})
    path = tmp_path / "exposures.parquet"
    pq.write_table(table, path, row_group_size=200, compression="gzip")
    column = pq.ParquetFile(path).metadata.row_group(1).column(1)
    content = bytearray(path.read_bytes())
    start = column.data_page_offset
    content[start + 30 : start + column.total_compressed_size - 5] = b"\xff" * (
        column.total_compressed_size - 35
    )
    path.write_bytes(content)
    found, rejected = read(tmp_path)
    assert len(found) + len(rejected) == 600 and len(rejected) >= 200
    assert set(rejected) == {"corrupt row group 1 of exposures.parquet"}


def test_a_part_of_bad_lines_costs_those_lines(tmp_path):
    folder = tmp_path / "exposures"
    folder.mkdir()
    (folder / "part-0.jsonl").write_bytes(lines(rows(3)))
    (folder / "part-1.jsonl").write_bytes(b"{broken\n")
    (folder / "part-2.jsonl").write_bytes(b'{"user_id": "u", "time": 1700000000}\n')
    found, rejected = read(tmp_path)
    assert len(found) == 3
    assert rejected == ["unparsable", "missing field item_id"]


def test_a_required_field_may_come_late(tmp_path):
    late = [{k: v for k, v in r.items() if k != "click"} for r in rows(12_000)]
    (tmp_path / "exposures.jsonl").write_bytes(lines(late) + lines(rows(3)))
    found, rejected = read(tmp_path)
    assert len(found) == 3
    assert rejected == ["missing field click"] * 12_000


def test_the_summary_tells_what_is_not_used(tmp_path, caplog):
    caplog.set_level("INFO")
    folder = tmp_path / "log" / "exposures"
    folder.mkdir(parents=True)
    table = [row | {"zebra": 1} for row in rows(30)]
    (folder / "part-0.jsonl").write_bytes(lines(table))
    (folder / "part-1.jsonl").write_bytes(b"")
    (folder / "notes.txt").write_text("about")
    (tmp_path / "log" / "LICENSE").write_text("free")
    prepare(tmp_path / "log", "--ignore", "notes.*")
    assert "not read: LICENSE, exposures/notes.txt, schema.yaml" in caplog.text
    assert f"empty files, 1: {folder / 'part-1.jsonl'}" in caplog.text
    assert "columns of exposures that are not used: zebra" in caplog.text


HOSTILE = [
    b'{"user_id": "\\ud83d", "time": 1700000000, "item_id": 1, "click": 0}',
    b'{"user_id": "\xff\xfe", "time": 1700000000, "item_id": 1, "click": 0}',
    b"[" * 20_000,
    b'{"a": ' * 20_000,
    b'{"user_id": "u\x00", "time": 1, "item_id": 1, "click": 0}',
    b'{"user_id": "u", "time": 1e400, "item_id": 1, "click": 0}',
    b'{"user_id": "u", "time": ' + b"9" * 6_000 + b"}",
    b'{"user_id": {"a": []}, "time": [], "item_id": {}, "click": null}',
    b"\x00\x01\x02",
    b"null",
]


@pytest.mark.parametrize("place", range(len(HOSTILE)))
def test_no_line_stops_the_reading(tmp_path, place):
    good = lines(rows(5)).splitlines()
    content = [*good[:3], HOSTILE[place], *good[3:]]
    (tmp_path / "exposures.jsonl").write_bytes(b"\n".join(content))
    # In a process of its own: deep nesting must not even overflow a C stack.
    code = (
        "import sys; from pipelines.sources.source import TABLES, get_source\n"
        "from ctr_tf.schema import Schema\n"
        "source, schema = get_source('jsonl'), Schema.load(sys.argv[2])\n"
        "for shard in source.shards(sys.argv[1], schema):\n"
        "    for batch in source.read(shard, schema):\n"
        "        print(len(batch.rows), len(batch.rejected))\n"
    )
    SCHEMA.save(tmp_path / "schema.yaml")
    words = [sys.executable, "-c", code, str(tmp_path), str(tmp_path / "schema.yaml")]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["5", "1"]


def mutated(text, rng):
    """A line with some bytes changed, left out or doubled."""
    text = bytearray(text)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(text))
        kind = rng.randrange(3)
        if kind == 0:
            text[at] = rng.choice(b'\x00\x80\xff"{}[],:0-9eE.\\ntf')
        elif kind == 1:
            del text[at : at + rng.randint(1, 5)]
        else:
            text[at:at] = text[at : at + rng.randint(1, 9)]
        if not text:
            break
    return bytes(text).replace(b"\n", b" ").replace(b"\r", b" ") or b"x"


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_of_mutated_lines_each_is_kept_or_rejected(tmp_path, suffix):
    rng, table = random.Random(0), rows(5_000)
    if suffix == ".jsonl":
        good, head = lines(table).splitlines(), []
    else:
        head = [",".join(table[0]).encode()]
        good = [",".join(map(str, row.values())).encode() for row in table]
    bad = [mutated(line, rng) if rng.random() < 0.7 else line for line in good]
    bad = [line if line.strip() else b"x" for line in bad]
    (tmp_path / f"exposures{suffix}").write_bytes(b"\n".join([*head, *bad]))
    SCHEMA.save(tmp_path / "schema.yaml")
    limits = "exposures=1.0,clicks=1.0"
    manifest = prepare_mutated(tmp_path, limits)
    count = manifest.events["exposures"]
    assert count.read == 5_000
    rejected = sum(count.rejected.values())
    assert count.kept + rejected == 5_000 and 500 < rejected < 4_500


def test_of_mutated_parquet_files_each_row_is_kept_or_rejected(tmp_path):
    rng = random.Random(1)
    table = pa.table({key: [row[key] for row in rows(100)] for key in rows(1)[0]})
    for number in range(40):
        path = tmp_path / f"{number}" / "exposures.parquet"
        path.parent.mkdir()
        pq.write_table(table, path, row_group_size=20)
        content = bytearray(path.read_bytes())
        footer = int.from_bytes(content[-8:-4], "little") + 8
        for _ in range(rng.randint(1, 8)):
            content[rng.randrange(4, len(content) - footer)] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        try:
            found, rejected = read(path.parent)
        except ValueError as error:
            assert "exposures.parquet" in str(error)  # the file as a whole
            continue
        assert len(found) + len(rejected) == 100


def test_a_parquet_file_of_a_broken_footer_is_named(tmp_path):
    rng = random.Random(1)
    table = pa.table({key: [row[key] for row in rows(100)] for key in rows(1)[0]})
    path = tmp_path / "exposures.parquet"
    pq.write_table(table, path, row_group_size=20)
    whole = path.read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            content[-rng.randint(1, footer)] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        try:
            found, rejected = read(tmp_path)
        except ValueError as error:
            assert "exposures.parquet" in str(error)
            continue
        assert len(found) + len(rejected) == 100


def prepare_mutated(folder, limits):
    output = folder.parent / f"{folder.name}.out"
    options = ["--source", "jsonl", "--input", str(folder), "--output", str(output)]
    return listwise.run([*options, "--num_buckets", "2", "--allow_rejected", limits])


def test_losing_a_whole_table_fails(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "exposures.jsonl").write_bytes(lines(rows(12_000)))
    users = "".join(f'{{"user_id": null, "age": {i}}}\n' for i in range(40))
    (folder / "users.jsonl").write_text(users)
    with pytest.raises(ValueError, match="40 of 40 rows of users are unfit"):
        prepare(folder)
    with pytest.raises(ValueError, match="all 40 rows of users are unfit"):
        prepare(folder, "--allow_rejected", "users=1.0")


def test_losing_every_click_fails(tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    table = rows(12_000)
    for i, row in enumerate(table):
        row["click"], row["price"] = int(i % 200 == 0), 2.5
        if row["click"]:
            row["price"] = "cheap"
    (folder / "exposures.jsonl").write_bytes(lines(table))
    with pytest.raises(ValueError, match="60 of 60 clicked exposures are unfit"):
        prepare(folder)
    with pytest.raises(ValueError, match="all 60 clicked exposures are unfit"):
        prepare(folder, "--allow_rejected", "clicks=1.0")
    assert not (tmp_path / "log.out").exists()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("users", "takes TABLE=FRACTION"),
        ("users=many", "takes TABLE=FRACTION"),
        ("users=nan", "must lie between 0 and 1. Received: nan"),
        ("users=2", "must lie between 0 and 1. Received: 2.0"),
        ("user=0.5", "Unknown table 'user'. Did you mean 'users'"),
    ],
)
def test_wrong_allowances_are_told(tmp_path, word, message):
    (tmp_path / "exposures.jsonl").write_bytes(lines(rows(3)))
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path, "--allow_rejected", word)


def test_allowances_of_reasons(tmp_path):
    table = rows(200)
    for row in table[:50]:
        row["price"] = "cheap"
    table[60]["time"] = -1
    reason = "exposures:bad value of price, not a finite number"
    words = [f"{reason}=0.25,clicks=0.5", "users=1"]
    limits = RejectionLimits.parse(0.01, words, TABLES)
    assert limits.allowed == {reason: 0.25, "clicks": 0.5, "users": 1.0}
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "exposures.jsonl").write_bytes(lines(table))
    options = [f"--allow_rejected={word}" for word in words]
    manifest = prepare(folder, *options)
    assert sum(manifest.events["exposures"].rejected.values()) == 51
    options[0] = options[0].replace("0.25", "0.24")
    with pytest.raises(ValueError, match="50 of 200 rows of exposures have the fault"):
        prepare(folder, *options, "--overwrite")
