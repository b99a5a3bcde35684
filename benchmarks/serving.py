"""`ctr-tf bench serving`: one pass, kept states and the latency of a server.

    ctr-tf bench serving [--length 1024] [--seconds 30] [--json]

Exports an untrained SparseCTR (S2, d = 32, two blocks) on random histories of full
length, and measures, in one run,

* in this process, calls of the SavedModel one after the other, interleaved: one pass
  over 100 candidates beside 100 passes over one; 1,000 candidates; 100 candidates on a
  kept state (`score_candidates`) beside the full pass;
* over gRPC on `ctr-tf serve` in a process of its own, warm: latency at 10 requests/s of
  100 candidates each, full pass and kept state, counted from the scheduled time.

Ratios of calls are those of the fastest of each kind: other work on the machine only
ever adds time. Medians are given beside them. The export pads slates to 1, 100 and
1,000 candidates, so that no figure pays for padding.
"""

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.schemas import bench_schema
from benchmarks.server_process import running_server
from ctr_tf.errors import check_positive_options

_log = logging.getLogger(__name__)
_SLATES = (1, 100, 1_000)
_CANDIDATES = 100
_VALUES = 10_000
_SAMPLES = 8
_WARM_UP = 5
_TIMEOUT = 60.0  # of a call, seconds
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
    from ctr_tf.data.prepared import PreparedData
    from ctr_tf.models import build_ranker
    from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
    from ctr_tf.synthetic import random_samples
    from serving.export import ExportOptions, export_ranker

    schema = bench_schema(length)
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
    """Times calls in this process, in a session as TF Serving has it.

    Args:
        models: folder of versions.
        repeats: calls of each kind.
    """
    import tensorflow as tf

    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        calls = _calls(session, models)
        seconds = {name: [] for name in calls}
        for _ in range(_WARM_UP + repeats):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - start)
    measured = {name: values[_WARM_UP:] for name, values in seconds.items()}
    fastest = {name: min(values) for name, values in measured.items()}
    return {
        "fastest_ms": {name: 1e3 * value for name, value in fastest.items()},
        "median_ms": {
            name: 1e3 * statistics.median(values) for name, values in measured.items()
        },
        "singles_over_one_pass": 100 * fastest["full_1"] / fastest["full_100"],
        "microseconds_per_candidate": {
            str(size): 1e6 * fastest[f"full_{size}"] / size for size in _SLATES
        },
        "kept_over_full": fastest["kept_100"] / fastest["full_100"],
    }


def _calls(session, models: Path) -> dict[str, Callable]:
    """Name → a call of the SavedModel, loaded by TensorFlow's C++ loader."""
    import tensorflow as tf

    from ctr_tf.schema import Schema
    from serving.exported import EXTRA, SCHEMA, find_version
    from serving.request import request_to_tensors
    from serving.sample_requests import resized, sample_request

    folder = find_version(models)
    schema = Schema.load(folder / EXTRA / SCHEMA)
    request = sample_request(schema, folder)
    loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))

    def make(signature: str, tensors: dict, *outputs: str):
        definition = loaded.signature_def[signature]
        inputs = sorted(definition.inputs)
        call = session.make_callable(
            [definition.outputs[key].name for key in outputs or definition.outputs],
            [definition.inputs[key].name for key in inputs],
        )
        values = [tensors[key] for key in inputs]
        return lambda: call(*values)

    calls = {}
    for size in _SLATES:
        tensors = request_to_tensors(resized(request, size), schema)
        calls[f"full_{size}"] = make("serving_default", tensors, "logit")
        if size == _CANDIDATES:
            names = list(loaded.signature_def["encode_user"].outputs)
            state = make("encode_user", tensors, *names)()
            kept = tensors | dict(zip(names, state, strict=True))
            calls["kept_100"] = make("score_candidates", kept, "logit")
    return calls


def measure_latency(models: Path, rate: float, seconds: float) -> dict:
    """Latencies on the server by mode; see `serving.load.Load.report`."""
    from serving.client import Client
    from serving.defaults import MODES
    from serving.loadtest import load_test
    from serving.sample_requests import resized, sample_request

    reports = {}
    with (
        running_server(models) as server,
        Client(server.grpc, model_dir=models, timeout=_TIMEOUT) as client,
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
    # As `docker/compose.yaml` has it, before TensorFlow is imported: for matrices as
    # small as these, oneDNN's kernels take twice the time of Eigen's.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
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
        "cores": len(os.sched_getaffinity(0)),
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
    for name, value in report["fastest_ms"].items():
        median = report["median_ms"][name]
        lines.append(f"{name:<12}{value:>9.2f} ms a call, median {median:.2f} ms")
    for size, value in report["microseconds_per_candidate"].items():
        lines.append(f"C = {size:<8}{value:>9.1f} us a candidate")
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
    check_positive_options(options, "length", "repeats", "rate", "seconds")
    report = measure(options.length, options.repeats, options.rate, options.seconds)
    print(json.dumps(report) if options.json else _table(report))
    return 0
