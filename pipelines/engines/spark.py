"""A standalone Spark cluster of this machine, and Beam's job server for it."""

from pathlib import Path

from ctr_tf.ports import HOST, free_port, listens
from pipelines.engines.artifacts import cluster_jars, job_server_jars
from pipelines.engines.java import java
from pipelines.engines.services import Services, read_json

_MASTER = "org.apache.spark.deploy.master.Master"
_WORKER = "org.apache.spark.deploy.worker.Worker"
_JOB_SERVER = "org.apache.beam.runners.spark.SparkJobServerDriver"
_SCALA = "2.12"


def start(services: Services, work: Path, memory_mb: int, slots: int) -> int:
    """Starts master, worker and job server.

    Args:
        services: to start them among.
        work: folder of their temporary files.
        memory_mb: heap of the worker's executor.
        slots: tasks that it runs at once.

    Returns:
        The job server's port.
    """
    home = work / "spark"
    home.mkdir()
    (home / "jars").symlink_to(cluster_jars("spark"))
    cluster, beam = f"{home}/jars/*", f"{job_server_jars('spark')}/*"
    environment = {
        "SPARK_HOME": str(home),
        "SPARK_SCALA_VERSION": _SCALA,
        "SPARK_LOCAL_IP": HOST,
        "SPARK_LOCAL_DIRS": str(work),
    }
    master, web, jobs = free_port(), free_port(), free_port()
    url = f"spark://{HOST}:{master}"
    services.start(
        "spark-master",
        java(
            _MASTER,
            [cluster],
            ["--host", HOST, "--port", str(master), "--webui-port", str(web)],
            heap_mb=512,
            temporary=work,
        ),
        lambda: bool(read_json(web, "/json/")),
        environment,
    )
    size = ["--cores", str(slots), "--memory", f"{memory_mb}m"]
    executors = services.logs / "spark-executors"
    places = ["--host", HOST, "--webui-port", "0", "--work-dir", str(executors)]
    services.start(
        "spark-worker",
        java(
            _WORKER,
            [cluster],
            [*size, *places, url],
            heap_mb=512,
            temporary=work,
        ),
        lambda: read_json(web, "/json/").get("aliveworkers") == 1,
        environment,
    )
    properties = {
        "spark.driver.host": HOST,
        "spark.driver.bindAddress": HOST,
        "spark.ui.enabled": "false",
        "spark.executor.memory": f"{memory_mb}m",
        # Before Spark's own: Beam's options need a newer Guava.
        "spark.executor.extraClassPath": beam,
    }
    arguments = [
        f"--spark-master-url={url}",
        *(f"--job-host={HOST}", f"--job-port={jobs}", "--artifact-port=0"),
        *("--expansion-port=0", f"--artifacts-dir={work / 'artifacts'}"),
    ]
    services.start(
        "beam-job-server",
        java(
            _JOB_SERVER,
            [beam, cluster],
            arguments,
            heap_mb=1024,
            temporary=work,
            properties=[f"-D{name}={value}" for name, value in properties.items()],
        ),
        lambda: listens(jobs),
        environment,
    )
    return jobs
