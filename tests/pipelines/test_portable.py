"""The listwise job on Beam's portable job service, workers in other processes."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from job_helpers import SCHEMA, read_files, read_manifest, run_job, write_log
from test_listwise import random_log

ROOT = Path(__file__).resolve().parents[2]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment():
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # The worker pool starts its workers by the name `python`.
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}


@pytest.fixture
def start(tmp_path):
    """Starts a module as a process that listens on a port, and ends it afterwards."""
    processes = []

    def start(module, port, *arguments):
        log = (tmp_path / f"{module}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        processes.append(process)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
        pytest.fail(f"{module} does not listen: {Path(log.name).read_text()}")

    yield start
    for process in processes:
        os.killpg(process.pid, 9)
        process.wait()


def test_the_samples_are_those_of_the_run_in_this_process(tmp_path, start):
    log = random_log(4, exposures=300, behaviors=300)
    write_log(tmp_path / "raw", log, SCHEMA)
    jobs, workers = free_port(), free_port()
    package = "apache_beam.runners"
    start(f"{package}.portability.local_job_service_main", jobs, "-p", str(jobs))
    start(f"{package}.worker.worker_pool_main", workers, f"--service_port={workers}")
    limit = ("--max_rejected_fraction", "0.3")
    run_job(tmp_path / "raw", tmp_path / "here", *limit)
    command = [sys.executable, "-m", "pipelines.listwise", "--source=jsonl"]
    command += [f"--input={tmp_path / 'raw'}", f"--output={tmp_path / 'there'}"]
    command += ["--num_buckets=2", "--num_shards=2", *limit, "--runner=PortableRunner"]
    command += [f"--job_endpoint=127.0.0.1:{jobs}", "--environment_type=EXTERNAL"]
    command += [f"--environment_config=127.0.0.1:{workers}"]
    subprocess.run(command, env=environment(), check=True, timeout=150)
    assert read_files(tmp_path / "there") == read_files(tmp_path / "here")
    assert read_manifest(tmp_path / "there") == read_manifest(tmp_path / "here")
