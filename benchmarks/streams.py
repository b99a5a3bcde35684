"""What a worker's input costs, by the number of workers and where a run goes on.

    ctr-tf bench streams --data DATA [--batch_size 64] [--streams 64]
        [--workers 1,2,4,8,32] [--epochs 0,1,10] [--json]

Reads the training samples of a prepared data set as training does, each time in a
process of its own, since what TensorFlow has traced and allocated stays in one:

* one worker's share of an epoch, for each number of workers: CPU seconds, those to the
  first batch left out, and batches/s;
* the first batch of one worker of one after so many epochs: CPU and wall seconds;
* shares of padded places among those of behaviors and of candidates.
"""

import argparse
import json
import subprocess
import sys
import time

from ctr_tf.errors import check_positive_options


def measure(data: str, config: dict, workers: int, first_step: int, steps: int) -> dict:
    """Reads batches of one worker.

    Args:
        data: folder of the prepared data set.
        config: of `DataConfig`, but for the path.
        workers: that share the batches; the first is measured.
        first_step: to begin with.
        steps: batches to read after the first.
    """
    from ctr_tf.data.config import DataConfig
    from ctr_tf.data.dataset import dataset

    cpu, wall = time.process_time(), time.perf_counter()
    batches = iter(
        dataset(
            data,
            "train",
            DataConfig(**config),
            num_chunks=16,
            training=True,
            first_step=first_step,
            num_shards=workers,
        )
    )
    next(batches)
    first = time.process_time() - cpu, time.perf_counter() - wall
    cpu, wall = time.process_time(), time.perf_counter()
    places = [0, 0]
    real = [0, 0]
    for _ in range(steps):
        inputs, _, weights = next(batches)
        for which, mask in enumerate((inputs["behavior_time"], weights)):
            places[which] += mask.shape[0] * mask.shape[1]
            real[which] += int((mask.numpy() > 0).sum())
    return {
        "first_cpu": first[0],
        "first_wall": first[1],
        "cpu": time.process_time() - cpu,
        "batches_per_second": steps / (time.perf_counter() - wall),
        "padding": [1 - r / max(p, 1) for r, p in zip(real, places, strict=True)],
    }


def _apart(*arguments: object) -> dict:
    """`measure` in a process of its own."""
    code = (
        "import json, sys; from benchmarks.streams import measure; "
        "print(json.dumps(measure(*json.loads(sys.argv[1]))))"
    )
    words = [sys.executable, "-c", code, json.dumps(arguments)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str]) -> int:
    """Runs the benchmark."""
    from ctr_tf.data.config import DataConfig
    from ctr_tf.data.dataset import steps_per_epoch

    parser = argparse.ArgumentParser(
        prog="ctr-tf bench streams", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--data", required=True, help="a prepared data set")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--workers", default="1,2,4,8,32")
    parser.add_argument("--epochs", default="0,1,10", help="before the first batch")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    check_positive_options(options, "batch_size", "streams")
    config = {"batch_size": options.batch_size, "streams": options.streams}
    steps = steps_per_epoch(options.data, "train", DataConfig(**config))
    result = {
        "workers": {
            workers: _apart(options.data, config, int(workers), 0, steps - 1)
            for workers in options.workers.split(",")
        },
        "epochs": {
            epochs: _apart(options.data, config, 1, int(epochs) * steps, 0)
            for epochs in options.epochs.split(",")
        },
    }
    if options.json:
        print(json.dumps(result))
        return 0
    one = next(iter(result["workers"].values()))["cpu"]
    print("workers  CPU s an epoch   of the first  batches/s  padded places")
    for workers, found in result["workers"].items():
        padded = ", ".join(f"{share:.1%}" for share in found["padding"])
        rate = found["batches_per_second"]
        cpu = found["cpu"]
        print(f"{workers:>7}{cpu:>16.2f}{cpu / one:>15.3f}{rate:>11.0f}  {padded}")
    print("\nepochs before   CPU s to the first batch   seconds")
    for epochs, found in result["epochs"].items():
        print(f"{epochs:>13}{found['first_cpu']:>27.2f}{found['first_wall']:>10.2f}")
    return 0
