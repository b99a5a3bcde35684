"""A Beam job on a Flink or Spark cluster that is started for it on this machine.

```
ctr-tf engine flink prepare --source jsonl --input LOGS --output PREPARED
ctr-tf engine spark prepare --source jsonl --input LOGS --output PREPARED
```

Starts the engine's processes (JobManager and TaskManager, or master and worker), Beam's
job server for it and a pool of Python workers, runs the job there, and stops them all.
Without a job, they run until Ctrl-C; the options that bring a job there are told. The
engines and job servers are fetched into a cache folder, `~/.cache/ctr-tf` or
`$CTR_TF_CACHE`, when they are first needed: that takes Maven, and Java 17 runs them.

To run a job on a cluster that you have, see docs/engines.md.
"""

import _thread
import argparse
import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from ctr_tf.commands.arguments import Parser
from ctr_tf.commands.main import resolve
from ctr_tf.errors import UserError, check_positive_options
from ctr_tf.ports import HOST, free_port, listens
from pipelines.engines import flink, spark
from pipelines.engines.java import check_java
from pipelines.engines.services import Services

ENGINES = {"flink": flink, "spark": spark}
JOBS = ("prepare", "batch-score")
_log = logging.getLogger(__name__)
_WORKER_POOL = "apache_beam.runners.worker.worker_pool_main"
_PACKAGES = Path(__file__).parents[2]
_LOOK_SECONDS = 0.2  # between two looks whether a signal came
_CACHE_MILLIS = 600_000  # how long a Python worker waits for the next stage


@contextlib.contextmanager
def running(
    engine: str, logs: Path, memory_mb: int = 1024, slots: int = 2
) -> Iterator[tuple[Services, list[str]]]:
    """An engine with Beam's job server and a pool of Python workers, for a while.

    Args:
        engine: a key of `ENGINES`.
        logs: an existing folder, for the programs' log files.
        memory_mb: heap of the process that runs the engine's tasks.
        slots: tasks that it runs at once.

    Yields:
        The programs, and the options that bring a Beam job there.
    """
    check_java()
    services = Services(logs)
    work = Path(tempfile.mkdtemp(prefix=f"ctr-tf-{engine}-"))
    # Both clusters have Beam's jars already; without this, each job sends all of them.
    nothing = work / "nothing.jar"
    zipfile.ZipFile(nothing, "w").close()
    try:
        jobs = ENGINES[engine].start(services, work, memory_mb, slots)
        pool = free_port()
        path = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
        programs = [str(Path(sys.executable).parent), os.environ["PATH"]]
        services.start(
            "python-workers",
            [sys.executable, "-m", _WORKER_POOL, f"--service_port={pool}"],
            lambda: listens(pool),
            {  # The pool starts its workers by the name `python`.
                "PYTHONPATH": os.pathsep.join(path),
                "PATH": os.pathsep.join(programs),
                "TMPDIR": str(work),
            },
        )
        yield (
            services,
            [
                *("--runner=PortableRunner", f"--job_endpoint={HOST}:{jobs}"),
                *("--environment_type=EXTERNAL", f"--environment_config={HOST}:{pool}"),
                f"--environment_cache_millis={_CACHE_MILLIS}",
                f"--files_to_stage={nothing}",
            ],
        )
    finally:
        services.stop()
        shutil.rmtree(work)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("engine", __doc__, abbreviated=False)
    add = parser.add_argument
    add("engine", choices=ENGINES)
    add("--logs", help="folder of the programs' logs; default: a new temporary one")
    add("--memory_mb", type=int, default=1024, help="heap of the engine's worker")
    add("--slots", type=int, default=2, help="tasks that it runs at once")
    add(
        "job",
        nargs="?",
        choices=JOBS,
        help="followed by its own options, and any of Beam's and of the engine's",
    )
    return parser


def main(argv: list[str]) -> int:
    """The verb `ctr-tf engine`."""
    end = 1 + next((i for i, word in enumerate(argv) if word in JOBS), len(argv))
    options, of_the_job = _parser().parse_intermixed_args(argv[:end]), argv[end:]
    check_positive_options(options, "memory_mb", "slots")
    logs = Path(options.logs or tempfile.mkdtemp(prefix="ctr-tf-engine-logs-"))
    logs.mkdir(parents=True, exist_ok=True)
    _log.info("Logs of the engine: %s", logs)
    signal.signal(signal.SIGTERM, _interrupt)  # while programs start, too
    engine = running(options.engine, logs, options.memory_mb, options.slots)
    with engine as (services, words), watched(services):
        if options.job is None:
            _log.info("Ready until Ctrl-C. Options of a job: %s", " ".join(words))
            while True:  # a signal that another thread takes would not end a pause
                time.sleep(_LOOK_SECONDS)
        return resolve([options.job])[0].main([*words, *of_the_job])


@contextlib.contextmanager
def watched(services: Services) -> Iterator[None]:
    """Ends what the main thread does when a program ends that it needs.

    Raises:
        UserError: names the program, and says its last words; or says that memory was
            too little, where a job has failed.
    """
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_LOOK_SECONDS):
            if services.ended():
                _thread.interrupt_main(signal.SIGTERM)  # SIGINT may be ignored
                return

    before = signal.signal(signal.SIGTERM, _interrupt)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        try:
            yield
        finally:  # no interrupt comes later than here
            is_over.set()
            watcher.join()
            signal.signal(signal.SIGTERM, before)
    except (KeyboardInterrupt, RuntimeError) as error:
        told = services.ended()
        if told is None and isinstance(error, KeyboardInterrupt):
            raise
        if log := services.log_with("java.lang.OutOfMemoryError"):
            told = (
                f"{told or 'The job has failed'}. There was too little memory, see "
                f"{log}: --memory_mb gives more, and larger --num_shards and "
                "--num_buckets need less"
            )
        if told is None:
            raise
        raise UserError(told) from error


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
