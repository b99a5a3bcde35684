"""`ctr-tf serve` as a process of its own, on free ports."""

import contextlib
import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_STOP_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class ServerProcess:
    """A server that serves.

    Args:
        process: of the server.
        grpc: its address.
        rest: its address.
    """

    process: subprocess.Popen
    grpc: str
    rest: str


@contextlib.contextmanager
def running_server(models: str | Path) -> Iterator[ServerProcess]:
    """Starts a server, and stops it afterwards.

    Args:
        models: folder of versions.

    Raises:
        RuntimeError: if it does not serve; it has said why on standard error.
    """
    command = [sys.executable, "-m", "ctr_tf", "serve", "--export", str(models)]
    command += ["--grpc_port=0", "--rest_port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            banner = "".join(process.stdout.readline() for _ in range(4))
            addresses = re.findall(r"127\.0\.0\.1:\d+", banner)
            if len(addresses) != 2:
                raise RuntimeError(f"The server does not serve. Received: {banner!r}")
            yield ServerProcess(process, *addresses)
        finally:
            process.terminate()
            process.wait(_STOP_SECONDS)
