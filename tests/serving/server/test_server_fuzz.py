"""A thousand malformed requests; `ctr-tf bench fuzz` sends ten thousand and more."""

import json

import pytest
from live_server import assert_close

from benchmarks.fuzz import Fuzzer

pytestmark = pytest.mark.long


def test_a_thousand_malformed_requests(server, model, inputs, expected):
    fuzzer = Fuzzer(model / "1", server.grpc, server.rest)
    fuzzer.run(1_000, seed=1)
    fuzzer.close()
    assert not fuzzer.failures
    outcomes = json.dumps(fuzzer.outcomes)
    assert sum(sum(counts.values()) for counts in fuzzer.outcomes.values()) == 1_000
    assert len(fuzzer.outcomes) == 14, outcomes
    assert fuzzer.outcomes["sound"]["OK"] > 200, outcomes
    assert fuzzer.outcomes["grpc dtype"]["INVALID_ARGUMENT"] > 20, outcomes
    assert fuzzer.outcomes["rest values"]["400"] > 20, outcomes
    assert server.process.poll() is None
    assert_close(server.predict(inputs[0])["probability"], expected[1][0])
