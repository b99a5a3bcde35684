"""Programs of one engine on this machine: each with a log file, stopped together."""

import http.client
import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ctr_tf.ports import HOST

_log = logging.getLogger(__name__)
_SECONDS_TO_START = 300.0
_SECONDS_TO_STOP = 20.0
_LAST_LINES = 15


class Services:
    """Programs that run in the background until `stop`.

    Args:
        logs: folder of their log files, `<name>.log`.
    """

    def __init__(self, logs: Path):
        self.logs = logs.resolve()
        self._begun = time.time()
        self.processes: dict[str, subprocess.Popen] = {}

    def start(
        self,
        name: str,
        command: Sequence[str],
        answers: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts a program and waits until it answers.

        Args:
            name: of the program.
            command: its words.
            answers: whether it is up.
            environment: variables added to those of this process.

        Raises:
            RuntimeError: if it ends, or does not answer in time.
        """
        path = self.logs / f"{name}.log"
        with path.open("wb") as log:
            # A session of its own: Ctrl-C is for this process, which stops all others.
            process = subprocess.Popen(
                command,
                env={**os.environ, **(environment or {})},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[name] = process
        deadline = time.monotonic() + _SECONDS_TO_START
        while not answers():
            if process.poll() is not None or time.monotonic() > deadline:
                last = _last_lines(path)
                raise RuntimeError("\n".join([f"{name} is not up, see {path}:", *last]))
            time.sleep(0.2)
        _log.info("%s is up", name)

    def ended(self) -> str | None:
        """What is told of a program that has ended by itself; None while all run."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                path = self.logs / f"{name}.log"
                last = "".join(_last_lines(path)[-1:])
                return (
                    f"{name} has ended, and what it worked at with it, see {path}. "
                    f"Received: the status {process.returncode} and '{last}'"
                )
        return None

    def log_with(self, words: str) -> Path | None:
        """The first file of the logs, of this time, that has these words, or None."""
        for path in sorted(self.logs.rglob("*")):
            if path.is_file() and path.stat().st_mtime >= self._begun:
                with path.open(errors="replace") as file:
                    if any(words in line for line in file):
                        return path
        return None

    def stop(self) -> None:
        """Stops all programs, the latest first, and what they started."""
        for process in reversed(self.processes.values()):
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + _SECONDS_TO_STOP
        for process in self.processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            _signal(process, signal.SIGKILL)
            process.wait()


def _last_lines(path: Path) -> list[str]:
    return path.read_text("utf-8", "replace").splitlines()[-_LAST_LINES:]


def read_json(port: int, path: str) -> dict[str, Any]:
    """What a web server of this machine answers; nothing if it does not yet."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return json.loads(answer.read()) if answer.status == 200 else {}
    except OSError:
        return {}
    finally:
        connection.close()


def _signal(process: subprocess.Popen, number: int) -> None:
    """Signals a program's session, of which some may outlive the program itself."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass
