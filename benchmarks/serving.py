"""`ctr-tf bench serving`: one pass, kept states and the latency of a server.

    ctr-tf bench serving [--length 1024] [--seconds 30] [--json]

Exports an untrained SparseCTR (S2, d = 32, two blocks) on random histories of full
length, and measures, in one run,

* in this process, calls of the SavedModel's signatures one after the other, interleaved:
  one pass over 100 candidates beside 100 passes over one; 1,000 candidates; 100
  candidates on a kept state (`score_candidates`) beside the full pass;
* over gRPC on `ctr-tf serve` in a process of its own, warm: latency at 10 requests/s of
  100 candidates each, full pass and kept state, counted from the scheduled time.

The export pads slates to 1, 100 and 1,000 candidates, so that no figure pays for padding.
"""

import argparse
import contextlib
import json
import logging
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_log = logging.getLogger(__name__)
_SLATES = (1, 100, 1_000)
_CANDIDATES = 100
_VALUES = 10_000
_SAMPLES = 8
_START_SECONDS = 600.0
TARGETS = {
    "singles_over_one_pass": "≥ 50",
    "kept_over_full": "≤ 0.05",
    "full_p99_ms": "< 40",
    "cached_p99_ms": "< 5",
}


def export(folder: Path, length: int) -> Path:
    """Exports a model of random weights on random data.

    Args:
        folder: to write to.
        length: N, of every history.

    Returns:
        The folder of versions.
    """
    from ctr_tf.data import random_samples
    from ctr_tf.data.prepared import PreparedData
    from ctr_tf.models import SparseCTRConfig, build_ranker
    from ctr_tf.schema import Feature, Schema
    from serving.export import ExportOptions, export_ranker

    schema = Schema(
        name="bench",
        features=(
            Feature("item_id", "item", "categorical", dtype="int64"),
            Feature("category", "item", "categorical"),
            Feature("age", "user", "bucketized", boundaries=(18, 25, 35, 50)),
            Feature("device", "context", "categorical"),
            Feature("action", "behavior", "categorical"),
            Feature(
                "position", "candidate", "bucketized", num_values=32, dtype="int64"
            ),
        ),
        history_length=length,
    )
    vocabularies = random_samples.random_vocabularies(schema, _VALUES)
    random = np.random.default_rng(0)
    samples = [
        random_samples.random_sample(schema, vocabularies, random, length, 50)
        for _ in range(_SAMPLES)
    ]
    splits = {"train": samples, "validation": [], "test": samples}
    random_samples.write_prepared(folder / "data", schema, vocabularies, splits)
    data = PreparedData.load(folder / "data")
    ranker = build_ranker(
        SparseCTRConfig(sparsity="S2", dim=32, num_blocks=2),
        schema,
        vocabularies.table_sizes(schema),
    )
    options = ExportOptions(
        history_lengths=(length,), slate_sizes=_SLATES, batch_sizes=(1,)
    )
    export_ranker(ranker, data, folder / "models", options)
    return folder / "models"


def measure_calls(models: Path, repeats: int) -> dict:
    """Median seconds of calls in this process.

    Args:
        models: folder of versions.
        repeats: calls of each kind.
    """
    import tensorflow as tf

    from ctr_tf.schema import Schema
    from serving.exported import EXTRA, SCHEMA, find_version
    from serving.golden import call
    from serving.request import request_to_tensors
    from serving.sample_requests import resized, sample_request

    folder = find_version(models)
    schema = Schema.load(folder / EXTRA / SCHEMA)
    model = tf.saved_model.load(str(folder))
    signatures = model.signatures
    request = sample_request(schema, folder)
    calls = {}

    def add(name: str, signature: str, tensors: dict) -> None:
        specs = signatures[signature].structured_input_signature[1]
        inputs = {
            key: tf.convert_to_tensor(tensors[key], spec.dtype)
            for key, spec in specs.items()
        }
        calls[name] = lambda: signatures[signature](**inputs)["logit"].numpy()

    for size in _SLATES:
        tensors = request_to_tensors(resized(request, size), schema)
        add(f"full_{size}", "serving_default", tensors)
        if size == _CANDIDATES:
            state = call(signatures["encode_user"], tensors)
            add("kept_100", "score_candidates", tensors | state)
    for run in calls.values():
        for _ in range(3):
            run()
    seconds = {name: [] for name in calls}
    for _ in range(repeats):
        for name, run in calls.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "milliseconds": {name: 1e3 * value for name, value in median.items()},
        "singles_over_one_pass": 100 * median["full_1"] / median["full_100"],
        "microseconds_per_candidate": {
            str(size): 1e6 * median[f"full_{size}"] / size for size in _SLATES
        },
        "kept_over_full": median["kept_100"] / median["full_100"],
    }


@contextlib.contextmanager
def running_server(models: Path) -> Iterator[str]:
    """`ctr-tf serve` on free ports; gives the address of gRPC."""
    ports = []
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(str(probe.getsockname()[1]))
    command = [sys.executable, "-m", "serving.server", "--model", str(models)]
    command += ["--grpc_port", ports[0], "--rest_port", ports[1]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield f"127.0.0.1:{ports[0]}"
    finally:
        process.terminate()
        process.wait(60)


def measure_latency(models: Path, rate: float, seconds: float) -> dict:
    """Latencies on the server by mode; see `serving.load.Load.report`."""
    from serving.client import Client
    from serving.loadtest import MODES, load_test
    from serving.retry import Retry
    from serving.sample_requests import resized, sample_request

    retry = Retry(attempts=10_000, longest=0.5)
    reports = {}
    with (
        running_server(models) as target,
        Client(target, model_dir=models, timeout=_START_SECONDS, retry=retry) as client,
    ):
        request = resized(sample_request(client.schema(), models), _CANDIDATES)
        for mode in MODES:
            _log.info("%s: %g requests/s for %g s …", mode, rate, seconds)
            load = load_test(client, request, mode, rate, seconds)
            reports[mode] = load.report()
    return reports


def measure(length: int, repeats: int, rate: float, seconds: float) -> dict:
    """Everything, as the JSON object that `--json` prints.

    Args:
        length: N.
        repeats: calls of each kind in this process.
        rate: requests/s on the server.
        seconds: of load, each mode.
    """
    from serving.exported import Exported, find_version

    with tempfile.TemporaryDirectory() as temporary:
        _log.info("Exporting …")
        models = export(Path(temporary), length)
        _log.info("Calling the SavedModel …")
        report = measure_calls(models, repeats)
        latency = measure_latency(models, rate, seconds)
        state_bytes = Exported.load(find_version(models)).state.num_bytes
    return {
        "bench": "serving",
        "history_length": length,
        "candidates": _CANDIDATES,
        "repeats": repeats,
        "cores": os.cpu_count(),
        "state_bytes": state_bytes,
        **report,
        "full_p99_ms": latency["full"]["latency_ms"].get("p99"),
        "cached_p99_ms": latency["cached"]["latency_ms"].get("p99"),
        "server": latency,
    }


def _table(report: dict) -> str:
    lines = [
        f"N = {report['history_length']}, {report['cores']} cores, state of "
        f"{report['state_bytes']:,} bytes",
        "",
    ]
    lines += [
        f"{name:<12}{value:>9.2f} ms a call"
        for name, value in report["milliseconds"].items()
    ]
    lines += [
        f"{'C = ' + size:<12}{value:>9.1f} us a candidate"
        for size, value in report["microseconds_per_candidate"].items()
    ]
    for mode, load in report["server"].items():
        values = "  ".join(f"{k} {v:.1f}" for k, v in load["latency_ms"].items())
        lines.append(f"{mode:<12}{values} ms, {sum(load['errors'].values())} failed")
    lines += ["", f"{'figure':<24}{'measured':>10}   target"]
    for name, target in TARGETS.items():
        value = "-" if report[name] is None else f"{report[name]:.3f}"
        lines.append(f"{name:<24}{value:>10}   {target}")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf bench serving", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--length", type=int, default=1_024, help="N, behaviors")
    parser.add_argument("--repeats", type=int, default=30, help="calls of each kind")
    parser.add_argument("--rate", type=float, default=10.0, help="requests/s")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each load")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    for name in ("length", "repeats", "rate", "seconds"):
        if not getattr(options, name) > 0:
            raise ValueError(
                f"`--{name}` must be positive. Received: {getattr(options, name)}"
            )
    report = measure(options.length, options.repeats, options.rate, options.seconds)
    print(json.dumps(report) if options.json else _table(report))
    return 0
