"""Ten times more than the server can do: quick refusals, and then as before."""

import time

import grpc
import pytest
from live_server import LiveServer, arrays, assert_close, predict_request

QUEUE = 8


@pytest.fixture(scope="module")
def small(tmp_path_factory, bare_model):
    log = tmp_path_factory.mktemp("overload") / "log"
    options = ["--max_batch_size=1", "--num_batch_threads=1"]
    options += [f"--max_queued_requests={QUEUE}"]
    with LiveServer(bare_model, log, *options) as live:
        live.wait_for(v1="AVAILABLE")
        yield live


def test_overload_over_grpc(small, inputs, expected):
    request = predict_request(inputs[0])
    small.prediction.Predict(request, timeout=60)  # the first one prepares kernels
    started = time.monotonic()
    for _ in range(10):
        small.prediction.Predict(request, timeout=30)
    each = (time.monotonic() - started) / 10
    answers = []

    def done(call):
        answers.append((time.monotonic(), call))

    started = time.monotonic()
    calls = []
    while len(calls) < 400:  # ten at the time of one
        call = small.prediction.Predict.future(request, timeout=60)
        call.add_done_callback(done)
        calls.append(call)
        time.sleep(each / 10)
    codes = [call.code() for call in calls]
    while len(answers) < len(calls):
        time.sleep(0.01)
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert codes.count(grpc.StatusCode.OK) >= QUEUE
    for call in calls:
        if call.code() is grpc.StatusCode.OK:
            assert_close(arrays(call.result())["probability"], expected[1][0])
        else:
            assert "The queue is full" in call.details()
    # Nothing waited for longer than the queue, of which many go a second.
    last = max(at for at, _ in answers)
    assert last - started < 400 * each / 10 + 40 * QUEUE * each + 5
    recovered = time.monotonic()
    assert_close(small.predict(inputs[0])["probability"], expected[1][0])
    assert time.monotonic() - recovered < 20 * each + 1


def test_overload_over_rest(small, inputs):
    """The queue is kept full over gRPC; REST gets 429."""
    calls = [
        small.prediction.Predict.future(predict_request(inputs[0]), timeout=60)
        for _ in range(100)
    ]
    codes = set()
    while not all(call.done() for call in calls):
        codes.add(small.rest("/v1/models/ctr:predict", {"inputs": {}})[0])
    assert codes <= {400, 429}
    assert small.rest("/v1/models/ctr:predict", {"inputs": {}})[0] == 400


def test_shutdown_finishes_what_is_under_way(tmp_path, bare_model, inputs, expected):
    options = ["--max_batch_size=1", "--num_batch_threads=1"]
    with LiveServer(bare_model, tmp_path / "log", *options) as live:
        live.wait_for(v1="AVAILABLE")
        request = predict_request(inputs[0])
        calls = [live.prediction.Predict.future(request, timeout=60) for _ in range(50)]
        calls[0].result()
        assert live.stop() == 0
        codes = [call.code() for call in calls]
        assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
        for call in calls:
            if call.code() is grpc.StatusCode.OK:
                assert_close(arrays(call.result())["probability"], expected[1][0])
