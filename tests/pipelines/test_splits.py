"""Where validation and test begin, by every rule."""

import numpy as np
import pytest
from job_helpers import SCHEMA, random_log, run_job, write_log

from ctr_tf.errors import UserError
from pipelines.sources.source import Split
from pipelines.splits import SplitRule, parse_time

TIMES = np.arange(0, 1_000_000, 1_000)
COUNTS = np.ones(1_000, np.int64)


def test_fractions_of_the_exposures():
    starts = SplitRule(Split()).starts(TIMES, COUNTS)
    assert starts == (800_000, 900_000)


def test_the_source_names_a_time():
    rule = SplitRule(Split(test_start=500_000, validation_fraction=0.2))
    assert rule.starts(TIMES, COUNTS) == (300_000, 500_000)


def test_days_count_back_from_the_last_exposure():
    rule = SplitRule(Split(), validation_days=2, test_days=1)
    assert rule.starts(TIMES, COUNTS) == (999_001 - 3 * 86_400, 999_001 - 86_400)


def test_given_times_win():
    rule = SplitRule(Split(test_start=5), validation_from=7, test_from=9)
    assert rule.starts(TIMES, COUNTS) == (7, 9)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1700000000", 1_700_000_000),
        ("2023-11-14T22:13:20", 1_700_000_000),
        ("2023-11-14T22:13:20+01:00", 1_699_996_400),
        ("2023-11-15", 1_700_006_400),
    ],
)
def test_dates_and_seconds(text, seconds):
    assert parse_time("test_from", text) == seconds


@pytest.mark.parametrize(
    "text", ["20240501", "2024", "99999999", "0", "-5", "--5", "²"]
)
def test_what_is_rather_a_date_or_no_time_is_refused(text):
    wanted = "`--samples_from` must be an ISO date-time, such as 2024-05-01T00:00, or "
    with pytest.raises(UserError, match=f"{wanted}unix seconds.* Received: '{text}'"):
        parse_time("samples_from", text)


def test_times_before_1973_are_written_as_dates():
    assert parse_time("test_from", "1970-01-03") == 2 * 86_400
    assert parse_time("test_from", "100000000") == 100_000_000


def test_a_split_beyond_the_data_is_told_and_one_of_no_days_is_not(tmp_path, caplog):
    caplog.set_level("INFO")
    write_log(tmp_path / "raw", random_log(0, exposures=80, behaviors=0), SCHEMA)
    split = ("--validation_days", 0, "--test_from", "2031-01-01")
    unfit = ("--max_rejected_fraction", 0.3)
    run_job(tmp_path / "raw", tmp_path / "data", *split, *unfit)
    told = [line for line in caplog.text.splitlines() if "no sample in" in line]
    assert len(told) == 1
    assert "'test', which begins at 2031-01-01" in told[0]
    assert "all are of 2023-11-14T22" in told[0]
