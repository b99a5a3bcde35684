"""Where the online store keeps its bytes: a folder on this machine, or Redis.

Both give single reads and transactions: whoever writes reads and writes alone, and
readers see all of it or nothing.
"""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgpack

from ctr_tf.errors import UserError
from ctr_tf.storage import as_local

_log = logging.getLogger(__name__)
_MAP_BYTES = 1 << 40  # address space, not disk
_LONGEST_KEY = 500  # LMDB's own limit is 511 bytes
_LOCK_SECONDS = 60.0


def make_key(kind: str, *parts: object) -> bytes:
    """The key of a value, by its kind and whose it is; long ones by their hash."""
    key = kind.encode() + msgpack.packb(parts)
    if len(key) > _LONGEST_KEY:
        return kind.encode() + hashlib.sha256(key).digest()
    return key


class Embedded:
    """Keys and values in a folder (LMDB): no server, many readers, one writer at once.

    Args:
        folder: made where it is not there.
        sync: whether a transaction waits for the disk; without it a crash of the
            machine may lose the last ones, never tear one.
    """

    def __init__(self, folder: str | Path, sync: bool = True):
        import lmdb

        as_local(folder, "`--store`").mkdir(parents=True, exist_ok=True)
        self._lmdb = lmdb.open(
            str(folder), map_size=_MAP_BYTES, max_readers=1_024, sync=sync
        )

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of some keys, None where there is none."""
        with self._lmdb.begin() as transaction:
            return list(map(transaction.get, keys))

    @contextlib.contextmanager
    def transaction(self) -> Iterator["Transaction"]:
        """Reads and writes alone; nothing is written where it raises."""
        with self._lmdb.begin(write=True) as inner:
            transaction = Transaction(lambda keys: list(map(inner.get, keys)))
            yield transaction
            for key, value in transaction.written.items():
                inner.put(key, value)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys and values."""
        with self._lmdb.begin() as transaction:
            yield from transaction.cursor()

    def size(self) -> tuple[int, int]:
        """Keys, and bytes on the disk."""
        pages, info = self._lmdb.stat(), self._lmdb.info()
        return pages["entries"], (info["last_pgno"] + 1) * pages["psize"]

    def close(self) -> None:
        """Frees the folder."""
        self._lmdb.close()


class Redis:
    """Keys and values in Redis, for many machines.

    Args:
        url: such as `redis://localhost:6379/0`.
        prefix: of all keys, so that several stores have room in one database.
        timeout: seconds for the server to answer.
    """

    def __init__(self, url: str, prefix: str = "ctr:", timeout: float = 1.0):
        import redis

        self._error = redis.RedisError
        self._redis: Any = redis.Redis.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout
        )
        self._prefix = prefix.encode()

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of some keys, None where there is none."""
        return self._redis.mget([self._prefix + key for key in keys]) if keys else []

    @contextlib.contextmanager
    def transaction(self) -> Iterator["Transaction"]:
        """Reads and writes alone, behind a lock; nothing is written where it raises."""
        name = self._prefix + b"lock"
        lock = self._redis.lock(
            name, timeout=_LOCK_SECONDS, blocking_timeout=_LOCK_SECONDS
        )
        if not lock.acquire():
            raise TimeoutError(
                "Another writer has held the store in Redis for "
                f"{_LOCK_SECONDS:g} s. Received: the lock {name.decode()!r}"
            )
        try:
            transaction = Transaction(self.get)
            yield transaction
            if transaction.written:
                lock.reacquire()  # raises where it went to another writer meanwhile
                self._redis.mset(
                    {self._prefix + k: v for k, v in transaction.written.items()}
                )
        finally:
            with contextlib.suppress(self._error):  # it ends by itself
                lock.release()

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys and values."""
        for key in self._redis.scan_iter(self._prefix + b"*", 10_000):
            yield key.removeprefix(self._prefix), self._redis.get(key) or b""

    def check_keeps(self) -> None:
        """Raises UserError if the server may evict keys that never expire, as these."""
        try:
            memory = self._redis.info("memory")
            most, policy = memory["maxmemory"], memory["maxmemory_policy"]
        except (self._error, KeyError) as error:
            _log.warning(
                "Redis does not tell its `maxmemory-policy` (%s), which must be "
                "noeviction: a store that loses keys counts wrongly",
                error,
            )
            return
        if most and policy.startswith("allkeys"):
            raise UserError(
                "A Redis that evicts keys keeps no online store: set `maxmemory-policy "
                "noeviction`, and keep users' states in another. Received: maxmemory="
                f"{most}, maxmemory-policy={policy}"
            )

    def size(self) -> tuple[int, int]:
        """Keys of this store, and bytes that the whole server uses."""
        count = sum(1 for _ in self._redis.scan_iter(self._prefix + b"*", 10_000))
        return count, int(self._redis.info("memory")["used_memory"])

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()


class Transaction:
    """What is written together, and read as if it were written already."""

    def __init__(self, read: Callable[[Sequence[bytes]], list[bytes | None]]):
        self._read = read
        self.written: dict[bytes, bytes] = {}

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of some keys, those written here too."""
        found = self._read(keys)
        return [self.written.get(k, v) for k, v in zip(keys, found, strict=True)]

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Writes values, once the transaction ends."""
        self.written.update(values)


KeyValue = Embedded | Redis


def open_key_value(where: str | Path, sync: bool = True) -> KeyValue:
    """A store of bytes: `redis://…`, or a folder.

    Args:
        where: URL or path.
        sync: see `Embedded`; Redis decides for itself.

    Raises:
        ConnectionError: if no Redis answers there; names the URL.
        UserError: if it is a Redis that evicts keys.
    """
    if "://" not in str(where):
        return Embedded(where, sync)
    if not str(where).startswith(("redis://", "rediss://")):
        raise UserError(
            "The online store is a folder or `redis://host:port/number`. "
            f"Received: '{where}'"
        )
    import redis

    store = Redis(str(where))
    try:
        store.get([b"any"])
    except (redis.RedisError, OSError) as error:
        raise ConnectionError(f"No Redis answers at '{where}': {error}") from error
    store.check_keeps()
    return store
