"""The load generator on loads whose outcome is known, and on the server."""

import json
import threading
import time

import numpy as np
import pytest

from ctr_tf.commands import loadtest as command
from serving.load import Load, histogram, plot, run_load

pytestmark = pytest.mark.long  # it loads a server with all that the machine has


def later(seconds, done, error=None):
    threading.Timer(seconds, done, [error]).start()


def test_latency_is_that_of_the_answer():
    load = run_load(lambda done: later(0.05, done), rate=100, seconds=0.5, timeout=5)
    assert load.scheduled == len(load.latencies) == 50
    assert load.errors == {}
    assert 0.05 <= np.median(load.latencies) < 0.15
    assert 0.45 < load.seconds < 2


def test_a_stalled_sender_is_charged_to_all_who_wait():
    """One send blocks for 0.5 s: those due meanwhile count from their time."""
    calls = []

    def send(done):
        calls.append(None)
        if len(calls) == 1:
            time.sleep(0.5)
        done(None)

    load = run_load(send, rate=100, seconds=1.0, timeout=5)
    latencies = np.sort(load.latencies)[::-1]
    # Due at 0, 10, 20, … ms and answered at 500: 500, 490, 480, … ms.
    np.testing.assert_allclose(latencies[:50], np.arange(0.5, 0, -0.01), atol=0.06)
    assert np.median(latencies) > 0.0
    assert load.late >= 0.48


def test_failures_are_counted_by_status_and_apart_from_latencies():
    outcomes = iter([None, "UNAVAILABLE", None, "RESOURCE_EXHAUSTED", "UNAVAILABLE"])
    load = run_load(lambda done: done(next(outcomes)), rate=50, seconds=0.1, timeout=1)
    assert load.errors == {"UNAVAILABLE": 2, "RESOURCE_EXHAUSTED": 1}
    assert len(load.latencies) == 2
    report = load.report()
    assert report["requests"] == 5 and report["answered"] == 2


def test_a_request_that_never_ends_ends_the_test():
    load = run_load(lambda done: None, rate=100, seconds=0.05, timeout=0.1)
    assert load.errors == {"DEADLINE_EXCEEDED": 5}
    assert load.report()["latency_ms"] == {}


def test_percentiles_and_histogram():
    latencies = np.arange(1, 1001) / 1e3
    report = Load(10, 1000, latencies, {}, 100.0, 0.0).report()
    percentiles = {"p50": 500.5, "p95": 950.05, "p99": 990.01, "p99.9": 999.001}
    for name, value in percentiles.items():
        assert report["latency_ms"][name] == pytest.approx(value)
    assert report["throughput"] == 10.0
    bins = histogram(latencies * 1e3)
    assert sum(b["count"] for b in bins) == 1000
    assert bins[0]["from_ms"] <= 1.0 and bins[-1]["to_ms"] >= 1000.0
    for b in bins:
        inside = (latencies * 1e3 >= b["from_ms"]) & (latencies * 1e3 < b["to_ms"])
        assert abs(inside.sum() - b["count"]) <= 1  # edges, in floats
    assert histogram(np.zeros(0)) == []


def test_the_load_is_bounded():
    with pytest.raises(ValueError, match="at most 1,000,000 requests"):
        run_load(lambda done: None, rate=1e6, seconds=100, timeout=1)


def test_plot_without_and_with_answers(tmp_path):
    for name, latencies in (("none", []), ("some", [0.01, 0.02])):
        load = Load(1, 2, np.array(latencies), {}, 1.0, 0.0)
        plot(load, tmp_path / name, "full")
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("mode", ["full", "cached"])
@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_load_on_the_server(server, models, capsys, tmp_path, mode, transport):
    target = {"grpc": server.grpc, "rest": server.rest}[transport]
    words = ["--target", target, "--transport", transport, "--mode", mode, "--json"]
    words += ["--export", str(models), "--rate", "20", "--seconds", "1"]
    plotted = tmp_path / "load.png"
    words += ["--candidates", "30", "--plot", str(plotted)]
    assert command.main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["answered"] == report["requests"] == 20
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99.9"]
    assert plotted.stat().st_size > 5_000


def test_load_without_the_export(server, capsys):
    assert command.main(["--target", server.grpc, "--seconds", "0.5"]) == 0
    assert "p99.9" in capsys.readouterr().out
