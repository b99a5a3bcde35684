"""The benchmark's two sides do the same, on a small log."""

import json

import pytest

from benchmarks import pipeline


def test_one_json_object_and_equal_histories(capsys):
    pipeline.main(["--events", "3000", "--processes", "2", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["events"] == 3_000
    assert result["behaviors_in_histories"] > 0
    assert result["job_events_per_second"] > 0
    steps = result["job_step_seconds"]
    assert {"read", "histories", "counters", "samples", "all else"} == set(steps)
    assert sum(steps.values()) == pytest.approx(result["job_seconds"])
    assert "2 processes" in pipeline.report(result)
