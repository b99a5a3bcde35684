"""Free ports of this machine, for programs that are started on it."""

import random
import socket

HOST = "127.0.0.1"
# Below those that Linux gives to connections: a port stays free until its program
# listens, seconds later.
_PORTS = range(15_000, 32_000)
_random = random.SystemRandom()  # processes of one seed get ports of their own


def free_ports(count: int) -> list[int]:
    """Different ports of `HOST` that nobody listens on now.

    Raises:
        OSError: if there are too few.
    """
    found: list[int] = []
    for port in _random.sample(_PORTS, len(_PORTS)):
        if _is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"{HOST} has no {count} free ports from {_PORTS[0]} to {_PORTS[-1]}.")


def free_port() -> int:
    """A port of `HOST` that nobody listens on now."""
    return free_ports(1)[0]


def listens(port: int) -> bool:
    """Whether a program listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
