"""Hundreds of malformed requests; `ctr-tf bench fuzz` sends ten thousand and more."""

import json

import pytest
from live_server import assert_close

from benchmarks.fuzz import Fuzzer

pytestmark = pytest.mark.long


REQUESTS = 400


def test_malformed_requests(server, model, inputs, expected):
    fuzzer = Fuzzer(model / "1", server.grpc, server.rest)
    fuzzer.run(REQUESTS, seed=1)
    fuzzer.close()
    assert not fuzzer.failures
    outcomes = json.dumps(fuzzer.outcomes)
    assert sum(sum(counts.values()) for counts in fuzzer.outcomes.values()) == REQUESTS
    assert len(fuzzer.outcomes) == 14, outcomes
    assert fuzzer.outcomes["sound"]["OK"] > 80, outcomes
    assert fuzzer.outcomes["grpc dtype"]["INVALID_ARGUMENT"] > 8, outcomes
    assert fuzzer.outcomes["rest values"]["400"] > 8, outcomes
    assert server.process.poll() is None
    assert_close(server.predict(inputs[0])["probability"], expected[1][0])
