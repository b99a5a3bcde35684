"""A schema's horizon: what is older than it counts for no sample, and is not read."""

import dataclasses
import datetime
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_helpers import (
    SCHEMA,
    START,
    random_log,
    read_manifest,
    read_samples,
    run_job,
    write_log,
)
from test_listwise import assert_equals_reference

from ctr_tf.computed.counters import CounterChoice
from ctr_tf.errors import UserError
from ctr_tf.time import DAY
from pipelines.sources.raw_files import RawFile

HORIZON = dataclasses.replace(SCHEMA, horizon="50h", history_length=40)
COUNTERS = (
    CounterChoice("item_id"),
    CounterChoice("user_id x item_id"),
    CounterChoice("user_id", windows=("all",)),
)
MIDDLE = START + 6 * DAY  # of the exposures; behaviors begin twelve days before it
# Two days and a bit, from the begin of that day on; and a day more, which may have the
# first rows of slates.
READ_FROM = (MIDDLE - 10 - 50 * 3_600) // DAY * DAY - DAY
UNFIT = ("--max_rejected_fraction", 0.3)


@pytest.fixture(scope="module")
def log():
    return random_log(5, exposures=2_500, behaviors=2_500, users=6, seconds=12 * DAY)


@pytest.fixture(scope="module")
def whole(log, tmp_path_factory):
    """Raw log and samples of all of it."""
    folder = tmp_path_factory.mktemp("whole")
    write_log(folder / "raw", log, HORIZON)
    starts = START + 8 * DAY, START + 10 * DAY
    options = ["--validation_from", starts[0], "--test_from", starts[1], *UNFIT]
    run_job(folder / "raw", folder / "data", *options)
    return folder


def a_day(folder):
    """Options: samples from the middle on, by the vocabularies of the whole log."""
    vocabularies = ("--vocabularies", folder / "data")
    return "--samples_from", MIDDLE, *vocabularies, *UNFIT


def since(begin, samples):
    return {
        key: sample
        for key, (_, sample) in samples.items()
        if sample["request_time"][0] >= begin
    }


def write_days(folder, log, schema):
    """Exposures and behaviors in folders called by their local days."""
    write_log(folder, {k: log[k] for k in ("users", "items")}, schema)
    zone = datetime.timezone(datetime.timedelta(hours=schema.utc_offset_hours))
    for table in ("exposures", "behaviors"):
        names = dict.fromkeys(key for row in log[table] for key in row)
        days = {}
        for row in log[table]:
            day = datetime.datetime.fromtimestamp(row["time"], zone).date()
            days.setdefault(day, []).append(row)
        for day, rows in days.items():
            place = folder / table / f"dt={day.isoformat()}"
            place.mkdir(parents=True)
            columns = {key: [row.get(key) for row in rows] for key in names}
            pq.write_table(pa.table(columns), place / "part-0.parquet")


def test_the_samples_are_those_of_the_reference(log, whole):
    starts = START + 8 * DAY, START + 10 * DAY
    assert_equals_reference(whole / "data", log, HORIZON, *starts)
    samples = [sample for _, sample in read_samples(whole / "data").values()]
    cut = [s for s in samples if 5 < len(s["behavior_time"]) < 40]
    assert len(cut) > 100  # by the horizon, not by their number


def test_what_no_sample_knows_is_not_read(log, whole, tmp_path):
    run_job(whole / "raw", tmp_path / "data", *a_day(whole))
    found = {key: s for key, (_, s) in read_samples(tmp_path / "data").items()}
    expected = since(MIDDLE, read_samples(whole / "data"))
    assert found.keys() == expected.keys() and len(found) > 300
    for key, sample in expected.items():
        assert str(found[key]) == str(sample)
    manifest = read_manifest(tmp_path / "data")
    for table in ("exposures", "behaviors"):
        old = sum(row["time"] < READ_FROM for row in log[table])
        count = manifest.events[table]
        assert count.older == old > 400 and count.read == len(log[table])
        assert count.kept + count.older + sum(count.rejected.values()) == count.read


def known_late(log, seed=0):
    """Clicks that are known up to four days after their rows."""
    rng = np.random.default_rng(seed)
    rows = [
        row | {"click_time": row["time"] + int(rng.integers(4 * DAY))}
        if row["click"]
        else row | {"click_time": None}
        for row in log["exposures"]
    ]
    return log | {"exposures": rows}


@pytest.mark.parametrize(
    "changes",
    [{}, {"feedback_delay": "2d"}, {"session_gap": "3d", "counter_resolution": "1d"}],
    ids=["click_time", "delay", "gap"],
)
def test_what_is_known_late_is_not_lost(log, tmp_path, changes):
    windows = {"counter_windows": ("1d", "2d"), "places": (), "counters": COUNTERS}
    schema = dataclasses.replace(HORIZON, **(windows | changes))
    if not changes:
        log = known_late(log)
    write_days(tmp_path / "raw", log, schema)
    whole = tmp_path / "whole"
    run_job(tmp_path / "raw", whole, *UNFIT)
    begin = START + 10 * DAY
    late = ("--samples_from", begin, "--vocabularies", whole, *UNFIT)
    run_job(tmp_path / "raw", tmp_path / "data", *late)
    found = {key: s for key, (_, s) in read_samples(tmp_path / "data").items()}
    expected = since(begin, read_samples(whole))
    assert found.keys() == expected.keys() and len(found) > 90
    assert [k for k in expected if str(found[k]) != str(expected[k])] == []
    counts = read_manifest(tmp_path / "data").events
    assert counts["behaviors"].kept < len(log["behaviors"]) - 400
    fewer = counts["exposures"].kept < len(log["exposures"]) - 400
    assert fewer == bool(changes)  # any click may have been known late


def test_a_click_time_that_comes_late_in_a_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.sources.text.HEAD_BYTES", 4_096)
    folder = tmp_path / "raw"
    for day in (20, 28, 30):
        place = folder / "exposures" / f"dt=2023-11-{day}"
        place.mkdir(parents=True)
        time = 1_700_438_400 + (day - 20) * DAY
        row = {"user_id": "u", "time": time, "item_id": 1, "click": 1, "like": 0}
        lines = [json.dumps(row | {"time": time + i}) for i in range(3_000)]
        lines[-1] = json.dumps(row | {"click_time": time + 3 * DAY})
        (place / "part.jsonl").write_text("\n".join(lines) + "\n")
    HORIZON.save(folder / "schema.yaml")
    with pytest.raises(UserError, match="has a `click_time`, which the first lines"):
        run_job(folder, tmp_path / "data", "--samples_from", "2023-11-30")


@pytest.mark.parametrize("in_folders", [True, False])
def test_a_log_of_which_all_is_old_is_told(log, tmp_path, in_folders):
    write = write_days if in_folders else write_log
    write(tmp_path / "raw", log, HORIZON)
    late = ("--samples_from", MIDDLE + 60 * DAY, *UNFIT)
    wanted = "no exposures since 2024-01.*`horizon` lets them count"
    with pytest.raises(UserError, match=wanted):
        run_job(tmp_path / "raw", tmp_path / "none", *late)


def test_folders_of_no_day_of_the_log_are_read_without_a_horizon():
    constants = (("dt", "1900-01-01"),)
    file = dataclasses.replace(RawFile.named("a.csv"), constants=constants)
    assert not file.is_before(0)
    assert file.is_before(START)


def test_files_of_folders_of_earlier_days_are_not_opened(log, whole, tmp_path, caplog):
    write_days(tmp_path / "raw", log, HORIZON)
    day = datetime.datetime.fromtimestamp(READ_FROM, datetime.UTC).date()
    old = [
        path
        for path in sorted((tmp_path / "raw").rglob("dt=*/*.parquet"))
        if path.parent.name < f"dt={day - datetime.timedelta(days=1)}"
    ]
    assert len(old) > 6
    for path in old:
        path.write_bytes(b"whoever opens this, fails")
    with caplog.at_level("INFO", "ctr_tf"), caplog.at_level("INFO", "pipelines"):
        run_job(tmp_path / "raw", tmp_path / "data", *a_day(whole))
    for table in ("exposures", "behaviors"):
        count = sum(path.parents[1].name == table for path in old)
        assert f"{count} files of them in folders of such days are not" in caplog.text
    found = {key: s for key, (_, s) in read_samples(tmp_path / "data").items()}
    expected = since(MIDDLE, read_samples(whole / "data"))
    assert found.keys() == expected.keys()
    assert all(str(found[key]) == str(expected[key]) for key in expected)
    without = dataclasses.replace(HORIZON, horizon=None)
    without.save(tmp_path / "raw" / "schema.yaml")
    with pytest.raises(UserError, match=f"{old[-1].parent.parent.name}.*parquet"):
        run_job(tmp_path / "raw", tmp_path / "none", "--samples_from", MIDDLE, *UNFIT)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": "90m"}, "No window is longer than the schema's `horizon`, 90m."),
        (
            {"horizon": "7d", "counter_resolution": "7s", "counters": ()},
            None,
        ),
        (
            {
                "horizon": "7d",
                "counter_resolution": "7s",
                "counters": (CounterChoice("item_id", windows=("70s",)),),
            },
            "`counter_resolution` divides a day. Received: '7s'",
        ),
        ({"horizon": "a while"}, "Received: 'a while'"),
    ],
)
def test_horizons_that_cannot_be(changes, message):
    changes = {"places": (), "newness": False, **changes}
    if message is None:
        assert dataclasses.replace(SCHEMA, **changes).horizon == "7d"
        return
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SCHEMA, **changes)
