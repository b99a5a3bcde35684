"""`ctr-tf bench state`: one JSON object, and states as large as counted by hand."""

import json

import pytest

from benchmarks import state


def test_sizes_are_those_counted_by_hand(monkeypatch, capsys):
    monkeypatch.setattr(state, "VARIANTS", ("S1", "full"))
    assert state.main(["--lengths", "64", "128", "--json"]) == 0
    sizes = json.loads(capsys.readouterr().out)["bytes"]
    # Header, request time, a user of 8 and a context of 8 + 8 numbers; time and
    # mask of 8 chunks, 8 transitions and 2 last behaviors; key and value of these and
    # of the user, in two blocks of 32 numbers.
    expected = 28 + 8 + 4 * (8 + 16) + 9 * (8 + 8 + 2) + 4 * 32 * 2 * 2 * (8 + 8 + 3)
    assert sizes["S1"]["float32"]["64"] == expected
    assert sizes["S1"]["float32"]["64"] == sizes["S1"]["float32"]["128"]
    growth = sizes["full"]["float32"]["128"] - sizes["full"]["float32"]["64"]
    assert growth == 64 * (9 + 2 * 2 * 32 * 4)
    growth = sizes["full"]["bfloat16"]["128"] - sizes["full"]["bfloat16"]["64"]
    assert growth == 64 * (9 + 2 * 2 * 32 * 2)


def test_lengths_are_positive():
    with pytest.raises(ValueError, match="are positive. Received: "):
        state.main(["--lengths", "0"])
