import json

import numpy as np
import pytest

from ctr_tf.commands.main import main as ctr_tf
from ctr_tf.data.costs import add_up
from ctr_tf.data.inspect import describe, find_samples, render
from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.reading import read_examples
from ctr_tf.data.text_tables import WIDTH, bands, local_time, table
from ctr_tf.schema import MISSING, Bucketized, Categorical, Numeric, Schema
from ctr_tf.schema.vocabulary import Vocabularies
from ctr_tf.synthetic import random_samples

SCHEMA = Schema(
    name="shop",
    features=(
        Categorical("item_id", "item", dtype="int64"),
        Categorical("category", "item"),
        Categorical("action", "behavior", hash_buckets=10),
        Bucketized("age", "user", boundaries=(18, 30)),
        Categorical("tags", "user", length=3),
        Categorical("device", "context"),
        Numeric("price", "candidate"),
    ),
    utc_offset_hours=2,
    history_length=64,
    num_chunks=2,
    counter_windows=("1d",),
    slate_size=True,
    labels=("click", "buy"),
)
VOCABULARIES = Vocabularies(
    {
        "item_id": ["100", "101", "102"],
        "category": ["shoes", "hats"],
        "tags": ["new", "loyal"],
        "device": ["phone"],
    }
)
DAY = 86_400
NOW = 1_700_000_000  # Tuesday, 2023-11-14 22:13:20 UTC


def sample(times, request=b"r1", user=b"u1"):
    count = len(times)
    integers = {
        "request_time": [NOW],
        "user_tags": [2, 3],
        "context_device": [1],
        "context_hour": [0],
        "context_weekend": [0],
        "context_slate_size": [2],
        "behavior_time": times,
        "behavior_item_id": ([2, 3, 4, 1] * count)[:count],
        "behavior_category": ([2, 3] * count)[:count],
        "behavior_action": [5] * count,
        "behavior_hour": [1] * count,
        "behavior_weekend": [0] * count,
        "behavior_chunk": [1] * (count // 2) + [2] * (count - count // 2),
        "candidate_item_id": [4, 1],
        "candidate_category": [2, 3],
        "candidate_impressions_1d": [7, 0],
        "candidate_clicks_1d": [1, 0],
        "candidate_user_impressions": [2, 0],
        "candidate_user_clicks": [0, 0],
        "candidate_since_shown": [3_700, MISSING["int64"]],
        "candidate_since_clicked": [MISSING["int64"]] * 2,
        "candidate_item_age": [3 * DAY, MISSING["int64"]],
    }
    values = {key: np.array(value, np.int64) for key, value in integers.items()}
    floats = {
        "user_age": [np.nan],
        "label": [0, 1],
        "label_buy": [0, 0],
        "candidate_price": [2.5, 10],
        "true_probability": [0.25, 0.5],
    }
    values |= {key: np.array(value, np.float32) for key, value in floats.items()}
    return values | {
        "request_id": np.array([request], object),
        "user_id": np.array([user], object),
    }


def lines_of(text):
    assert all(len(line) <= WIDTH for line in text.splitlines())
    return text.splitlines()


def test_a_sample_as_a_person_wants_to_see_it():
    times = [NOW - 3 * DAY, NOW - 3 * DAY + 60, NOW - 7_300, NOW - 7_290]
    text = render(sample(times), SCHEMA, VOCABULARIES)
    assert lines_of(text) == [
        "request r1   user u1   Wed 2023-11-15 00:13:20 (UTC+2)",
        "profile     age -   tags new, loyal",
        "context     device ?   hour 0   weekend 0   slate_size 2",
        "",
        "history     4 behaviors in 2 chunks over 2 d 21 h; the latest 2 h 1 m before "
        "the request",
        "  time                     item_id  category  action  hour  weekend",
        "  -- chunk 1: 2 behaviors ".ljust(WIDTH, "-"),
        "  Sun 2023-11-12 00:13:20      100  shoes     #5         1        0",
        "  Sun 2023-11-12 00:14:20      101  hats      #5         1        0",
        "  -- chunk 2: 2 behaviors, after 2 d 21 h ".ljust(WIDTH, "-"),
        "  Tue 2023-11-14 22:11:40      102  shoes     #5         1        0",
        "  Tue 2023-11-14 22:11:50        ?  hats      #5         1        0",
        "",
        "slate       2 candidates, 1 click",
        "  #  click  buy  truth  item_id  category  price  impressions_1d  clicks_1d  "
        "item_age",
        "  1      0    0  0.250      102  shoes       2.5               7          1  "
        "     3 d",
        "  2      1    0  0.500        ?  hats         10               0          0  "
        "   never",
        "",
        "  #  click  buy  truth  item_id  user_impressions  user_clicks  since_shown  "
        "since_clicked",
        "  1      0    0  0.250      102                 2            0      1 h 1 m  "
        "        never",
        "  2      1    0  0.500        ?                 0            0        never  "
        "        never",
    ]


def test_an_empty_history():
    assert "history     (empty)" in render(sample([]), SCHEMA, VOCABULARIES)


def test_a_long_history_is_elided_in_the_middle_unless_full():
    times = [NOW - 1_000 + i for i in range(60)]
    text = render(sample(times), SCHEMA, VOCABULARIES)
    assert "  … 40 behaviors (chunks 1 to 2) …" in lines_of(text)
    assert sum(" #5 " in line for line in lines_of(text)) == 20
    text = render(sample(times), SCHEMA, VOCABULARIES, full=True)
    assert "…" not in text
    assert sum(" #5 " in line for line in lines_of(text)) == 60


def test_any_schema_fits_the_page():
    wide = tuple(Categorical(f"feature_number_{i}", "item") for i in "abcdefgh")
    schema = Schema(
        "wide", features=(*SCHEMA.features[:1], *wide, *SCHEMA.features[2:])
    )
    vocabularies = random_samples.random_vocabularies(schema, 20)
    rng = np.random.default_rng(0)
    for behaviors, candidates in ((0, 1), (1, 30), (100, 3)):
        values = random_samples.random_sample(
            schema, vocabularies, rng, behaviors, candidates
        )
        text = render(values, schema, vocabularies)
        lines_of(text)
        assert ("… 10 more candidates" in text) == (candidates == 30)


@pytest.fixture
def folder(tmp_path):
    samples = [sample([NOW - 5], b"r%d" % i, b"u%d" % (i % 2)) for i in range(5)]
    splits = {"train": samples, "validation": [], "test": samples[:3]}
    random_samples.write_prepared(tmp_path / "data", SCHEMA, VOCABULARIES, splits)
    return tmp_path / "data"


def test_finding_samples(folder):
    data = PreparedData.load(folder)

    def requests(**which):
        found = find_samples(data, "train", **which)
        return [(index, values["request_id"][0]) for index, values in found]

    # Sample i lies in file i % 2, and files are read in order.
    order = [b"r0", b"r2", b"r4", b"r1", b"r3"]
    assert requests() == list(enumerate(order))
    assert requests(index=3) == [(3, b"r1"), (4, b"r3")]
    assert requests(index=9) == []
    assert requests(request_id="r1") == [(3, b"r1")]
    assert [request for _, request in requests(user_id="u1")] == [b"r1", b"r3"]


def test_the_summary_tells_what_the_manifest_knows(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["splits"]["train"] |= {
        "candidates": 1_000,
        "clicks": 125,
        "behaviors": 10,
        "time_range": [NOW, NOW + DAY],
    }
    kept = {"kept": 1_000, "merged": 0, "rejected": {"odd": 10}}
    manifest["events"] = {
        "exposures": {"read": 1_010} | kept,
        "users": {"read": 1, "kept": 1, "merged": 0, "rejected": {}},
    }
    path.write_text(json.dumps(manifest))
    lines = lines_of(describe(PreparedData.load(folder)))
    train = next(line for line in lines if line.startswith("train"))
    assert train.split() == [
        *("train", "5", "1,000", "125", "12.50%", "2.0"),
        *("2023-11-15", "00:13", "2023-11-16", "00:13"),
    ]
    assert "time        UTC+2   history of 64   2 chunks" in lines
    assert "item        item_id (5)   category (4)" in lines
    assert "read        1,010 exposures   1 user" in lines
    assert "rejected    10 exposures: odd" in lines


def test_the_command(folder, capsys):
    assert ctr_tf(["inspect", "--data", str(folder), "--num", "2"]) == 0
    text = capsys.readouterr().out
    assert "== test 0 =" in text and "== test 1 =" in text and "== test 2" not in text
    assert ctr_tf(["inspect", "--data", str(folder), "--num", "0"]) == 0
    assert "==" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--split", "trian"], "Unknown split 'trian'. Did you mean 'train'?"),
        (["--split", "validation"], "has no samples. Received: 0"),
        (["--index", "3"], "'test' has 3 samples, counted from 0. Received: --index 3"),
        (["--index", "-1"], "`--index` must not be negative. Received: -1"),
        (["--num", "-1"], "`--num` must not be negative. Received: -1"),
        (["--user_id", "u9"], "no sample with this `user_id`. Received: u9"),
        (["--request_id", "r9"], "no sample with this `request_id`. Received: r9"),
        (["--bytes", "0"], "`--bytes` must be positive. Received: 0"),
        (["--bytes", "5", "--split", "validation"], "no samples. Received: --bytes"),
        (["--bytes", "5", "--verify"], "Received: --bytes 5 with --attention or"),
    ],
)
def test_mistakes(folder, capsys, words, message):
    assert ctr_tf(["inspect", "--data", str(folder), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ctr-tf: error: ") and message in error


def test_a_folder_that_is_no_data_set(tmp_path, capsys):
    assert ctr_tf(["inspect", "--data", str(tmp_path)]) == 2
    assert "is not a prepared data set" in capsys.readouterr().err


def test_what_a_sample_costs(folder, capsys):
    data = PreparedData.load(folder)
    found = read_examples(data.files("train"), data.compression)
    costs = add_up(example for _, _, example in found)
    assert costs.total == sum(file.bytes for file in data.manifest.files_of("train"))
    headers = 5 * 20  # of five samples: lengths and checksums, and the Example's
    assert costs.total - headers <= costs.keys.total() < costs.total
    assert costs.count == {"samples": 5, "behaviors": 5, "candidates": 10}
    assert (
        ctr_tf(["inspect", "--data", str(folder), "--bytes", "9", "--split", "train"])
        == 0
    )
    text = capsys.readouterr().out
    assert f"{costs.total // 5:,} bytes a sample" in text and "5 samples" in text
    # Of two candidates: five tags with lengths, the key, and four bytes a number.
    row = next(line for line in text.splitlines() if line.startswith("candidate_price"))
    assert float(row.split()[2]) == (5 * 2 + 15 + 2 * 4) / 2


def test_what_a_bad_sample_costs_is_not_told(tmp_path, capsys):
    bad = sample([NOW - 5])
    del bad["context_device"]
    splits = {"train": [sample([NOW - 5]), bad], "test": []}
    random_samples.write_prepared(tmp_path / "data", SCHEMA, VOCABULARIES, splits)
    assert ctr_tf(["inspect", "--data", str(tmp_path / "data"), "--bytes", "9"]) == 2
    error = capsys.readouterr().err
    assert (
        "part-00001-of-00002.tfrecord: record 0: " in error
        and "'context_device' is missing" in error
    )


def test_local_time_before_1970_and_far_ahead():
    assert local_time(0, -3_600) == "Wed 1969-12-31 23:00:00"
    assert local_time(1 << 33, 0) == "Wed 2242-03-16 12:56:32"


def test_tables_are_cut_to_the_width():
    header, rows = ["name", "x_long_header", "text"], [["a", "1", "word " * 9]]
    assert table(header, rows, [False, True, False], 30) == [
        "name  x_l…  text",
        "a        1  word word word wo…",
    ]
    assert bands(["k", "a", "b"], [["1", "22", "33"]], [True] * 3, 1, 5) == [
        ["k   a", "1  22"],
        ["k   b", "1  33"],
    ]
