"""`ctr-tf bench retrieval`: one JSON object, states that grow or do not."""

import json

import pytest

from benchmarks import retrieval

TINY = ["--candidates", "2", "--batch", "1", "--repeats", "1"]


@pytest.mark.study
def test_one_json_object_and_a_picture(capsys, tmp_path):
    lengths = ["--lengths", "60", "120", "--models", "full", "sdim"]
    plot = tmp_path / "plot.png"
    assert retrieval.main([*lengths, *TINY, "--json", "--plot", str(plot)]) == 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    report = json.loads(capsys.readouterr().out)
    assert report["bench"] == "retrieval"
    results = {(r["model"], r["length"]): r for r in report["results"]}
    assert set(results) == {(m, n) for m in ("full", "sdim") for n in (60, 120)}
    for result in results.values():
        assert min(result[f"{one}_seconds"] for one in retrieval.PASSES) > 0
    state = {key: result["state_bytes"] for key, result in results.items()}
    assert state["sdim", 120] == state["sdim", 60]
    # Mask and a vector of 32 numbers a behavior.
    assert state["full", 120] - state["full", 60] == 60 * (1 + 4 * 32)


def test_sizes_are_positive():
    with pytest.raises(ValueError, match="are positive. Received: "):
        retrieval.main(["--lengths", "0"])
