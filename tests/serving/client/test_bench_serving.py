"""`ctr-tf bench serving` on short histories: one JSON object, figures that add up."""

import json

import pytest

from benchmarks import serving

pytestmark = pytest.mark.study


def test_one_json_object(capsys):
    words = ["--length", "32", "--repeats", "2", "--rate", "20", "--seconds", "0.5"]
    assert serving.main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    fastest = report["fastest_ms"]
    ratio = 100 * fastest["full_1"] / fastest["full_100"]
    assert report["singles_over_one_pass"] == pytest.approx(ratio)
    assert report["kept_over_full"] == fastest["kept_100"] / fastest["full_100"]
    for load in report["server"].values():
        assert load["answered"] == load["requests"] == 10 and not load["errors"]
    assert report["full_p99_ms"] == report["server"]["full"]["latency_ms"]["p99"]


def test_numbers_are_positive():
    with pytest.raises(ValueError, match="`--seconds` must be positive. Received: 0"):
        serving.main(["--seconds", "0"])
