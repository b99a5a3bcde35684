"""The benchmark's two sides do the same, on a small log."""

import json

from benchmarks import pipeline


def test_one_json_object_and_equal_histories(capsys):
    pipeline.main(["--events", "3000", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["events"] == 3_000
    assert result["behaviors_in_histories"] > 0
    assert result["job_events_per_second"] > 0
