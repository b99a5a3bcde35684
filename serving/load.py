"""Open-loop load: requests by a schedule, latencies from the scheduled time."""

import collections
import dataclasses
import functools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ctr_tf.errors import UserError
from serving.errors import DEADLINE_EXCEEDED

NOT_SENT = "NOT_SENT"
PERCENTILES = (50.0, 95.0, 99.0, 99.9)
_MAX_REQUESTS = 1_000_000
_MAX_WAITING = 2_000  # requests under way; a server so far behind gets no more

# Sends one request; calls back once, with None or the status of the failure.
Send = Callable[[Callable[[str | None], None]], None]


@dataclasses.dataclass
class Load:
    """What a load test saw.

    Args:
        rate: requests/s that were meant.
        scheduled: requests of the schedule.
        latencies: seconds of those answered, from the scheduled time.
        errors: status → requests that failed with it; `NOT_SENT` are those that found
            too many others still under way.
        seconds: from the first scheduled request to the last answer.
        late: seconds by which the latest request left after its time.
    """

    rate: float
    scheduled: int
    latencies: np.ndarray
    errors: dict[str, int]
    seconds: float
    late: float

    def report(self) -> dict:
        """The figures as JSON."""
        milliseconds = self.latencies * 1e3
        latency = {}
        if len(milliseconds):
            latency = {f"p{p:g}": np.percentile(milliseconds, p) for p in PERCENTILES}
            latency |= {"mean": milliseconds.mean(), "max": milliseconds.max()}
        return {
            "rate": self.rate,
            "requests": self.scheduled,
            "answered": len(self.latencies),
            "errors": self.errors,
            "seconds": self.seconds,
            "throughput": len(self.latencies) / self.seconds,
            "latency_ms": {key: float(value) for key, value in latency.items()},
            "latest_departure_ms": self.late * 1e3,
            "histogram": histogram(milliseconds),
        }


def histogram(milliseconds: np.ndarray) -> list[dict]:
    """Counts by latency; bins grow by a tenth of a decade."""
    if not len(milliseconds):
        return []
    low, high = (np.log10(max(f(milliseconds), 1e-3)) for f in (np.min, np.max))
    edges = 10.0 ** (np.arange(np.floor(low * 10), np.floor(high * 10) + 2) / 10)
    counts, _ = np.histogram(np.maximum(milliseconds, 1e-3), edges)
    return [
        {"from_ms": float(edges[i]), "to_ms": float(edges[i + 1]), "count": int(count)}
        for i, count in enumerate(counts)
    ]


def run_load(send: Send, rate: float, seconds: float, timeout: float) -> Load:
    """Sends requests by schedule and waits for their answers.

    Args:
        send: see `Send`.
        rate: requests/s.
        seconds: of the schedule.
        timeout: seconds that a request may take, for which the last ones are waited.
    """
    scheduled = max(1, round(rate * seconds))
    if scheduled > _MAX_REQUESTS:
        raise UserError(
            f"A load test has at most {_MAX_REQUESTS:,} requests. "
            f"Received: {rate} requests/s for {seconds} s"
        )
    latencies: list[float] = []
    errors: collections.Counter[str] = collections.Counter()
    changed = threading.Condition()
    waiting = 0

    def done(due: float, error: str | None) -> None:
        nonlocal waiting
        now = time.perf_counter()
        with changed:
            waiting -= 1
            if error is None:
                latencies.append(now - due)
            else:
                errors[error] += 1
            changed.notify()

    late = 0.0
    start = time.perf_counter() + 0.01
    for index in range(scheduled):
        due = start + index / rate
        pause = due - time.perf_counter()
        if pause > 0:
            time.sleep(pause)
        late = max(late, time.perf_counter() - due)
        with changed:
            if waiting >= _MAX_WAITING:
                errors[NOT_SENT] += 1
                continue
            waiting += 1
        send(functools.partial(done, due))
    with changed:
        changed.wait_for(lambda: waiting == 0, timeout + 1.0)
        if waiting:
            errors[DEADLINE_EXCEEDED] += waiting
        elapsed = time.perf_counter() - start
        return Load(rate, scheduled, np.array(latencies), dict(errors), elapsed, late)


def plot(load: Load, path: str | Path, title: str) -> None:
    """Draws the histogram of latencies and their percentiles as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    report = load.report()
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    bins = report["histogram"]
    if bins:
        edges = [b["from_ms"] for b in bins] + [bins[-1]["to_ms"]]
        axes.stairs([b["count"] for b in bins], edges, fill=True, color="#4c72b0")
        axes.set_xscale("log")
    for index, p in enumerate(PERCENTILES if bins else ()):
        value = report["latency_ms"][f"p{p:g}"]
        style: Any = {"color": "#c44e52", "linestyle": ("-", "--", "-.", ":")[index]}
        axes.axvline(value, label=f"p{p:g}: {value:.1f} ms", **style)
    failed = sum(load.errors.values())
    axes.set_title(
        f"{title}: {load.rate:g} requests/s, {failed} of {load.scheduled} failed"
    )
    axes.set_xlabel("latency from the scheduled time, ms")
    axes.set_ylabel("requests")
    if bins:
        axes.legend()
    FigureCanvasAgg(figure).print_png(str(path))
