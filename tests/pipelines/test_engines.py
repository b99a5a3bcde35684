"""The listwise job on clusters of Flink and Spark: real processes of this machine.

Each engine is started once. The samples are those of the runner in this process, and a
job whose workers are killed ends with them, too, or leaves nothing.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from job_helpers import SCHEMA, run_job, write_log
from test_listwise import random_log

from pipelines import listwise
from pipelines.engines.engine import ENGINES, running

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
KUAIRAND = ROOT.parent / "shared" / "data" / "kuairand"
SECONDS = 400
BEAM_WAITS = 150
EXPOSURES = 5_000  # of each file of the real logs
LIMIT = ("--max_rejected_fraction", "0.3")
FILES = ("--num_buckets=2", "--num_shards=2")


class Cluster:
    """An engine, and jobs on it as processes of their own."""

    def __init__(self, engine, services, options):
        self.engine = engine
        self.services = services
        self.options = options
        self.jobs = []

    def prepare(self, *words):
        command = [sys.executable, "-m", "ctr_tf", "prepare", *self.options, *words]
        job = subprocess.Popen(
            [str(word) for word in command],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.jobs.append(job)
        return job

    def workers(self):
        """Process ids of the Python workers."""
        pool = self.services.processes["python-workers"].pid
        return children(pool)


def children(process):
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True
    )
    return [int(word) for word in found.stdout.split()]


@pytest.fixture(scope="module", params=ENGINES)
def cluster(request, tmp_path_factory):
    logs = tmp_path_factory.mktemp(request.param)
    with running(request.param, logs) as (services, options):
        cluster = Cluster(request.param, services, options)
        yield cluster
        for job in cluster.jobs:
            job.kill()
            job.wait()


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs") / "raw"
    write_log(folder, random_log(4, exposures=300, behaviors=300), SCHEMA)
    return folder


@pytest.fixture(scope="module")
def expected(raw, tmp_path_factory):
    """What the runner in this process makes of the same logs."""
    output = tmp_path_factory.mktemp("here") / "prepared"
    run_job(raw, output, *LIMIT, *FILES)
    return output


def contents(folder):
    """Relative path → bytes of every file."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def jsonl(raw, output):
    return ["--source=jsonl", f"--input={raw}", f"--output={output}", *LIMIT, *FILES]


def test_samples_are_those_of_the_run_in_this_process(cluster, raw, expected, tmp_path):
    job = cluster.prepare(*jsonl(raw, tmp_path / "there"))
    told, _ = job.communicate(timeout=SECONDS)
    assert job.returncode == 0, told
    there = contents(tmp_path / "there")
    assert there == contents(expected)
    assert any(there[name] for name in there if name.startswith("train/"))


def test_every_option_that_the_job_server_takes_passes(cluster):
    (endpoint,) = (o.split("=")[1] for o in cluster.options if "job_endpoint" in o)
    with grpc.insecure_channel(endpoint) as channel:
        service = beam_job_api_pb2_grpc.JobServiceStub(channel)
        request = beam_job_api_pb2.DescribePipelineOptionsRequest()
        names = [
            option.name for option in service.DescribePipelineOptions(request).options
        ]
    assert len(names) > 50
    runner = f"--runner={cluster.engine.capitalize()}Runner"
    known = PipelineOptions([]).get_all_options()
    for name in set(names) - known.keys():
        listwise.check_options([runner, f"--{name}=1"])


def real_logs(folder):
    """KuaiRand with the first of its exposures, whole histories, users and videos."""
    for path in sorted(KUAIRAND.iterdir()):
        if path.name in ("val.parquet", "test.parquet"):
            table = pq.read_table(path).slice(0, EXPOSURES)
            pq.write_table(table, folder / path.name)
        elif path.suffix in (".parquet", ".csv"):
            (folder / path.name).symlink_to(path)


@pytest.mark.study
def test_real_logs(cluster, tmp_path):
    if not KUAIRAND.is_dir():
        pytest.skip("the real data set 'kuairand' is not at ../shared/data/kuairand")
    raw = tmp_path / "raw"
    raw.mkdir()
    real_logs(raw)
    words = ["--source=kuairand", f"--input={raw}", *LIMIT]
    job = cluster.prepare(*words, f"--output={tmp_path / 'there'}")
    listwise.run([*words, f"--output={tmp_path / 'here'}"])
    told, _ = job.communicate(timeout=SECONDS)
    assert job.returncode == 0, told
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def check_right_or_nothing(job, folder, expected):
    try:
        told, _ = job.communicate(timeout=BEAM_WAITS)
    except subprocess.TimeoutExpired:
        # Beam waits without end for a worker that died before it was connected: whoever
        # runs the job ends it, and nothing is published.
        job.kill()
        job.communicate()
        assert not (folder / "there").exists()
        return
    if job.returncode == 0:
        assert contents(folder / "there") == contents(expected)
    else:
        assert list(folder.iterdir()) == [], told


def connected(cluster):
    """How many Python workers have been given data."""
    logs = [path for path in cluster.services.logs.rglob("*") if path.is_file()]
    return sum(path.read_bytes().count(b"Data client connected") for path in logs)


def started(cluster, raw, folder):
    """A job that has begun to work: all its Python workers are given data.

    Beam waits for one that died before: for minutes, or without end.
    """
    before, others = connected(cluster), set(cluster.workers())
    job = cluster.prepare(*jsonl(raw, folder / "there"))
    deadline = time.monotonic() + SECONDS
    while not 0 < len(set(cluster.workers()) - others) <= connected(cluster) - before:
        assert job.poll() is None and time.monotonic() < deadline, job.stdout.read()
        time.sleep(0.05)
    return job


def test_killed_python_workers_leave_right_samples_or_none(
    cluster, raw, expected, tmp_path
):
    job = started(cluster, raw, tmp_path)
    for worker in cluster.workers():
        os.kill(worker, signal.SIGKILL)
    check_right_or_nothing(job, tmp_path, expected)


def test_a_killed_worker_of_the_engine_leaves_right_samples_or_none(
    cluster, raw, expected, tmp_path
):
    job = started(cluster, raw, tmp_path)
    if cluster.engine == "flink":
        killed = [cluster.services.processes["flink-taskmanager"].pid]
    else:  # the worker's executor
        killed = children(cluster.services.processes["spark-worker"].pid)
    assert len(killed) == 1
    os.kill(killed[0], signal.SIGKILL)
    check_right_or_nothing(job, tmp_path, expected)
