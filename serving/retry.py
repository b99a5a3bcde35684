"""Repetition of calls that find a server unavailable, within a deadline."""

import collections
import dataclasses
import random
import time
from collections.abc import Callable
from typing import Any

from ctr_tf.errors import UserError
from serving.errors import DEADLINE_EXCEEDED, UNAVAILABLE, ServingError


@dataclasses.dataclass(frozen=True)
class Retry:
    """How often and when a call that found the server unavailable is repeated.

    Args:
        attempts: calls at most, the first among them.
        first: seconds at most before the second call; doubled before each next one.
        longest: seconds at most before any call.
    """

    attempts: int = 4
    first: float = 0.05
    longest: float = 1.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise UserError(f"`attempts` must be positive. Received: {self.attempts}")

    def wait(self, attempt: int) -> float:
        """Seconds before the call after the `attempt`-th, drawn anew each time."""
        return random.uniform(0, min(self.longest, self.first * 2 ** (attempt - 1)))


class Deadline:
    """Seconds that several calls share, and their repetition.

    Args:
        timeout: seconds from now.
        retry: of a call that finds the server unavailable.
        counts: of `"calls"` and `"retries"`, kept up to date.
    """

    def __init__(self, timeout: float, retry: Retry, counts: collections.Counter):
        self._timeout = timeout
        self._retry = retry
        self._counts = counts
        self._end = time.monotonic() + timeout

    def call(self, method: Callable, *arguments: Any, **options: Any) -> Any:
        """Calls `method(*arguments, timeout=…, **options)` until it answers.

        Raises:
            ServingError: of the last call, or `DEADLINE_EXCEEDED`.
        """
        attempt = 1
        while True:
            left = self._end - time.monotonic()
            if left <= 0:
                raise ServingError(
                    DEADLINE_EXCEEDED, f"No answer within {self._timeout} s."
                )
            self._counts["calls"] += 1
            try:
                return method(*arguments, timeout=left, **options)
            except ServingError as error:
                wait = self._retry.wait(attempt)
                late = time.monotonic() + wait >= self._end
                last = attempt >= self._retry.attempts
                if error.status != UNAVAILABLE or last or late:
                    raise
            self._counts["retries"] += 1
            time.sleep(wait)
            attempt += 1
