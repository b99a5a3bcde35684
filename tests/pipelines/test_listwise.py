"""The listwise job against a plain Python computation of the same samples."""

import dataclasses
import json
import math
import re

import listwise_reference as reference
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from job_helpers import (
    SCHEMA,
    START,
    parse,
    random_log,
    read_files,
    read_manifest,
    read_records,
    read_samples,
    run_job,
    write_log,
)

from ctr_tf.data.manifest import SPLITS
from ctr_tf.errors import UserError
from ctr_tf.schema import MISSING, Categorical, Schema
from pipelines import steps


def same_sample(one, other):
    return {k: comparable(v) for k, v in one.items()} == {
        k: comparable(v) for k, v in other.items()
    }


def comparable(values):
    """NaN, which is equal to nothing, as None."""
    return [None if value != value else value for value in values]


def assert_equals_reference(output, log, schema, validation_start, test_start):
    expected = reference.samples(log, schema, validation_start)
    found = read_samples(output)
    assert set(found) == set(expected)
    for key, (split, sample) in found.items():
        now = sample["request_time"][0]
        late = (now >= validation_start) + (now >= test_start)
        assert split == SPLITS[late]
        assert set(sample) == set(expected[key])
        for name, values in expected[key].items():
            assert comparable(sample[name]) == comparable(values), (key, name)
    vocabulary = reference.vocabularies(log, schema, validation_start)
    for name, values in vocabulary.items():
        text = (output / "vocabularies" / f"{name}.txt").read_text("utf-8")
        assert text.split("\n")[:-1] == values
    manifest = read_manifest(output)
    for table, count in manifest.events.items():
        assert count.read == len(log.get(table, []))
        assert count.read == count.kept + sum(count.rejected.values())
    totals = manifest.splits.values()
    assert sum(s.samples for s in totals) == len(expected)
    candidates = sum(s.candidates for s in totals)
    exposures = manifest.events["exposures"]
    assert candidates == exposures.kept - exposures.merged
    for split in SPLITS:
        of_split = [s for where, s in found.values() if where == split]
        count = manifest.splits[split]
        assert count.clicks == sum(sum(s["label"]) for s in of_split)
        assert count.behaviors == sum(len(s["behavior_time"]) for s in of_split)


def test_the_samples_are_those_of_the_reference(tmp_path):
    log = random_log(0, exposures=1_500, behaviors=1_500)
    write_log(tmp_path / "raw", log, SCHEMA)
    starts = START + 2_500, START + 3_200
    options = ["--validation_from", starts[0], "--test_from", starts[1]]
    run_job(
        tmp_path / "raw", tmp_path / "out", *options, "--max_rejected_fraction", 0.3
    )
    assert_equals_reference(tmp_path / "out", log, SCHEMA, *starts)


@st.composite
def small_logs(draw):
    """Logs of few users, items and seconds, so that ties of every kind abound."""
    with_requests = draw(st.booleans())
    exposures = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "user_id": st.sampled_from(["a", "b"]),
                    "time": st.integers(START, START + 150),
                    "item_id": st.integers(0, 3),
                    "click": st.integers(0, 1),
                    "like": st.integers(0, 1),
                }
                | (
                    {"request_id": st.integers(0, 3) | st.none()}
                    if with_requests
                    else {}
                )
            ),
            min_size=1,
            max_size=14,
        )
    )
    behaviors = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "user_id": st.sampled_from(["a", "b", "c"]),
                    "time": st.integers(START, START + 150),
                    "item_id": st.integers(0, 3),
                    "action": st.integers(0, 2) | st.none(),
                }
            ),
            max_size=14,
        )
    )
    return {"exposures": exposures, "behaviors": behaviors}


@settings(
    max_examples=8,
    phases=[Phase.generate],  # every example is a job: no time to shrink
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    log=small_logs(),
    buckets=st.integers(1, 5),
    shards=st.integers(1, 3),
    start=st.integers(0, 150),
)
def test_small_logs_with_ties(tmp_path_factory, log, buckets, shards, start):
    folder = tmp_path_factory.mktemp("log")
    write_log(folder / "raw", log, SCHEMA)
    starts = START + start, START + start + 30
    options = ["--validation_from", starts[0], "--test_from", starts[1]]
    options += ["--num_buckets", buckets, "--num_shards", shards]
    run_job(folder / "raw", folder / "out", *options, "--max_rejected_fraction", 1)
    assert_equals_reference(folder / "out", log, SCHEMA, *starts)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    log = random_log(2)
    write_log(folder / "raw", log, SCHEMA)
    options = ["--max_rejected_fraction", 0.3]
    run_job(folder / "raw", folder / "out", *options)
    return folder, log


@pytest.mark.parametrize(
    "options",
    [["--num_buckets", 1], ["--num_buckets", 11], ["--num_shards", 5]],
    ids=str,
)
def test_neither_buckets_nor_shards_change_the_samples(prepared, tmp_path, options):
    folder, _ = prepared
    run_job(folder / "raw", tmp_path / "out", *options, "--max_rejected_fraction", 0.3)
    assert read_records(tmp_path / "out") == read_records(folder / "out")
    if "--num_shards" not in options:
        assert read_files(tmp_path / "out") == read_files(folder / "out")


def test_the_order_of_rows_does_not_change_the_samples(prepared, tmp_path):
    folder, log = prepared
    rng = np.random.default_rng(0)
    exposures = log["exposures"]
    for name, order in (("a", np.arange(len(exposures))), ("b", None)):
        order = rng.permutation(len(exposures)) if order is None else order
        shuffled = {"exposures": [exposures[i] for i in order]}
        write_log(tmp_path / name, shuffled, SCHEMA)
        run_job(tmp_path / name, tmp_path / f"out-{name}")
    assert read_files(tmp_path / "out-a") == read_files(tmp_path / "out-b")


def test_samples_lie_in_shards_by_user_and_in_them_by_time(prepared):
    folder, _ = prepared
    for files in read_files(folder / "out").values():
        assert len(files) == 2
        for records in files.values():
            samples = [parse(record) for record in records]
            keys = [(s["request_time"], s["request_id"]) for s in samples]
            assert keys == sorted(keys)
        users = [
            {parse(record)["user_id"][0] for record in records}
            for records in files.values()
        ]
        assert not users[0] & users[1]
    users = [len(records) for records in read_files(folder / "out")["train"].values()]
    assert min(users) > 0.2 * sum(users)


def test_gzip_holds_the_same_samples(prepared, tmp_path):
    folder, _ = prepared
    options = ["--compression", "gzip", "--max_rejected_fraction", 0.3]
    manifest = run_job(folder / "raw", tmp_path / "out", *options)
    assert read_records(tmp_path / "out") == read_records(folder / "out")
    assert all(f.path.endswith(".tfrecord.gz") for f in manifest.files)


def test_nothing_of_the_future_reaches_a_sample(prepared, tmp_path):
    folder, log = prepared
    now = START + 2_000
    rows = [row for row in log["exposures"] if row["time"] < now - 100]
    user, item = rows[0]["user_id"], rows[0]["item_id"]
    future = {"user_id": user, "time": now, "item_id": item}
    planted = {
        **log,
        "exposures": [
            *log["exposures"],
            {**future, "request_id": "planted", "click": 1, "like": 1}
            | {"true_probability": 0.5},
        ],
        "behaviors": [*log["behaviors"], {**future, "action": 1, "dwell": 5}],
    }
    write_log(tmp_path / "raw", planted, SCHEMA)
    # Equal vocabularies: nothing after the validation's start is counted.
    options = ["--validation_from", now, "--test_from", now + 500]
    options += ["--max_rejected_fraction", 0.3]
    run_job(tmp_path / "raw", tmp_path / "planted", *options)
    run_job(folder / "raw", tmp_path / "plain", *options)
    plain, found = read_samples(tmp_path / "plain"), read_samples(tmp_path / "planted")
    assert set(found) - set(plain) == {(user, "planted")}
    changed = [key for key in plain if not same_sample(plain[key][1], found[key][1])]
    assert changed
    for key in changed:
        assert plain[key][1]["request_time"][0] > now
    for name in SCHEMA.vocabularies():
        path = f"vocabularies/{name}.txt"
        left, right = (tmp_path / n / path for n in ("plain", "planted"))
        assert left.read_text("utf-8") == right.read_text("utf-8")


def test_a_log_of_exposures_alone(tmp_path):
    log = {"exposures": random_log(3)["exposures"][:50]}
    write_log(tmp_path / "raw", log, SCHEMA)
    starts = START + 2_500, START + 3_200
    options = ["--validation_from", starts[0], "--test_from", starts[1]]
    run_job(
        tmp_path / "raw", tmp_path / "out", *options, "--max_rejected_fraction", 0.3
    )
    assert_equals_reference(tmp_path / "out", log, SCHEMA, *starts)


def test_a_user_with_twenty_thousand_behaviors(tmp_path):
    rng = np.random.default_rng(0)
    times = np.sort(START + rng.integers(10_000_000, size=20_000))
    log = {
        "exposures": [
            {
                "user_id": "a",
                "time": START + i * 100_000,
                "item_id": i,
                "click": 0,
                "like": 0,
            }
            for i in range(1, 100)
        ],
        "behaviors": [
            {"user_id": "a", "time": int(t), "item_id": i % 7}
            for i, t in enumerate(times)
        ],
    }
    schema = dataclasses.replace(SCHEMA, history_length=3_000)
    write_log(tmp_path / "raw", log, schema)
    run_job(tmp_path / "raw", tmp_path / "out")
    for _, sample in read_samples(tmp_path / "out").values():
        expected = times[times < sample["request_time"][0]][-3_000:]
        assert sample["behavior_time"] == expected.tolist()


def test_statistics_describe_the_samples(prepared):
    folder, _ = prepared
    report = json.loads((folder / "out" / "statistics.json").read_text("utf-8"))
    samples = [
        s for split, s in read_samples(folder / "out").values() if split == "train"
    ]
    train = report["train"]
    labels = [label for s in samples for label in s["label"]]
    assert train["samples"] == len(samples)
    assert math.isclose(train["label_rate"], np.mean(labels))
    lengths = [len(s["behavior_time"]) for s in samples]
    assert math.isclose(train["history_length"]["mean"], np.mean(lengths))
    assert train["slate_size"]["quantiles"]["1"] == max(
        len(s["label"]) for s in samples
    )
    dwell = [v for s in samples for v in s["behavior_dwell"] if v > MISSING["int64"]]
    entry = train["features"]["behavior_dwell"]
    assert entry["count"] == sum(len(s["behavior_dwell"]) for s in samples)
    assert entry["max"] == max(dwell)
    known = entry["count"] - entry["missing"]
    assert math.isclose(entry["mean"], sum(dwell) / known)
    items = [v for s in samples for v in s["candidate_item_id"]]
    entry = train["features"]["candidate_item_id"]
    assert entry["out_of_vocabulary"] == items.count(1)
    words = (folder / "out" / "vocabularies" / "item_id.txt").read_text("utf-8").split()
    counts = {word: items.count(number + 2) for number, word in enumerate(words)}
    assert dict(entry["top"]) == {w: c for w, c in counts.items() if c}


def in_milliseconds(log, seed):
    """The log in finer times, many of them tied; request ids come back, clicks late."""
    rng = np.random.default_rng(seed)
    for table in ("exposures", "behaviors"):
        for row in log[table]:
            row["time"] = row["time"] * 1_000 + int(rng.integers(3)) * 300
    for row in log["exposures"]:
        if row["request_id"] is not None:
            row["request_id"] = f"r{int(row['request_id'][1:]) % 40}"
            row["device"] = "d1"
        if rng.random() < 0.3:
            row["click_time"] = row["time"] + int(rng.integers(90_000))
    for row in log["exposures"][::20]:  # a click may be a row of its own
        again = row | {"click": 1, "time": row["time"] + int(rng.integers(20_000))}
        log["exposures"].append(again | {"click_time": None})
    return log


@pytest.mark.parametrize(("seed", "delay"), [(0, "0s"), (1, "45s"), (2, "45s")])
def test_a_log_of_finer_times_late_clicks_and_returning_ids(tmp_path, seed, delay):
    schema = dataclasses.replace(
        SCHEMA, time_unit="milliseconds", feedback_delay=delay, session_gap="20m"
    )
    log = in_milliseconds(random_log(seed, exposures=300, behaviors=300), seed)
    starts = START + 2_500, START + 3_200
    options = ["--validation_from", starts[0], "--test_from", starts[1]]
    options += ["--max_rejected_fraction", 0.3]
    write_log(tmp_path / "raw", log, schema)
    run_job(tmp_path / "raw", tmp_path / "out", *options)
    assert_equals_reference(tmp_path / "out", log, schema, *starts)
    rng = np.random.default_rng(seed)
    shuffled = {
        t: [rows[i] for i in rng.permutation(len(rows))] for t, rows in log.items()
    }
    write_log(tmp_path / "shuffled", shuffled, schema)
    run_job(tmp_path / "shuffled", tmp_path / "other", *options, "--num_buckets", 1)
    one, other = (read_samples(tmp_path / name) for name in ("out", "other"))
    fixed = {"user_gender", "user_age", "user_tags", "user_tags_length"}
    assert set(one) == set(other)
    for key in one:
        a, b = ({k: comparable(v) for k, v in s[key][1].items()} for s in (one, other))
        assert {k: v for k, v in a.items() if k not in fixed} == {
            k: v for k, v in b.items() if k not in fixed
        }


def small_log(exposures, behaviors=()):
    shown = {"user_id": "a", "like": 0, "click": 0}
    return {
        "exposures": [shown | row for row in exposures],
        "behaviors": [{"user_id": "a"} | row for row in behaviors],
    }


def small_samples(tmp_path, log, **changes):
    schema = dataclasses.replace(SCHEMA, **changes)
    write_log(tmp_path / "raw", log, schema)
    never = [f"--{split}_from=4000000000" for split in ("validation", "test")]
    manifest = run_job(tmp_path / "raw", tmp_path / "out", *never)
    samples = {
        key: sample for key, (_, sample) in read_samples(tmp_path / "out").items()
    }
    return samples, manifest


def test_behaviors_within_a_second_keep_their_order(tmp_path):
    now = START * 1_000
    views = [
        {"time": now + ms, "item_id": item, "dwell": item}
        for ms, item in ((30, 3), (10, 9), (20, 1))
    ]
    shown = [{"time": now + 40, "item_id": 5, "request_id": "r"}]
    samples, _ = small_samples(
        tmp_path, small_log(shown, views), time_unit="milliseconds"
    )
    (sample,) = samples.values()
    assert sample["behavior_time"] == [START] * 3 == sample["request_time"] * 3
    assert sample["behavior_dwell"] == [9, 1, 3]


def test_a_view_and_a_purchase_of_one_item_at_one_moment_are_two(tmp_path):
    same = {"time": START, "item_id": 3}
    rows = [same | {"action": 7}, same | {"action": 2}, same | {"action": 7}]
    shown = [{"time": START + 9, "item_id": 5, "request_id": "r"}]
    samples, manifest = small_samples(tmp_path, small_log(shown, rows))
    (sample,) = samples.values()
    assert sample["behavior_time"] == [START, START]
    words = (tmp_path / "out/vocabularies/action.txt").read_text().split()
    assert [words[i - 2] for i in sample["behavior_action"]] == ["2", "7"]
    assert manifest.events["behaviors"].merged == 1


def test_a_request_id_that_comes_back_is_another_slate(tmp_path):
    rows = [
        {"time": START + late, "item_id": item, "request_id": "r"}
        for late, item in ((0, 1), (5, 2), (90, 1), (95, 3))
    ]
    samples, _ = small_samples(tmp_path, small_log(rows))  # session_gap is 60 s
    assert set(samples) == {("a", "r"), ("a", f"r@{START + 90}")}
    assert len(samples["a", "r"]["label"]) == 2


def test_a_click_counts_from_when_it_could_be_known(tmp_path):
    rows = [
        {"time": START, "item_id": 1, "request_id": "r1", "click": 1}
        | {"click_time": START + 500},
        {"time": START + 100, "item_id": 1, "request_id": "r2"},
        {"time": START + 600, "item_id": 1, "request_id": "r3"},
    ]
    samples, _ = small_samples(tmp_path, small_log(rows))
    assert samples["a", "r2"]["behavior_time"] == []
    assert samples["a", "r2"]["candidate_user_clicks"] == [0]
    assert samples["a", "r2"]["candidate_user_impressions"] == [1]
    assert samples["a", "r3"]["behavior_time"] == [START + 500]
    assert samples["a", "r3"]["candidate_clicks_2h"] == [1]
    assert samples["a", "r3"]["candidate_since_clicked"] == [100]
    assert samples["a", "r1"]["label"] == [1]


def test_a_click_may_be_delayed_by_the_schema(tmp_path):
    rows = [
        {"time": START, "item_id": 1, "request_id": "r1", "click": 1},
        {"time": START + 300, "item_id": 1, "request_id": "r2"},
        {"time": START + 301, "item_id": 1, "request_id": "r3"},
    ]
    samples, _ = small_samples(tmp_path, small_log(rows), feedback_delay="5m")
    assert samples["a", "r2"]["behavior_time"] == []
    assert samples["a", "r3"]["behavior_time"] == [START + 300]


def test_a_click_as_a_row_of_its_own_is_no_duplicate(tmp_path):
    shown = {"time": START, "item_id": 1, "request_id": "r1", "position": 4}
    rows = [
        shown,
        shown | {"time": START + 7, "click": 1, "position": 8},
        {"time": START + 100, "item_id": 1, "request_id": "r2"},
    ]
    samples, manifest = small_samples(tmp_path, small_log(rows))
    assert samples["a", "r1"]["label"] == [1]
    assert samples["a", "r1"]["candidate_position"] == [4]
    assert samples["a", "r2"]["behavior_time"] == [START + 7]
    assert manifest.events["exposures"].merged == 1
    assert manifest.splits["train"].clicks == 1


def test_the_row_of_the_click_says_what_it_is_as_a_behavior(tmp_path):
    shown = {"time": START, "item_id": 1, "request_id": "r1", "category": "own"}
    click = shown | {"click": 1, "behavior_action": 1, "category": "other"}
    rows = [
        shown | {"behavior_action": 0, "behavior_dwell": 70},
        click | {"time": START + 7, "behavior_action": 2},
        click | {"time": START + 5, "behavior_action": 3, "click_time": START + 30},
        click | {"time": START + 9, "behavior_action": 4, "click_time": START + 10},
        click | {"time": START + 10, "behavior_action": 5, "click_time": START + 10},
        {"time": START + 8, "item_id": 2, "request_id": "r1", "behavior_action": 6},
        {"time": START + 100, "item_id": 1, "request_id": "r2"},
    ]
    samples, manifest = small_samples(tmp_path, small_log(rows))
    last = samples["a", "r2"]
    assert last["behavior_time"] == [START + 7]
    words = (tmp_path / "out" / "vocabularies" / "action.txt").read_text("utf-8")
    assert words.split() == ["2"]
    assert last["behavior_action"] == [2]
    assert last["behavior_dwell"] == [MISSING["int64"]]
    words = (tmp_path / "out" / "vocabularies" / "category.txt").read_text("utf-8")
    assert words.split() == ["own"]
    assert manifest.events["exposures"].merged == 4


def test_clicks_that_are_rows_of_their_own_without_a_request_id_are_told(
    tmp_path, caplog
):
    caplog.set_level("INFO")
    gap = 60  # of the schema
    shown = [{"time": START, "item_id": item} for item in (1, 2, 3, 4, 5)]
    clicks = [
        {"time": START + 9, "item_id": 2},
        {"time": START + 9 + gap - 1, "item_id": 1},  # more than the gap after
        {"time": START + 9_000, "item_id": 3},
        {"time": START + 9_000 + gap - 1, "item_id": 3},  # the earlier one is clicked
        {"time": START + 4, "item_id": 4, "request_id": "r"},
        {"time": START + 9 + gap // 2, "item_id": 5},
    ]
    rows = shown + [row | {"click": 1} for row in clicks]
    samples, manifest = small_samples(tmp_path, small_log(rows))
    assert samples["a", f"a:{START}"]["label"] == [0] * 5
    assert samples["a", f"a:{START + 9}"]["label"] == [1, 1, 1]
    assert manifest.joins["clicks of items just shown unclicked"] == 2
    assert "WARNING: 2 of 6 clicks have no request id and are of items" in caplog.text


def test_users_of_whom_nothing_is_known(tmp_path):
    log = small_log([{"time": START, "item_id": 1}])
    log["users"] = [{"user_id": "a"}]
    samples, manifest = small_samples(tmp_path, log)
    assert [key[0] for key in samples] == ["a"]
    assert manifest.joins["users known"] == 1


def test_how_the_tables_join_is_counted_and_told(tmp_path, caplog):
    caplog.set_level("INFO")
    rows = [
        {"time": START, "item_id": 1, "request_id": "r1", "click": 1},
        {"time": START + 100, "item_id": 2, "request_id": "r2"},
    ]
    told = [{"user_id": user, "time": START + 5, "item_id": 1} for user in "aaxyz"]
    log = small_log(rows, [row | {"action": n} for n, row in enumerate(told)])
    log["users"] = [{"user_id": "b", "age": 3}]
    log["items"] = [{"item_id": 1, "category": "x"}]
    _, manifest = small_samples(tmp_path, log)
    joins = manifest.joins
    assert (joins["users known"], joins["users unknown"]) == (0, 1)
    assert joins["candidates with item row"] == 1
    assert joins["candidates without item row"] == 1
    assert (joins["clicks"], joins["clicks again in behaviors"]) == (1, 1)
    assert joins["behaviors of users with requests"] == 2
    assert joins["behaviors of users without requests"] == 3
    for warning in (
        "1 of 1 users with requests have no row in users",
        "1 of 2 candidates are of items that have no row in items",
        "1 of 1 clicks stand again in the behaviors within an hour",
        "3 of 5 behaviors are of users without requests",
    ):
        assert f"WARNING: {warning}" in caplog.text


def log_of_one_item(**tables):
    """25 users, each with one slate of one candidate; twelve click."""
    shown = [
        {
            **{"user_id": str(100 + n), "item_id": 5, "time": START + n},
            **{"request_id": str(n), "click": n % 2, "like": 0},
        }
        for n in range(25)
    ]
    return {"exposures": shown, **tables}


@pytest.mark.parametrize(
    ("table", "rows", "message"),
    [
        (
            "users",
            [{"user_id": "u7", "age": 3}],
            "No row of `users` fits any of 25 users with requests. Is `user_id` "
            "written alike in both tables? One of the exposures is '100', one of users "
            "'u7'.",
        ),
        (
            "items",
            [{"item_id": 777, "category": "x"}],
            "No row of `items` fits any of 37 candidates and behaviors. Is `item_id` "
            "written alike in both tables? One of the exposures is '5', one of items "
            "'777'.",
        ),
        (
            "behaviors",
            [{"user_id": f"U{n}", "item_id": 5, "time": START - n} for n in range(20)],
            "None of 20 rows of `behaviors` is of a user with requests. Is `user_id` "
            "written alike in both tables? One of the exposures is '100', one of "
            "behaviors 'U0'.",
        ),
    ],
)
def test_a_table_that_fits_nothing_is_told_before_samples(
    table, rows, message, tmp_path, caplog
):
    caplog.set_level("DEBUG", "pipelines.steps")
    with pytest.raises(UserError, match=re.escape(message)) as error:
        small_samples(tmp_path, log_of_one_item(**{table: rows}))
    assert "histories " in caplog.text
    assert "counters " not in caplog.text and "samples " not in caplog.text
    assert "let their names begin with `_`" in str(error.value)
    raw = tmp_path / "raw"
    (raw / f"{table}.parquet").rename(raw / f"_{table}.parquet")
    assert len(small_samples(tmp_path, {})[0]) == 25


def test_items_that_fit_behaviors_alone_are_left_in_peace(tmp_path, caplog):
    caplog.set_level("INFO")
    log = log_of_one_item(items=[{"item_id": 6, "category": "x"}])
    log["behaviors"] = [
        {"user_id": str(100 + n), "item_id": 6, "time": START - 9} for n in range(25)
    ]
    assert len(small_samples(tmp_path, log)[0]) == 25
    assert "25 of 25 candidates are of items that have no row in items" in caplog.text


def test_behaviors_of_which_one_user_has_requests_are_enough(tmp_path, caplog):
    caplog.set_level("INFO")
    log = log_of_one_item()
    users = ["100", *(f"U{n}" for n in range(40))]
    log["behaviors"] = [
        {"user_id": user, "item_id": 5, "time": START - 9} for user in users
    ]
    samples, _ = small_samples(tmp_path, log)
    assert samples["100", "0"]["behavior_time"] == [START - 9]
    assert "40 of 41 behaviors are of users without requests" in caplog.text


def test_a_table_of_no_rows_is_as_good_as_none(tmp_path):
    (tmp_path / "raw").mkdir()
    users = pa.table({"user_id": pa.array([], pa.string())})
    pq.write_table(users, tmp_path / "raw" / "users.parquet")
    _, manifest = small_samples(tmp_path, log_of_one_item())
    assert manifest.joins["users unknown"] == 25


def test_users_that_are_all_unfit_are_told_as_such(tmp_path):
    rows = [{"user_id": str(100 + n), "age": "old"} for n in range(25)]
    with pytest.raises(UserError, match="25 of 25 rows of users are unfit"):
        small_samples(tmp_path, log_of_one_item(users=rows))


def test_progress_is_told_once_a_second_with_what_was_left_out(caplog, monkeypatch):
    now = [50.0]
    monkeypatch.setattr(steps.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(steps, "_told", {})
    caplog.set_level("INFO", "pipelines.steps")
    for n in range(5):
        steps._log_rate("histories", f"bucket {n}", 100, now[0] - 0.5)
        now[0] += 0.6
    assert caplog.messages == [
        "histories  bucket 0: 100, 200/s",
        "histories  bucket 2: 100, 200/s (and 1 more before it)",
        "histories  bucket 4: 100, 200/s (and 1 more before it)",
    ]


def test_a_log_of_microseconds_in_a_time_zone(tmp_path):
    schema = dataclasses.replace(
        SCHEMA,
        time_unit="microseconds",
        utc_offset_hours=0,
        time_zone="Europe/Copenhagen",
        session_gap="20m",
    )
    log = in_milliseconds(random_log(5, exposures=200, behaviors=200), 5)
    for table in ("exposures", "behaviors"):
        for row in log[table]:
            for key in ("time", "click_time"):
                if row.get(key) is not None:
                    row[key] *= 1_000
    starts = START + 2_500, START + 3_200
    options = ["--validation_from", starts[0], "--test_from", starts[1]]
    write_log(tmp_path / "raw", log, schema)
    run_job(tmp_path / "raw", tmp_path / "out", *options)
    assert_equals_reference(tmp_path / "out", log, schema, *starts)


@pytest.mark.parametrize("action", [None, "bought"])
def test_clicks_are_behaviors_with_the_action_that_the_schema_says(
    tmp_path, caplog, action
):
    features = (
        Categorical("item_id", "item", dtype="int64"),
        Categorical("action", "behavior", of_clicks=action),
    )
    schema = Schema("shop", features, history_length=5, counters=())
    row = {"user_id": "u", "item_id": 1, "click": 1}
    log = {
        "exposures": [{**row, "time": START}, {**row, "time": START + 9_000}],
        "behaviors": [
            {"user_id": "u", "item_id": 2, "time": START - 10, "action": "view"}
        ],
    }
    write_log(tmp_path / "raw", log, schema)
    run_job(
        tmp_path / "raw", tmp_path / "data", "--validation_days", 0, "--test_days", 0
    )
    words = (tmp_path / "data" / "vocabularies" / "action.txt").read_text("utf-8")
    samples = [sample for _, sample in read_samples(tmp_path / "data").values()]
    ids = max((sample["behavior_action"] for sample in samples), key=len)
    told = "clicked exposures become behaviors without 'action'" in caplog.text
    if action is None:
        assert words.split() == ["view"] and ids == [2, 1] and told
    else:
        assert words.split() == ["bought", "view"] and ids == [3, 2] and not told


@pytest.mark.parametrize("own", [{}, {"genres": []}, {"genres": None}])
def test_an_empty_list_is_a_missing_value_that_the_item_has(tmp_path, own):
    genres = Categorical("genres", "item", length=3)
    features = (Categorical("item_id", "item", dtype="int64"), genres)
    schema = Schema("films", features, history_length=5)
    row = {"user_id": "u", "item_id": 1, "click": 1}
    log = {
        "exposures": [row | own | {"time": START + n * 9_000} for n in range(3)],
        "behaviors": [row | own | {"time": START - 9}],
        "items": [{"item_id": 1, "genres": ["drama", "war"]}],
    }
    log["exposures"][0]["genres"] = ["war"]
    del log["behaviors"][0]["click"]
    write_log(tmp_path / "raw", log, schema)
    all_train = ("--validation_days", 0, "--test_days", 0)
    manifest = run_job(tmp_path / "raw", tmp_path / "data", *all_train)
    words = (tmp_path / "data" / "vocabularies" / "genres.txt").read_text("utf-8")
    assert words.split() == ["war", "drama"]
    samples = [sample for _, sample in read_samples(tmp_path / "data").values()]
    last = max(samples, key=lambda sample: sample["request_time"])
    assert last["candidate_genres"] == [3, 2]
    assert last["behavior_genres"] == [3, 2, 2, 3, 2]
    assert last["behavior_genres_length"] == [2, 1, 2]
    assert manifest.out_of_vocabulary["train"]["candidate_genres"] == 0


@pytest.mark.parametrize(("min_count", "told"), [(1, False), (2, True)])
def test_what_is_mostly_unknown_in_the_training_is_told(
    tmp_path, caplog, min_count, told
):
    caplog.set_level("INFO")
    features = (
        Categorical("item_id", "item", dtype="int64"),
        Categorical("page", "context", min_count=min_count),
    )
    pages = ["a", "a", "b", "c", "d"]
    row = {"user_id": "u", "item_id": 1, "click": 1}
    log = {
        "exposures": [
            row | {"page": page, "time": START + n * 9_000}
            for n, page in enumerate(pages)
        ]
    }
    write_log(tmp_path / "raw", log, Schema("shop", features))
    all_train = ("--validation_days", 0, "--test_days", 0)
    run_job(tmp_path / "raw", tmp_path / "data", *all_train)
    warning = "WARNING: 60% of context_page are unknown in the training itself"
    assert (warning in caplog.text) == told


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"role": "candidate", "of_clicks": "a"}, "role='candidate'"),
        ({"role": "behavior", "of_clicks": 1}, "must be a string. Received: 1"),
    ],
)
def test_what_clicks_have_is_of_behaviors_and_of_their_type(wrong, message):
    with pytest.raises(UserError, match=message):
        Categorical("action", **wrong)
