"""Starts the workers of a training, and all again if one fails.

The command is `ctr_tf.commands.launch`.
"""

import argparse
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO

from ctr_tf.errors import UserError
from ctr_tf.ports import HOST, free_ports
from ctr_tf.training.statuses import LEFT, MISTAKE

_log = logging.getLogger(__name__)
_SECONDS_TO_LEAVE = 60.0  # for the others, once one has left in order
_SECONDS_TO_DIE = 5.0  # for the others, once one has failed
_LOOK_EVERY = 0.2  # seconds
_RANGE = re.compile(r"\[(\d+)-(\d+)\]")
_DISTRIBUTION = "training.distribution"


def expand_hosts(text: str) -> list[str]:
    """Addresses `host:port`, from a list by commas in which `[0-7]` is a range.

    Raises:
        UserError: if one has no port, or is there twice.
    """
    hosts = [host for part in text.split(",") for host in _expanded(part.strip())]
    wrong = [host for host in hosts if not host.rpartition(":")[2].isdecimal()]
    wrong += [host for host in hosts if hosts.count(host) > 1]
    if wrong:
        raise UserError(
            "`--hosts` lists host:port, each once, in the order of their `--index`. "
            f"Received: {wrong[0]!r} in {text!r}"
        )
    return hosts


def _expanded(text: str) -> Iterator[str]:
    found = _RANGE.search(text)
    if found is None:
        yield text
        return
    for number in range(int(found[1]), int(found[2]) + 1):
        yield from _expanded(text[: found.start()] + str(number) + text[found.end() :])


def environment_of(
    index: int, hosts: Sequence[str], place: int = 0, gpus: int | None = None
) -> dict[str, str]:
    """The variables by which a worker knows the others.

    Args:
        index: of the worker among the hosts.
        hosts: addresses of all workers.
        place: of the worker among those of its machine.
        gpus: of its machine, that each of those gets; None: it sees all.
    """
    task = {"type": "worker", "index": index}
    config = {"cluster": {"worker": list(hosts)}, "task": task}
    found = {"TF_CONFIG": json.dumps(config)}
    if gpus is not None:
        own = range(place * gpus, (place + 1) * gpus)
        found["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, own))
    return found


class Workers:
    """The workers of one training that run on this machine.

    Args:
        words: of the command, after `ctr-tf`.
        hosts: addresses of all workers.
        indices: of those that run here.
        gpus: of this machine, for each worker; None: it sees all.
    """

    def __init__(
        self,
        words: Sequence[str],
        hosts: Sequence[str],
        indices: Sequence[int],
        gpus: int | None = None,
    ):
        self.processes: dict[int, subprocess.Popen] = {}
        self._tellers = []
        for place, index in enumerate(indices):
            process = subprocess.Popen(
                [sys.executable, "-m", "ctr_tf", *words],
                env=os.environ | environment_of(index, hosts, place, gpus),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C is for this process
            )
            self.processes[index] = process
            assert process.stdout is not None
            teller = threading.Thread(target=_tell, args=(index, process.stdout))
            teller.start()
            self._tellers.append(teller)

    def statuses(self) -> dict[int, int | None]:
        """Index → exit status; None of a worker that is at work."""
        return {index: process.poll() for index, process in self.processes.items()}

    def signal(self, number: int) -> None:
        """Sends a signal to those that are at work."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(number)

    def wait(self, seconds: float) -> bool:
        """Waits until all have ended; whether they have within the time."""
        latest = time.monotonic() + seconds
        while None in self.statuses().values() and time.monotonic() < latest:
            time.sleep(_LOOK_EVERY)
        return None not in self.statuses().values()

    def end(self, seconds: float) -> None:
        """Ends those that have not ended by themselves within the time."""
        if not self.wait(seconds):
            self.signal(signal.SIGKILL)
        for process in self.processes.values():
            process.wait()
        for teller in self._tellers:
            teller.join()


def _tell(index: int, stream: IO[str]) -> None:
    for line in stream:
        sys.stdout.write(f"[{index}] {line}")
        sys.stdout.flush()


def launch(
    words: Sequence[str],
    hosts: Sequence[str] | None,
    indices: Sequence[int],
    restarts: int,
    gpus: int | None = None,
) -> int:
    """Runs workers to their end.

    Args:
        words: of the command, after `ctr-tf`.
        hosts: addresses of all workers; None: free ports of this machine, for the
            workers of `indices`.
        indices: of the workers that run here.
        restarts: how often all are started again.
        gpus: see `Workers`.

    Returns:
        The exit status: 0, or that of the worker which failed first.
    """
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    try:
        for attempt in range(restarts + 1):
            if attempt:
                _log.info("all workers are started again, %d of %d", attempt, restarts)
            addresses = hosts or [f"{HOST}:{port}" for port in free_ports(len(indices))]
            workers = Workers(words, addresses, indices, gpus)
            try:
                status = _watch(workers, told)
            finally:
                workers.signal(signal.SIGKILL)
            if status in (0, MISTAKE) or told:
                return status
        _log.info("a worker failed once more; `--restarts %d` is used up", restarts)
        return status
    finally:
        signal.signal(signal.SIGTERM, before)


def _watch(workers: Workers, told: Sequence[int]) -> int:
    """The status of the first worker that failed, once all have ended; or 0."""
    passed_on = False
    while True:
        if told and not passed_on:
            _log.info("told to leave: so are the workers")
            workers.signal(signal.SIGTERM)
            passed_on = True
        statuses = workers.statuses()
        failed = {index: status for index, status in statuses.items() if status}
        if failed:
            break
        if None not in statuses.values():
            return 0
        time.sleep(_LOOK_EVERY)
    (index, status), *_ = failed.items()
    if told and status == -signal.SIGTERM:
        status = LEFT  # it was told before it could listen
    if status == LEFT:
        _log.info("worker %d has left; the others are waited for", index)
        workers.end(_SECONDS_TO_LEAVE)
        return status
    what = f"status {status}" if status > 0 else signal.Signals(-status).name
    _log.info("worker %d ended by %s; the others are ended", index, what)
    workers.signal(signal.SIGTERM)
    workers.end(_SECONDS_TO_DIE)
    return status if status > 0 else 128 - status


def launch_cluster(options: argparse.Namespace, words: list[str]) -> int:
    """Launches what a command line says.

    Args:
        options: of the command.
        words: the command of a worker.
    """
    if not any(word.startswith(f"{_DISTRIBUTION}=") for word in words):
        words = [*words, f"{_DISTRIBUTION}=multi_worker"]
    hosts, indices = _cluster(options)
    return launch(words, hosts, indices, options.restarts, options.gpus_per_worker)


def _cluster(options: argparse.Namespace) -> tuple[list[str] | None, list[int]]:
    if (options.workers is None) == (options.hosts is None):
        raise UserError(
            "Either `--workers`, all on this machine, or `--hosts` and `--index`. "
            f"Received: --workers {options.workers}, --hosts {options.hosts}"
        )
    if options.restarts < 0:
        raise UserError(
            f"`--restarts` must not be negative. Received: {options.restarts}"
        )
    if options.workers is not None:
        for name in ("workers", "gpus_per_worker"):
            value = getattr(options, name)
            if value is not None and value < 1:
                raise UserError(f"`--{name}` must be positive. Received: {value}")
        if options.index is not None:
            raise UserError(
                f"`--index` belongs to `--hosts`. Received: --index {options.index}"
            )
        return None, list(range(options.workers))
    hosts = expand_hosts(options.hosts)
    if options.gpus_per_worker is not None:
        raise UserError(
            "`--gpus_per_worker` belongs to `--workers`; a machine's one worker has "
            f"all of its GPUs. Received: --gpus_per_worker {options.gpus_per_worker}"
        )
    if options.index is None or not 0 <= options.index < len(hosts):
        raise UserError(
            f"`--index` is this machine's place among the {len(hosts)} `--hosts`, "
            f"from 0. Received: {options.index}"
        )
    return hosts, [options.index]
