"""What starts an engine: programs that are stopped together, files that are checked."""

import hashlib
import os
import signal
import socket
import sys
import time

import pytest

from ctr_tf.errors import UserError
from ctr_tf.ports import HOST, free_port, free_ports, listens
from pipelines.engines.artifacts import check_sums
from pipelines.engines.engine import watched
from pipelines.engines.services import Services, read_json


def exists(process):
    """Whether a process is there, and no zombie."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_program_and_what_it_started_are_stopped(tmp_path):
    services = Services(tmp_path)
    log = tmp_path / "parent.log"
    command = ["sh", "-c", "sleep 1000 & echo $!; wait"]
    services.start("parent", command, lambda: log.read_text().endswith("\n"))
    parent, child = services.processes["parent"].pid, int(log.read_text())
    assert exists(parent) and exists(child)
    services.stop()
    deadline = time.monotonic() + 30
    while exists(parent) or exists(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_program_that_ends_is_told_with_its_last_words(tmp_path):
    services = Services(tmp_path)
    command = [sys.executable, "-c", "raise SystemExit('no room')"]
    with pytest.raises(RuntimeError, match=r"^broken is not up.*broken.log:\nno r"):
        services.start("broken", command, lambda: False)
    services.stop()


def test_nobody_answers_on_a_free_port():
    port = free_port()
    assert not listens(port)
    assert read_json(port, "/") == {}


def test_free_ports_differ_and_are_those_that_no_connection_gets():
    ports = free_ports(200)
    assert len(set(ports)) == 200
    assert max(ports) < 32_768  # where Linux begins


def test_ports_in_use_are_not_free(monkeypatch):
    port = free_port()
    with socket.create_server((HOST, port)):
        monkeypatch.setattr("ctr_tf.ports._PORTS", range(port, port + 1))
        assert listens(port)
        with pytest.raises(OSError, match=f"no 1 free ports from {port} to {port}"):
            free_port()
    assert free_port() == port


def test_files_must_have_the_checksums(tmp_path):
    folder, sums = tmp_path / "jars", tmp_path / "engine.sha256"
    folder.mkdir()
    (folder / "a.jar").write_bytes(b"a")
    (folder / "b.jar").write_bytes(b"b")
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in "ab"}
    sums.write_text("".join(f"{digests[name]}  {name}.jar\n" for name in "ab"))
    check_sums(folder, sums)
    (folder / "a.jar").write_bytes(b"A")
    os.rename(folder / "b.jar", folder / "c.jar")
    with pytest.raises(UserError, match=r"Received: a.jar, b.jar, c.jar$"):
        check_sums(folder, sums)


def test_a_program_that_ends_ends_what_needs_it(tmp_path):
    services = Services(tmp_path)
    end = tmp_path / "end"
    script = (
        "import pathlib, time\n"
        f"while not pathlib.Path({str(end)!r}).exists(): time.sleep(0.01)\n"
        "raise SystemExit('Terminating due to java.lang.OutOfMemoryError')"
    )
    services.start("worker", [sys.executable, "-c", script], lambda: True)
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in `… &` of a script
    try:
        with watched(services):
            assert services.ended() is None
        option = tmp_path / "option.log"
        option.write_text("-XX:+ExitOnOutOfMemoryError, as engines log it\n")
        with pytest.raises(RuntimeError, match="its own"), watched(services):
            raise RuntimeError("its own")
        executor = tmp_path / "executors" / "0" / "stderr"
        executor.parent.mkdir(parents=True)
        executor.write_text("java.lang.OutOfMemoryError: Java heap space\n")
        told = "^The job has failed. There was too little memory, see .*/0/stderr: "
        with pytest.raises(UserError, match=told), watched(services):
            raise RuntimeError("failed the maximum allowable number of times: 4")
        with pytest.raises(KeyboardInterrupt), watched(services):
            raise KeyboardInterrupt
        os.utime(executor, (0, 0))  # of an earlier job
        with pytest.raises(RuntimeError, match="its own"), watched(services):
            raise RuntimeError("its own")
        wanted = (
            r"^worker has ended, .* see .*worker.log. Received: the status 1 and "
            r"'Terminating .*OutOfMemoryError'. There was too little memory, see "
            r".*worker.log: --memory_mb gives more, and larger --num_shards and "
        )
        with pytest.raises(UserError, match=wanted), watched(services):
            end.touch()
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                time.sleep(0.05)
        with pytest.raises(UserError, match=wanted), watched(services):
            services.processes["worker"].wait()
            raise RuntimeError("what the job says then")
    finally:
        signal.signal(signal.SIGINT, ignored)
        services.stop()
