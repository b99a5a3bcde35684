"""More at once than the server takes: refusals, and then as before; a clean end."""

import ctypes
import os
import signal

import grpc
import pytest
from live_server import LiveServer, arrays, assert_close, predict_request
from running_server import SECONDS


@pytest.fixture
def own(bare_model):
    with LiveServer(bare_model) as live:
        yield live


def test_overload_is_refused_and_passes(own, inputs, expected):
    request = predict_request(inputs[0])
    own.prediction.Predict(request, timeout=60)  # the first one prepares kernels
    calls = [own.prediction.Predict.future(request, timeout=60) for _ in range(600)]
    codes = [call.code() for call in calls]
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    for call, code in zip(calls, codes, strict=True):
        if code is grpc.StatusCode.OK:
            assert_close(arrays(call.result())["probability"], expected[1][0])
    assert_close(own.predict(inputs[0])["probability"], expected[1][0])


def test_shutdown_finishes_what_is_under_way(own, inputs, expected):
    request = predict_request(inputs[0])
    own.prediction.Predict(request, timeout=60)  # the first one prepares kernels
    calls = [own.prediction.Predict.future(request, timeout=60) for _ in range(100)]
    calls[0].result()
    assert not all(call.done() for call in calls)
    assert own.stop() == 0
    codes = [call.code() for call in calls]
    refused = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert set(codes) <= {grpc.StatusCode.OK, *refused}
    assert codes.count(grpc.StatusCode.OK) > 1
    for call, code in zip(calls, codes, strict=True):
        if code is grpc.StatusCode.OK:
            assert_close(arrays(call.result())["probability"], expected[1][0])


def test_a_signal_stops_it_whichever_thread_takes_it(own):
    process = own.process.pid
    threads = sorted(int(name) for name in os.listdir(f"/proc/{process}/task"))
    other = next(thread for thread in threads if thread != process)
    assert ctypes.CDLL(None).tgkill(process, other, signal.SIGTERM) == 0
    assert own.process.wait(SECONDS) == 0
