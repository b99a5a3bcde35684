"""Where a client keeps the states of users between requests: in memory, or in Redis.

A cache holds bytes under a key for a while. It is a help, never a need: what it cannot
give is counted and computed again.
"""

import collections
import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from ctr_tf.errors import UserError

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class CacheCounts:
    """What a cache was asked and how it went.

    Args:
        hits: states found.
        misses: states not there, or too old.
        errors: calls that failed, or were not tried after a failure.
        refused: states found that belong to another model.
    """

    hits: int = 0
    misses: int = 0
    errors: int = 0
    refused: int = 0


class StateCache:
    """States in memory; the one used longest ago goes first.

    Args:
        capacity: bytes of states at most.
        ttl: seconds a state is kept.
    """

    def __init__(self, capacity: int = 256 * 2**20, ttl: float = 300.0):
        for name, value in (("capacity", capacity), ("ttl", ttl)):
            if not value > 0:
                raise UserError(f"`{name}` must be positive. Received: {value!r}")
        self.capacity = capacity
        self.ttl = ttl
        self.counts = CacheCounts()
        self._bytes = 0
        self._entries: collections.OrderedDict[str, tuple[float, bytes]]
        self._entries = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        """The state under a key, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry[0] <= time.monotonic():
                self._remove(key)
                self.counts.misses += 1
                return None
            self._entries.move_to_end(key)
            self.counts.hits += 1
            return entry[1]

    def put(self, key: str, state: bytes) -> None:
        """Keeps a state."""
        with self._lock:
            self._remove(key)
            self._entries[key] = time.monotonic() + self.ttl, state
            self._bytes += len(state)
            while self._bytes > self.capacity:
                self._remove(next(iter(self._entries)))

    def delete(self, key: str) -> None:
        """Forgets a state."""
        with self._lock:
            self._remove(key)

    def __len__(self) -> int:
        return len(self._entries)

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= len(entry[1])


class RedisStateCache:
    """States in Redis, shared by all clients.

    A Redis that fails or is slow costs one short time-out; it is then left alone for
    `pause` seconds, during which every call counts as an error and finds nothing.

    Args:
        url: such as `redis://localhost:6379/0`.
        ttl: seconds a state is kept.
        timeout: seconds a call may take.
        pause: seconds before a Redis that failed is tried again.
    """

    def __init__(
        self, url: str, ttl: float = 300.0, timeout: float = 0.05, pause: float = 1.0
    ):
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        if not ttl > 0:
            raise UserError(f"`ttl` must be positive. Received: {ttl!r}")
        self.ttl = ttl
        self.counts = CacheCounts()
        self._error = redis.RedisError
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )
        self._pause = pause
        self._closed_until = 0.0
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        """The state under a key, or None."""
        reached, state = self._try(self._redis.get, key)
        if reached:
            with self._lock:
                self.counts.misses += state is None
                self.counts.hits += state is not None
        return state

    def put(self, key: str, state: bytes) -> None:
        """Keeps a state."""
        self._try(self._redis.set, key, state, px=max(1, int(self.ttl * 1_000)))

    def delete(self, key: str) -> None:
        """Forgets a state."""
        self._try(self._redis.delete, key)

    def _try(
        self, call: Callable, *arguments: Any, **options: Any
    ) -> tuple[bool, bytes | None]:
        if time.monotonic() < self._closed_until:
            self._failed()
            return False, None
        try:
            return True, call(*arguments, **options)
        except (self._error, OSError) as error:
            self._closed_until = time.monotonic() + self._pause
            self._failed()
            _log.warning("The state cache is out of reach, going without: %s", error)
            return False, None

    def _failed(self) -> None:
        with self._lock:
            self.counts.errors += 1
