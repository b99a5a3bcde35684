"""A Flink session cluster of this machine, and Beam's job server for it."""

import functools
from collections.abc import Mapping
from pathlib import Path

from ctr_tf.ports import HOST, free_port, listens
from pipelines.engines.artifacts import cluster_jars, job_server_jars
from pipelines.engines.java import java
from pipelines.engines.services import Services, read_json

_ENTRY = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_WORKER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
_JOB_SERVER = "org.apache.beam.runners.flink.FlinkJobServerDriver"
_LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %-5p %c{1} - %m%n
"""
_MB = {  # of a TaskManager beside its heap
    "framework.heap.size": 128,
    "framework.off-heap.size": 128,
    "task.off-heap.size": 0,
    "network.min": 128,
    "network.max": 128,
    "jvm-metaspace.size": 512,
    "jvm-overhead.min": 192,
    "jvm-overhead.max": 192,
}


def start(services: Services, work: Path, memory_mb: int, slots: int) -> int:
    """Starts JobManager, TaskManager and job server.

    Args:
        services: to start them among.
        work: folder of their temporary files.
        memory_mb: heap of the TaskManager, and as much again where it sorts.
        slots: tasks that it runs at once.

    Returns:
        The job server's port.
    """
    cluster = [
        str(jar)
        for jar in sorted(cluster_jars("flink").iterdir())
        if "table" not in jar.name and "scala" not in jar.name
    ]
    # In the cluster's own class path: Flink keeps Python workers from stage to stage
    # only where Beam is not loaded with the job.
    cluster.insert(0, f"{job_server_jars('flink')}/*")
    (work / "flink-conf.yaml").write_text("")
    log4j = work / "log4j.properties"
    log4j.write_text(_LOGGING)
    java_here = functools.partial(
        java, temporary=work, properties=[f"-Dlog4j.configurationFile={log4j}"]
    )
    rest, rpc, jobs = free_port(), free_port(), free_port()
    settings = {
        "jobmanager.rpc.address": HOST,
        "jobmanager.rpc.port": rpc,
        "jobmanager.bind-host": HOST,
        "jobmanager.memory.process.size": "1g",
        "rest.address": HOST,
        "rest.bind-address": HOST,
        "rest.port": rest,
        "taskmanager.host": HOST,
        "taskmanager.bind-host": HOST,
        "io.tmp.dirs": work,
        "classloader.resolve-order": "parent-first",
    }
    of_the_worker = {
        **settings,
        "taskmanager.numberOfTaskSlots": slots,
        "taskmanager.cpu.cores": slots,
        "taskmanager.memory.task.heap.size": f"{memory_mb}m",
        "taskmanager.memory.managed.size": f"{memory_mb}m",  # where groups are sorted
        **{f"taskmanager.memory.{name}": f"{size}m" for name, size in _MB.items()},
    }
    services.start(
        "flink-jobmanager",
        java_here(_ENTRY, cluster, _words(work, settings), heap_mb=512),
        lambda: bool(read_json(rest, "/overview")),
    )
    heap_mb = memory_mb + _MB["framework.heap.size"]
    services.start(
        "flink-taskmanager",
        java_here(_WORKER, cluster, _words(work, of_the_worker), heap_mb=heap_mb),
        lambda: read_json(rest, "/overview").get("slots-available") == slots,
    )
    arguments = [
        f"--flink-master={HOST}:{rest}",
        *(f"--job-host={HOST}", f"--job-port={jobs}", "--artifact-port=0"),
        *("--expansion-port=0", f"--artifacts-dir={work / 'artifacts'}"),
    ]
    services.start(
        "beam-job-server",
        java_here(_JOB_SERVER, cluster, arguments, heap_mb=512),
        lambda: listens(jobs),
    )
    return jobs


def _words(work: Path, settings: Mapping[str, object]) -> list[str]:
    words = ["--configDir", str(work)]
    for name, value in settings.items():
        words += ["-D", f"{name}={value}"]
    return words
