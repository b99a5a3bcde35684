"""The queue: who runs together, what each gets back, and what is refused."""

import threading
import time

import numpy as np
import pytest
from grpc import StatusCode

from serving.server.batching import Batcher, BatchingOptions, Task
from serving.server.errors import ServingError, invalid


class Model:
    """Doubles `x`, counts the rows of its batches, and can be held up."""

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def __call__(self, inputs):
        self.entered.set()
        self.gate.wait(10)
        x = inputs["x"]
        self.batches.append(x.shape)
        if np.isnan(x).any():
            raise invalid("no number")
        return {"y": 2 * x}


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def batcher(model, request):
    options = {"num_batch_threads": 1} | getattr(request, "param", {})
    batcher = Batcher(BatchingOptions(**options))
    yield batcher
    model.gate.set()
    assert batcher.close(10)


def task(model, rows, columns=3, value=1.0, kind="k", deadline=None):
    x = np.full((rows, columns), value)
    return Task(model, kind, {"x": x}, {"x": (1,)}, deadline)


def hold(batcher, model):
    """Occupies the only thread, so that what follows must wait."""
    model.gate.clear()
    model.entered.clear()
    first = batcher.submit(task(model, 1))
    assert model.entered.wait(10)
    return first


def options(**values):
    return pytest.mark.parametrize("batcher", [values], indirect=True)


def test_waiting_requests_run_together(batcher, model):
    hold(batcher, model)
    futures = [batcher.submit(task(model, n, value=n)) for n in (1, 2, 3)]
    assert batcher.queued == 3
    model.gate.set()
    for n, future in zip((1, 2, 3), futures, strict=True):
        np.testing.assert_array_equal(future.result(10)["y"], np.full((n, 3), 2 * n))
    assert model.batches == [(1, 3), (6, 3)]


@options(max_batch_size=4)
def test_a_batch_has_a_largest_size(batcher, model):
    hold(batcher, model)
    futures = [batcher.submit(task(model, 2)) for _ in range(3)]
    model.gate.set()
    for future in futures:
        assert future.result(10)["y"].shape == (2, 3)
    assert model.batches == [(1, 3), (4, 3), (2, 3)]
    with pytest.raises(ServingError, match="may have 4 rows.*Received: 5") as error:
        batcher.submit(task(model, 5))
    assert error.value.code is StatusCode.INVALID_ARGUMENT


def test_different_shapes_and_signatures_stay_apart(batcher, model):
    hold(batcher, model)
    futures = [
        batcher.submit(task(model, 1, columns, kind=kind))
        for columns, kind in ((3, "k"), (4, "k"), (3, "other"), (3, None), (3, "k"))
    ]
    model.gate.set()
    for future in futures:
        future.result(10)
    assert sorted(model.batches) == [(1, 3), (1, 3), (1, 3), (1, 4), (2, 3)]


@options(pad_variable_length_inputs=True)
def test_open_axes_are_padded_with_the_first_element(batcher, model):
    hold(batcher, model)
    futures = [
        batcher.submit(task(model, 1, columns, value=columns)) for columns in (2, 4, 0)
    ]
    model.gate.set()
    found = [future.result(10)["y"].tolist() for future in futures]
    assert found == [[[4.0] * 4], [[8.0] * 4], [[0.0] * 4]]
    assert model.batches == [(1, 3), (3, 4)]


def test_a_bad_request_does_not_harm_its_neighbors(batcher, model):
    hold(batcher, model)
    futures = [batcher.submit(task(model, 1, value=v)) for v in (1, np.nan, 3)]
    model.gate.set()
    assert futures[0].result(10)["y"].tolist() == [[2.0] * 3]
    assert futures[2].result(10)["y"].tolist() == [[6.0] * 3]
    with pytest.raises(ServingError, match="no number"):
        futures[1].result(10)


@options(max_queued_requests=2)
def test_a_full_queue_refuses_at_once_and_recovers(batcher, model):
    hold(batcher, model)
    futures = [batcher.submit(task(model, 1)) for _ in range(2)]
    started = time.monotonic()
    for _ in range(100):
        with pytest.raises(ServingError, match="The queue is full") as error:
            batcher.submit(task(model, 1))
        assert error.value.code is StatusCode.RESOURCE_EXHAUSTED
    assert time.monotonic() - started < 5
    model.gate.set()
    for future in futures:
        future.result(10)
    assert batcher.submit(task(model, 1)).result(10)


def test_who_waits_too_long_or_leaves_is_not_run(batcher, model):
    hold(batcher, model)
    late = batcher.submit(task(model, 1, 7, deadline=time.monotonic() + 0.01))
    gone = batcher.submit(task(model, 1, 8))
    assert gone.cancel()
    time.sleep(0.05)
    model.gate.set()
    with pytest.raises(ServingError) as error:
        late.result(10)
    assert error.value.code is StatusCode.DEADLINE_EXCEEDED
    batcher.submit(task(model, 1)).result(10)
    assert model.batches == [(1, 3), (1, 3)]


@options(batch_timeout_micros=200_000, max_batch_size=2)
def test_a_batch_waits_for_more_until_it_is_full(batcher, model):
    started = time.monotonic()
    futures = [batcher.submit(task(model, 1)) for _ in range(2)]
    for future in futures:
        future.result(10)
    assert time.monotonic() - started < 0.19
    batcher.submit(task(model, 1)).result(10)
    assert time.monotonic() - started >= 0.2
    assert model.batches == [(2, 3), (1, 3)]


def test_closing_runs_what_waits_and_refuses_the_rest(batcher, model):
    first = hold(batcher, model)
    waiting = batcher.submit(task(model, 2))
    assert not batcher.close(0.05)
    with pytest.raises(ServingError) as error:
        batcher.submit(task(model, 1))
    assert error.value.code is StatusCode.UNAVAILABLE
    model.gate.set()
    assert batcher.close(10)
    assert first.result()["y"].shape == (1, 3)
    assert waiting.result()["y"].shape == (2, 3)


def test_outputs_must_have_the_rows_of_the_batch(batcher):
    future = batcher.submit(task(lambda inputs: {"y": np.zeros(5)}, 2))
    with pytest.raises(ServingError, match="a batch of 2 rows has the shape") as error:
        future.result(10)
    assert error.value.code is StatusCode.FAILED_PRECONDITION


def test_wrong_options():
    for name in ("max_batch_size", "num_batch_threads", "max_queued_requests"):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 1.*: 0"):
            BatchingOptions(**{name: 0})
