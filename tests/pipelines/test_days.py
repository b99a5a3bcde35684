"""Samples of one period, and vocabularies that go on from those of an earlier one."""

import dataclasses

import pytest
from job_helpers import (
    SCHEMA,
    START,
    parse,
    random_log,
    read_manifest,
    read_records,
    run_job,
    write_log,
)

from ctr_tf.data.prepared import PreparedData
from ctr_tf.schema import Categorical
from ctr_tf.schema.vocabulary import check_extended
from pipelines.splits import Period, SplitRule

DAY_1, DAY_2 = START + 2_000, START + 3_000
UNFIT = ("--max_rejected_fraction", 0.3)


def of_day(begin, end):
    return (
        *("--samples_from", begin, "--samples_until", end),
        *("--validation_from", end, "--test_from", end, *UNFIT),
    )


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """A log whose second half has items, categories and devices of its own."""
    folder = tmp_path_factory.mktemp("days")
    log = random_log(3, exposures=900, behaviors=900)
    for table in ("exposures", "behaviors"):
        for row in log[table]:
            if row["time"] >= DAY_1:
                row["item_id"] += 8
    for row in log["exposures"]:
        if row["time"] >= DAY_1 and row["category"]:
            row["category"] += " later"
    for place in ("raw", "turned"):
        write_log(folder / place, log, SCHEMA)
        log = {name: rows[::-1] for name, rows in log.items()}
    run_job(folder / "raw", folder / "first", *of_day(START, DAY_1))
    grown = (*of_day(DAY_1, DAY_2), "--vocabularies", folder / "first")
    run_job(folder / "raw", folder / "second", *grown)
    return folder


def values(data, name):
    text = (data / "vocabularies" / f"{name}.txt").read_text("utf-8")
    return text.split("\n")[:-1]


def test_ids_of_the_first_day_stay_and_new_values_follow(days):
    anew = days / "anew"
    run_job(days / "raw", anew, *of_day(DAY_1, DAY_2))
    grew = set()
    for name in SCHEMA.vocabularies():
        first, second = (values(days / day, name) for day in ("first", "second"))
        assert second[: len(first)] == first
        if name == "category":  # there are more, and its `max_size` is 2
            assert second == first and len(first) == 2
            continue
        new = [value for value in values(anew, name) if value not in first]
        assert second[len(first) :] == new  # most frequent first, past `min_count`
        grew |= {name} if new else set()
    assert "item_id" in grew
    one, other = (PreparedData.load(days / day) for day in ("first", "second"))
    check_extended(one.vocabularies, other.vocabularies, "first", "second")
    with pytest.raises(ValueError, match="Ids of 'first' must be those of 'second'"):
        check_extended(other.vocabularies, one.vocabularies, "second", "first")


def test_neither_the_order_of_rows_nor_parts_matter(days, tmp_path):
    options = (*of_day(DAY_1, DAY_2), "--vocabularies", days / "first")
    more = ("--num_buckets", 5, "--num_shards", 4)
    run_job(days / "turned", tmp_path / "turned", *options, *more)
    for name in SCHEMA.vocabularies():
        assert values(tmp_path / "turned", name) == values(days / "second", name)


def test_samples_know_what_was_before_their_period(days, tmp_path):
    whole = tmp_path / "whole"
    end = ("--validation_from", DAY_2, "--test_from", DAY_2, *UNFIT)
    run_job(days / "raw", whole, *end, "--vocabularies", days / "second")
    expected = [
        record
        for record in read_records(whole)["train"]
        if parse(record)["request_time"][0] >= DAY_1
    ]
    records = read_records(days / "second")
    assert records == {"train": expected, "validation": [], "test": []}
    assert len(expected) > 20
    assert any(parse(record)["behavior_time"][:1] < [DAY_1] for record in expected)
    train = read_manifest(days / "second").splits["train"]
    assert train.begins == DAY_1 <= train.time_range[0] < train.time_range[1] < DAY_2
    assert train.samples == len(expected)


def test_what_has_no_such_ids_is_refused(days, tmp_path):
    features = [
        dataclasses.replace(f, length=3) if f.name == "tags" else f
        for f in SCHEMA.declared
    ]
    other = tmp_path / "schema.yaml"
    dataclasses.replace(SCHEMA, features=tuple(features)).save(other)
    options = (*of_day(DAY_1, DAY_2), "--vocabularies", days / "first")
    with pytest.raises(ValueError, match="mean nothing to another schema: '.*' there"):
        run_job(days / "raw", tmp_path / "out", *options, "--schema", other)
    with pytest.raises(FileNotFoundError, match="must be a run or a prepared data set"):
        run_job(days / "raw", tmp_path / "out", "--vocabularies", days / "raw", *UNFIT)
    assert not (tmp_path / "out").exists()


def test_limits_of_a_vocabulary_may_change(days, tmp_path):
    features = [
        dataclasses.replace(f, min_count=10_000) if isinstance(f, Categorical) else f
        for f in SCHEMA.declared
    ]
    other = tmp_path / "schema.yaml"
    dataclasses.replace(SCHEMA, features=tuple(features)).save(other)
    options = (*of_day(DAY_1, DAY_2), "--vocabularies", days / "first")
    run_job(days / "raw", tmp_path / "out", *options, "--schema", other)
    for name in SCHEMA.vocabularies():
        assert values(tmp_path / "out", name) == values(days / "first", name)


def test_rules_look_at_the_period_alone():
    from test_splits import COUNTS, TIMES

    from pipelines.sources.source import Split

    rule = SplitRule(Split(), period=Period(200_000, 700_000))
    assert rule.starts(TIMES, COUNTS) == (600_000, 650_000)
    late = {"validation_from": 900_000, "test_from": 950_000}
    rule = SplitRule(Split(), **late, period=Period(stop=700_000))
    assert rule.starts(TIMES, COUNTS) == (700_000, 700_000)
    with pytest.raises(ValueError, match="must not be after `--samples_until`"):
        Period(3, 2)
