"""`ctr-tf bench state`: one JSON object, and states as large as counted by hand."""

import json

import pytest

from benchmarks import state


@pytest.mark.study
def test_sizes_are_those_counted_by_hand(capsys):
    words = ["--lengths", "64", "128", "--variants", "S1", "full", "suan", "light_suan"]
    assert state.main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    sizes, flops = report["bytes"], report["flops"]
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
    # SUAN: key and value of all behaviors, and a gate; LightSUAN with 8 + 8 and 11 + 12
    # keys, whose sums of time, mask, keys and values a candidate sees.
    request = 28 + 8 + 4 * (8 + 16) + 2 * 4 * 32
    a_key = 9 + 2 * 2 * 32 * 4
    assert sizes["suan"]["float32"] == {str(n): request + n * a_key for n in (64, 128)}
    assert sizes["light_suan"]["float32"] == {
        "64": request + 16 * a_key,
        "128": request + 23 * a_key,
    }
    assert 1 < flops["light_suan"]["128"] / flops["light_suan"]["64"] < 2.8
    assert flops["suan"]["128"] > flops["light_suan"]["128"]


@pytest.mark.parametrize("option", ["--lengths", "--candidates"])
def test_sizes_are_positive(option):
    with pytest.raises(ValueError, match="positive. Received: "):
        state.main([option, "0"])
