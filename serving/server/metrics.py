"""Counters and histograms in Prometheus' text format, under TF Serving's names.

TF Serving's names (`:tensorflow:serving:request_count`) lack the `_total` that a client
library would add, so that its dashboards also read this server, the few lines of the
format are written here.
"""

import bisect
import threading
from collections.abc import Callable

PREFIX = ":tensorflow:serving:"
# Of latencies in microseconds: 10 · 1.8^i, as TF Serving has them (to 20 minutes).
MICROSECONDS = tuple(10 * 1.8**i for i in range(33))
SIZES = tuple(2**i for i in range(11))


class Metric:
    """A counter or a gauge.

    Args:
        name: without the prefix.
        kind: `"counter"` or `"gauge"`.
        help: one line.
        labels: names of the labels.
    """

    def __init__(self, name: str, kind: str, help: str, labels: tuple[str, ...] = ()):
        self.name, self.kind, self.help, self.labels = name, kind, help, labels
        self._values: dict[tuple, float] = {}
        self._lock = threading.Lock()

    def add(self, amount: float, *labels: str) -> None:
        """Adds to the value of these labels."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + amount

    def replace(self, values: dict[tuple, float]) -> None:
        """Sets the values of all labels (a gauge)."""
        with self._lock:
            self._values = dict(values)

    def value(self, *labels: str) -> float:
        """The value of these labels."""
        return self._values.get(labels, 0)

    def lines(self) -> list[str]:
        """In the text format."""
        with self._lock:
            values = dict(self._values)
        return [
            f"{PREFIX}{self.name}{_braces(self.labels, labels)} {value:g}"
            if isinstance(value, float)
            else f"{PREFIX}{self.name}{_braces(self.labels, labels)} {value}"
            for labels, value in values.items()
        ]


class Histogram(Metric):
    """A distribution.

    Args:
        name: without the prefix.
        help: one line.
        labels: names of the labels.
        limits: upper ends of the buckets; one without end is added.
    """

    def __init__(
        self,
        name: str,
        help: str,
        labels: tuple[str, ...],
        limits: tuple[float, ...] = MICROSECONDS,
    ):
        super().__init__(name, "histogram", help, labels)
        self._limits = limits

    def add(self, amount: float, *labels: str) -> None:
        """Counts one observation."""
        with self._lock:
            if labels not in self._values:
                self._values[labels] = ([0] * (len(self._limits) + 1), [0.0])
            counts, total = self._values[labels]
            counts[bisect.bisect_left(self._limits, amount)] += 1
            total[0] += amount

    def lines(self) -> list[str]:
        """In the text format."""
        with self._lock:
            values = {k: (list(c), t[0]) for k, (c, t) in self._values.items()}
        result = []
        ends = [f"{limit:g}" for limit in self._limits] + ["+Inf"]
        for labels, (counts, total) in values.items():
            so_far = 0
            for end, count in zip(ends, counts, strict=True):
                so_far += count
                braces = _braces((*self.labels, "le"), (*labels, end))
                result.append(f"{PREFIX}{self.name}_bucket{braces} {so_far}")
            braces = _braces(self.labels, labels)
            result.append(f"{PREFIX}{self.name}_sum{braces} {total:.0f}")
            result.append(f"{PREFIX}{self.name}_count{braces} {so_far}")
        return result


def _braces(names: tuple[str, ...], values: tuple[str, ...]) -> str:
    if not names:
        return "{}"
    pairs = (
        f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True)
    )
    return "{" + ",".join(pairs) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Metrics:
    """All metrics of a server."""

    def __init__(self):
        model, api = ("model_name",), ("model_name", "API")
        self.requests = Metric(
            "request_count",
            "counter",
            "Requests by outcome.",
            ("model_name", "status"),
        )
        self.request_latency = Histogram(
            "request_latency",
            "Microseconds from a request's arrival to its answer.",
            (*api, "entrypoint"),
        )
        self.runtime_latency = Histogram(
            "runtime_latency",
            "Microseconds in TensorFlow's session, a batch.",
            (*api, "runtime"),
        )
        self.queuing_latency = Histogram(
            "batching_session:queuing_latency",
            "Microseconds in the queue, a request.",
            model,
        )
        self.batch_size = Histogram(
            "batching_session:processed_batch_size", "Rows of a batch.", model, SIZES
        )
        self.queued = Metric(
            "batching_session:queued_requests", "gauge", "In the queue.", model
        )
        self.versions = Metric(
            "model_version_state",
            "gauge",
            "1 for the state that a version is in.",
            ("model_name", "version", "state"),
        )
        self._before: list[Callable[[], None]] = []

    def before_page(self, update: Callable[[], None]) -> None:
        """Registers what brings gauges up to date."""
        self._before.append(update)

    def page(self) -> str:
        """Everything in Prometheus' text format."""
        for update in self._before:
            update()
        lines = []
        for metric in vars(self).values():
            if isinstance(metric, Metric):
                lines.append(f"# HELP {PREFIX}{metric.name} {metric.help}")
                lines.append(f"# TYPE {PREFIX}{metric.name} {metric.kind}")
                lines += metric.lines()
        return "\n".join(lines) + "\n"
