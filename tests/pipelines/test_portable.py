"""The listwise job on Beam's portable job service, workers in other processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from job_helpers import SCHEMA, read_files, read_manifest, run_job, write_log
from test_listwise import random_log

from ctr_tf.ports import free_port, listens
from pipelines.engines.services import Services

ROOT = Path(__file__).resolve().parents[2]


def environment():
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # The worker pool starts its workers by the name `python`.
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}


@pytest.fixture
def services(tmp_path):
    services = Services(tmp_path)
    yield services
    services.stop()


def test_the_samples_are_those_of_the_run_in_this_process(tmp_path, services):
    log = random_log(4, exposures=300, behaviors=300)
    write_log(tmp_path / "raw", log, SCHEMA)
    jobs, workers = free_port(), free_port()
    for module, port, option in (
        ("portability.local_job_service_main", jobs, f"-p={jobs}"),
        ("worker.worker_pool_main", workers, f"--service_port={workers}"),
    ):
        command = [sys.executable, "-m", f"apache_beam.runners.{module}", option]
        services.start(module, command, lambda port=port: listens(port), environment())
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
