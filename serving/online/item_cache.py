"""Features of items, kept for a while: of a history's thousand few are new."""

import threading
import time
from collections.abc import Iterable

_SECONDS = 60.0  # for which an item is taken as known
_MOST = 200_000


class ItemCache:
    """Rows of items that were read lately; used by many threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[object, tuple[float, dict]] = {}  # by the time they were read

    def split(self, items: Iterable) -> tuple[dict[object, dict], list]:
        """Item → row, of those that are known, and the others."""
        now = time.monotonic()
        with self._lock:
            self._forget(now)
            found = {item: self._rows.get(item) for item in items}
        known = {item: row[1] for item, row in found.items() if row is not None}
        return known, [item for item, row in found.items() if row is None]

    def put(self, rows: dict[object, dict]) -> None:
        """Keeps rows that were just read."""
        until = time.monotonic() + _SECONDS
        with self._lock:
            for item, row in rows.items():
                self._rows.pop(item, None)  # to the end, where the latest are
                self._rows[item] = until, row

    def drop(self, items: Iterable) -> None:
        """Forgets items that have changed."""
        with self._lock:
            for item in items:
                self._rows.pop(item, None)

    def _forget(self, now: float) -> None:
        if len(self._rows) > _MOST:
            self._rows.clear()
        while self._rows:
            item = next(iter(self._rows))
            if self._rows[item][0] > now:
                return
            del self._rows[item]
