"""Tables that are whole on every worker beside tables cut over the workers.

    ctr-tf bench tables [--workers 1 2 4] [--rows 1000000] [--rounds 3] [--json]

Every case is as many processes of this machine as it has workers, which train the
model of `ctr-tf bench embedding` under `fit`: rows of one table (width 32), the
row-wise Adam. Every worker looks up 20,000 ids a step, drawn by a power law, about a
quarter of them distinct. Measured after a warm-up: the median time of a step; what all
workers together send a step, by the loopback's counter, the median over blocks of
steps, since others may use it; and the bytes of the table and what the optimizer
remembers of it, and the peak memory, of a worker. Rounds go over all cases, one after
another: the median is told. One process has no other to send to, and whole tables.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.embedding import WIDTH, as_batches, trainer_of
from ctr_tf.errors import UserError
from ctr_tf.process_memory import peak_bytes

BATCH, IDS, EXPONENT = 100, 200, 1.15
BATCHES = 8
WARM_UP, BLOCKS, BLOCK = 10, 6, 10  # steps, blocks, steps of a block
KINDS = ("replicated", "sharded")
_COUNTERS = Path("/proc/net/dev")
_TIMEOUT = 600.0


def drawn(rows: int, worker: int) -> tuple[np.ndarray, np.ndarray]:
    """A worker's ids `[batches, B, ids]` and labels `[batches, B, 1]`."""
    random = np.random.default_rng(worker)
    share = np.arange(1, rows - 1, dtype=np.float64) ** -EXPONENT
    bound = np.cumsum(share) / share.sum()
    rank = np.searchsorted(bound, random.random((BATCHES, BATCH, IDS)))
    row_of_rank = np.random.default_rng(0).permutation(len(bound)) + 2
    ids = row_of_rank[np.minimum(rank, len(bound) - 1)]
    labels = random.integers(0, 2, (BATCHES, BATCH, 1)).astype(np.float32)
    return ids, labels


def measure_here(kind: str, rows: int) -> dict:
    """Measures one case as one of its workers, which TF_CONFIG tells.

    Args:
        kind: one of `KINDS`.
        rows: of the table.

    Returns:
        `seconds` a step and `sent` bytes of all workers (medians), the share of a
        step's ids that are `distinct`, `kept` bytes of table and slots, `peak` bytes.
    """
    import keras
    import tensorflow as tf

    from ctr_tf.training.distribution import (
        distribute,
        make_strategy,
        shard_of,
        wait_for_all,
        worker,
    )

    strategy = make_strategy("multi_worker" if "TF_CONFIG" in os.environ else "none")
    index, _ = worker(strategy)
    ids, labels = drawn(rows, index)
    with strategy.scope():
        keras.utils.set_random_seed(0)
        trainer = trainer_of(rows, shard_of(kind, strategy))

    class Clock(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seen = []

        def on_train_batch_end(self, batch, logs=None):
            float(logs["loss"])
            self.seen.append((time.perf_counter(), loopback_bytes()))

    def batches(**_):
        dataset = tf.data.Dataset.from_tensor_slices((ids, labels))
        return as_batches(dataset.cache().repeat())

    clock = Clock()
    trainer.fit(
        distribute(strategy, batches),
        steps_per_epoch=WARM_UP + BLOCKS * BLOCK + 1,
        shuffle=False,
        verbose=0,
        callbacks=[clock],
    )
    times, counted = np.array(clock.seen[WARM_UP:]).T
    found = {
        "seconds": statistics.median(np.diff(times).tolist()),
        "sent": statistics.median(np.diff(counted[::BLOCK]).tolist()) / BLOCK,
        "distinct": statistics.mean(len(np.unique(own)) for own in ids) / ids[0].size,
        "kept": sum(v.numpy().nbytes for v in trainer.store.variables),
        "peak": peak_bytes(),
    }
    wait_for_all(strategy)
    return found


def loopback_bytes() -> int:
    """Bytes that this machine has sent to itself."""
    lines = _COUNTERS.read_text().splitlines()
    (line,) = (line for line in lines if line.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[0])


def measure(kind: str, workers: int, rows: int) -> dict:
    """Measures one case in processes of its own; what the first of them found.

    Raises:
        RuntimeError: if one of them fails; says how it ended.
    """
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(workers)]
    addresses = ["{}:{}".format(*s.getsockname()) for s in sockets]
    for s in sockets:
        s.close()
    command = [sys.executable, "-m", "ctr_tf", "bench", "tables"]
    command += ["--case", kind, str(rows)]
    processes = []
    for index in range(workers):
        task = {"type": "worker", "index": index}
        config = {"cluster": {"worker": addresses}, "task": task}
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment.pop("TF_CONFIG", None)
        if workers > 1:
            environment["TF_CONFIG"] = json.dumps(config)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes.append(subprocess.Popen(command, env=environment, **pipes))
    try:
        ends = [process.communicate(timeout=_TIMEOUT) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, error) in zip(processes, ends, strict=True):
        if process.returncode:
            raise RuntimeError(
                f"A worker ended with status {process.returncode}: "
                f"{error.decode()[-2_000:]}"
            )
    return json.loads(ends[0][0].splitlines()[-1])


def report(workers: list[int], rows: int, rounds: int) -> dict:
    """Measures all cases in every round; the medians."""
    cases = [(kind, count) for count in workers for kind in KINDS if count > 1]
    cases += [(KINDS[0], count) for count in workers if count == 1]
    cases.sort(key=lambda case: case[1])
    found: dict[tuple[str, int], list[dict]] = {case: [] for case in cases}
    for number in range(rounds):
        for kind, count in cases:
            found[kind, count].append(measure(kind, count, rows))
            said = _words(found[kind, count][-1])
            _log(f"round {number + 1}, {count} workers, {kind}: {said}")
    return {
        "bench": "tables",
        "rows": rows,
        "width": WIDTH,
        "ids": BATCH * IDS,
        "rounds": rounds,
        "cores": len(os.sched_getaffinity(0)),
        "cases": [
            {
                "workers": count,
                "tables": kind,
                **{key: statistics.median(o[key] for o in own) for key in own[0]},
            }
            for (kind, count), own in found.items()
        ],
    }


def _words(case: dict) -> str:
    return (
        f"{1e3 * case['seconds']:.1f} ms, {case['sent'] / 1e3:,.0f} KB a step, "
        f"{case['kept'] / 2**20:,.0f} MiB kept, peak {case['peak'] / 2**20:,.0f} MiB"
    )


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _table(result: dict) -> str:
    return "\n".join(
        f"{case['workers']:>2} workers  {case['tables']:>10}  {_words(case)}"
        for case in result["cases"]
    )


def main(argv: list[str]) -> int:
    """`ctr-tf bench tables`."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf bench tables", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.case:
        print(json.dumps(measure_here(arguments.case[0], int(arguments.case[1]))))
        return 0
    for name, least in (("workers", 1), ("rows", 10), ("rounds", 1)):
        value = getattr(arguments, name)
        if np.min(value) < least:
            raise UserError(f"`--{name}` is at least {least}. Received: {value}")
    result = report(arguments.workers, arguments.rows, arguments.rounds)
    print(json.dumps(result) if arguments.json else _table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
