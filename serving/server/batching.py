"""Waiting requests, run together where they fit: the batching of TF Serving.

Requests of one version and signature whose tensors have equal shapes, but for the
number of rows, are concatenated; with `pad_variable_length_inputs` other axes that the
signature leaves open may differ too, and are padded on the right with each tensor's
first element. Then the outputs keep the longest request's size: a client takes as many
values as it gave candidates.

Unlike TF Serving, the queue answers RESOURCE_EXHAUSTED when it is full (there it is
UNAVAILABLE), requests that do not fit one batch go into different ones (there they
fail), and a request that fails does not take its neighbors along: they run again alone.
"""

import collections
import dataclasses
import itertools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
from grpc import StatusCode

from serving.server.errors import ServingError, invalid

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class BatchingOptions:
    """How requests wait and run.

    Args:
        max_batch_size: rows of a batch; a larger request is refused.
        batch_timeout_micros: how long a batch that is not full waits for more.
        num_batch_threads: batches under way at once.
        max_queued_requests: more waiting ones are refused.
        pad_variable_length_inputs: whether requests of different length share a batch.
    """

    max_batch_size: int = 64
    batch_timeout_micros: int = 0
    num_batch_threads: int = 2
    max_queued_requests: int = 128
    pad_variable_length_inputs: bool = False

    def __post_init__(self):
        for name, least in (
            ("max_batch_size", 1),
            ("batch_timeout_micros", 0),
            ("num_batch_threads", 1),
            ("max_queued_requests", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(
                    f"`{name}` must be at least {least}. "
                    f"Received: {getattr(self, name)}"
                )


Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]  # inputs → outputs


@dataclasses.dataclass(eq=False)
class Task:
    """A request in the queue.

    Args:
        run: what runs it; tasks of one batch have an equal `kind` and so an equal run.
        kind: of what may run together; None: this task runs alone.
        inputs: all with the same number of rows and in the same order for one `kind`,
            where it is given.
        open_axes: input → axes that may be padded.
        deadline: of `time.monotonic()`, by which it must be begun.
    """

    run: Run
    kind: object
    inputs: dict[str, np.ndarray]
    open_axes: dict[str, tuple[int, ...]]
    deadline: float | None = None
    future: Future = dataclasses.field(default_factory=Future)
    arrival: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def rows(self) -> int:
        """Rows of the request."""
        if self.kind is None:
            return 1
        return len(next(iter(self.inputs.values())))

    def group(self, pad: bool) -> object:
        """Equal for tasks that may share a batch."""
        if self.kind is None:
            return self
        shapes = []
        for name, array in self.inputs.items():
            shape = list(array.shape[1:])
            for axis in self.open_axes.get(name, ()) if pad else ():
                shape[axis - 1] = -1
            shapes.append((name, *shape))
        return self.kind, *shapes


class Batcher:
    """A bounded queue and the threads that empty it.

    Args:
        options: see there.
        on_batch: called with rows and the tasks' seconds in the queue, for metrics.
    """

    def __init__(
        self,
        options: BatchingOptions,
        on_batch: Callable[[int, list[float]], None] = lambda rows, waits: None,
    ):
        self.options = options
        self._on_batch = on_batch
        self._groups: dict[object, collections.deque[Task]] = {}
        self._size = 0
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{i}", daemon=True)
            for i in range(options.num_batch_threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return self._size

    @property
    def closed(self) -> bool:
        """Whether new tasks are refused for good."""
        return self._closed

    def check_room(self) -> None:
        """Refuses where the queue is full or closed.

        Raises:
            ServingError: RESOURCE_EXHAUSTED or UNAVAILABLE.
        """
        if self._closed:
            raise ServingError(StatusCode.UNAVAILABLE, "The server shuts down.")
        if self._size >= self.options.max_queued_requests:
            raise ServingError(
                StatusCode.RESOURCE_EXHAUSTED,
                f"The queue is full: {self._size} requests wait "
                f"(--max_queued_requests). Try again later.",
            )

    def submit(self, task: Task) -> Future:
        """Queues a task; its future gets the outputs or a ServingError.

        Raises:
            ServingError: as `check_room`, or INVALID_ARGUMENT for too many rows.
        """
        if task.rows > self.options.max_batch_size:
            raise invalid(
                f"A request may have {self.options.max_batch_size} rows "
                f"(--max_batch_size). Received: {task.rows}"
            )
        group = task.group(self.options.pad_variable_length_inputs)
        with self._changed:
            self.check_room()
            self._groups.setdefault(group, collections.deque()).append(task)
            self._size += 1
            self._changed.notify()
        return task.future

    def close(self, seconds: float | None = None) -> bool:
        """Takes no more tasks, runs what waits, and ends the threads.

        Args:
            seconds: that it may take.

        Returns:
            Whether all is done.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        end = None if seconds is None else time.monotonic() + seconds
        for thread in self._threads:
            thread.join(None if end is None else max(end - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while True:
            batch = self._take()
            if batch is None:
                return
            batch = [task for task in batch if _is_wanted(task)]
            if batch:
                now = time.monotonic()
                self._on_batch(
                    sum(task.rows for task in batch),
                    [now - task.arrival for task in batch],
                )
                _run(batch)

    def _take(self) -> list[Task] | None:
        """Waits for a batch: the group whose first task came first, if it is ready."""
        timeout = self.options.batch_timeout_micros / 1e6
        with self._changed:
            while True:
                wait = None
                now = time.monotonic()
                for group, tasks in sorted(
                    self._groups.items(), key=lambda item: item[1][0].arrival
                ):
                    left = tasks[0].arrival + timeout - now
                    full = (
                        sum(task.rows for task in tasks) >= self.options.max_batch_size
                    )
                    if left <= 0 or full or self._closed:
                        return self._pop(group)
                    wait = left if wait is None else min(wait, left)
                if self._closed:
                    return None
                self._changed.wait(wait)

    def _pop(self, group: object) -> list[Task]:
        tasks = self._groups[group]
        batch, rows = [], 0
        while tasks and rows + tasks[0].rows <= self.options.max_batch_size:
            rows += tasks[0].rows
            batch.append(tasks.popleft())
        if not tasks:
            del self._groups[group]
        self._size -= len(batch)
        if self._groups:
            self._changed.notify()
        return batch


def _is_wanted(task: Task) -> bool:
    if not task.future.set_running_or_notify_cancel():
        return False  # the client has gone
    if task.deadline is not None and task.deadline <= time.monotonic():
        task.future.set_exception(
            ServingError(
                StatusCode.DEADLINE_EXCEEDED, "The deadline passed in the queue."
            )
        )
        return False
    return True


def _run(batch: list[Task]) -> None:
    try:
        outputs = _run_together(batch)
    except Exception as error:  # whatever it is, every client gets an answer
        if len(batch) > 1:
            for task in batch:
                _run([task])
            return
        if not isinstance(error, ServingError):
            _log.exception("A batch failed.")
            error = ServingError(
                StatusCode.INTERNAL, f"{type(error).__name__}: {error}"
            )
        batch[0].future.set_exception(error)
        return
    for task, output in zip(batch, outputs, strict=True):
        task.future.set_result(output)


def _run_together(batch: list[Task]) -> list[dict[str, np.ndarray]]:
    first = batch[0]
    if first.kind is None:
        return [first.run(first.inputs)]
    inputs = {
        name: _concatenate(
            [task.inputs[name] for task in batch], first.open_axes.get(name, ())
        )
        for name in first.inputs
    }
    outputs = first.run(inputs)
    rows = [task.rows for task in batch]
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != sum(rows):
            raise ServingError(
                StatusCode.FAILED_PRECONDITION,
                f'Output "{name}" of a batch of {sum(rows)} rows has the shape '
                f"{list(array.shape)}.",
            )
    ends = itertools.accumulate(rows)
    return [
        {name: array[end - n : end] for name, array in outputs.items()}
        for n, end in zip(rows, ends, strict=True)
    ]


def _concatenate(arrays: list[np.ndarray], open_axes: tuple[int, ...]) -> np.ndarray:
    if len(arrays) == 1:
        return arrays[0]
    for axis in open_axes:
        size = max(array.shape[axis] for array in arrays)
        arrays = [_pad(array, axis, size) for array in arrays]
    return np.concatenate(arrays)


def _pad(array: np.ndarray, axis: int, size: int) -> np.ndarray:
    missing = size - array.shape[axis]
    if not missing:
        return array
    shape = list(array.shape)
    shape[axis] = missing
    if array.size:
        filler = np.full(shape, array.flat[0], array.dtype)
    else:
        filler = np.zeros(shape, array.dtype)
        if array.dtype.kind == "O":
            filler[...] = b""
    return np.concatenate([array, filler], axis=axis)
