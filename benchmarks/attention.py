"""SparseCTR's attention beside full self-attention: time and peak memory.

    ctr-tf bench attention [--length 1024] [--repeats 15] [--json]
    KERAS_BACKEND=jax ctr-tf bench attention        without TensorFlow

All variants are the same model (d = 32, two blocks, eight heads) with the sparsity sets
S1 to S4 and with full causal self-attention ("full", the paper's A1), on the same
random batch, in one process with interleaved repeats; times are medians. What is timed
is the dense computation on rows already looked up, with and without XLA: the forward
pass, and forward and backward pass.

Peak memory is what XLA's buffer assignment reserves for one pass: arguments, result and
the arena that all intermediate tensors share. It is exact and the same on every run;
resident memory is neither. It exists for the compiled passes only.

On JAX everything is compiled by XLA, so that there is no mode `plain`. It needs the
extra `layers`, and JAX for the accelerator:

    pip install --editable '.[layers]' 'jax[cuda12]'
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ctr_tf.errors import UserError

VARIANTS = ("full", "S1", "S2", "S3", "S4")
PAPER_SPEED = {"full": 1.0, "S1": 8.9, "S2": 5.2, "S3": 4.0, "S4": 2.0}
PAPER_MEMORY = {"full": 87.5, "S1": 9.6, "S2": 22.0, "S3": 23.4, "S4": 44.4}
MODES = {"plain": False, "xla": True}
ROWS = 10_000


def _schema(length: int):
    from ctr_tf.schema import Bucketized, Categorical, Schema

    return Schema(
        name="bench",
        features=(
            Categorical("item_id", "item", dtype="int64"),
            Categorical("category", "item"),
            Bucketized("age", "user", num_values=100, dtype="int64"),
        ),
        history_length=length,
    )


def _inputs(schema, batch: int, candidates: int, num_chunks: int) -> dict:
    from ctr_tf.time import chunk_ids

    random = np.random.default_rng(0)
    length = schema.history_length
    gaps = random.exponential(size=(batch, length)) * 10 ** random.uniform(
        0, 5, (batch, length)
    )
    behavior_time = (
        1_700_000_000 - np.cumsum(gaps.astype(np.int64) + 1, axis=1)[:, ::-1]
    )
    valid = np.ones((batch, length), bool)
    inputs = {
        "request_time": np.full(batch, 1_700_000_000, np.int64),
        "behavior_time": behavior_time,
        "behavior_chunk": chunk_ids(behavior_time, valid, num_chunks).astype(np.int32),
        "candidate_mask": np.ones((batch, candidates), bool),
    }
    for group, features in schema.groups().items():
        count = {"behavior": length, "candidate": candidates}.get(group, 1)
        for feature in features:
            if feature.is_embedded:
                rows = feature.num_ids or ROWS
                value = random.integers(1, rows, (batch, count))
            else:
                value = random.normal(size=(batch, count)).astype(np.float32)
            inputs[f"{group}_{feature.name}"] = value
    return inputs


class Subject:
    """One variant with its passes, on the backend of Keras.

    Args:
        variant: of `VARIANTS`.
        length: N.
        batch: samples.
        candidates: C.
    """

    def __init__(self, variant: str, length: int, batch: int, candidates: int):
        from keras import ops

        from ctr_tf.models.sparse_ctr import SparseCTR
        from ctr_tf.models.sparse_ctr_config import SparseCTRConfig

        schema = _schema(length)
        config = (
            SparseCTRConfig(attention="full")
            if variant == "full"
            else SparseCTRConfig(sparsity=variant)
        )
        sizes = {
            feature.table: feature.num_ids or ROWS
            for feature in schema.features
            if feature.is_embedded
        }
        ranker = SparseCTR(schema, sizes, config)
        ranker.build()
        inputs = _inputs(schema, batch, candidates, ranker.num_chunks)
        inputs = {key: ops.convert_to_tensor(value) for key, value in inputs.items()}
        passes = JaxPasses if _on_jax() else TensorFlowPasses
        self.passes = passes(ranker, inputs, ranker.lookup(inputs))

    def run(self, mode: str, name: str) -> float:
        """Seconds of one pass."""
        start = time.perf_counter()
        self.passes.run(mode, name)
        return time.perf_counter() - start


def _on_jax() -> bool:
    import keras

    return keras.backend.backend() == "jax"


class TensorFlowPasses:
    """The passes of a ranker as `tf.function`s, with XLA and without."""

    def __init__(self, ranker, inputs: dict, rows: dict):
        import tensorflow as tf

        self.arguments = (inputs, rows)
        weights = [weight.value for weight in ranker.network if weight.trainable]

        def training(inputs, rows):
            with tf.GradientTape() as tape:
                tape.watch(rows)
                logits = ranker.logits(inputs, rows, training=True)
                loss = tf.reduce_mean(logits**2)
            return tape.gradient(loss, [weights, rows])

        self.functions = {
            (mode, name): tf.function(function, jit_compile=compiled)
            for mode, compiled in MODES.items()
            for name, function in (("forward", ranker.forward), ("training", training))
        }

    def run(self, mode: str, name: str) -> None:
        """Runs one pass, and waits for all that it gives."""
        import tensorflow as tf

        result = self.functions[mode, name](*self.arguments)
        for tensor in tf.nest.flatten(result):
            if tensor is not None:
                tf.convert_to_tensor(tensor).numpy()


class JaxPasses:
    """The passes of a ranker, compiled by JAX."""

    def __init__(self, ranker, inputs: dict, rows: dict):
        import jax
        import keras
        from keras import ops

        weights = [weight for weight in ranker.network if weight.trainable]

        def forward(values, rows, inputs, training=False):
            pairs = list(zip(weights, values, strict=True))
            with keras.StatelessScope(state_mapping=pairs):
                return ranker.logits(inputs, rows, training=training)

        def loss(values, rows, inputs):
            return ops.mean(forward(values, rows, inputs, training=True) ** 2)

        self.arguments = ([weight.value for weight in weights], rows, inputs)
        self.functions = {"forward": forward, "training": jax.grad(loss, (0, 1))}
        self.programs = {}

    def program(self, name: str):
        """The compiled pass."""
        import jax

        if name not in self.programs:
            traced = jax.jit(self.functions[name]).lower(*self.arguments)
            self.programs[name] = traced.compile()
        return self.programs[name]

    def run(self, mode: str, name: str) -> None:
        """Runs one pass, and waits for all that it gives."""
        import jax

        jax.block_until_ready(self.program(name)(*self.arguments))

    def peak_bytes(self, name: str) -> int:
        """What XLA reserves for one pass."""
        memory = self.program(name).memory_analysis()
        return (
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            + memory.temp_size_in_bytes
        )


def measure_times(variants, modes, length, batch, candidates, repeats) -> dict:
    """Median seconds, `{variant: {mode: {pass: seconds}}}`, repeats interleaved."""
    subjects = {name: Subject(name, length, batch, candidates) for name in variants}
    result = {name: {mode: {} for mode in modes} for name in variants}
    for mode in modes:
        for name in ("forward", "training"):
            seconds = {variant: [] for variant in variants}
            for subject in subjects.values():
                subject.run(mode, name)
            for _ in range(repeats):
                for variant, subject in subjects.items():
                    seconds[variant].append(subject.run(mode, name))
            for variant in variants:
                result[variant][mode][name] = statistics.median(seconds[variant])
            _log(f"{mode} {name}: timed")
    return result


def measure_memory(variant, name, length, batch, candidates) -> int:
    """Bytes XLA reserves for one pass; TensorFlow's is read from a process's dump."""
    if _on_jax():
        return Subject(variant, length, batch, candidates).passes.peak_bytes(name)
    with tempfile.TemporaryDirectory() as folder:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={folder}"
        environment = {**os.environ, "XLA_FLAGS": flags + " --xla_dump_hlo_as_text"}
        command = [sys.executable, "-m", "ctr_tf", "bench", "attention"]
        command += ["--compile_only", f"{variant},{name}", "--length", str(length)]
        command += ["--batch", str(batch), "--candidates", str(candidates)]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        totals = [
            int(re.search(r"Total bytes used: (\d+)", path.read_text())[1])
            for path in Path(folder).glob("*buffer-assignment.txt")
        ]
    return max(totals)


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _table(report: dict) -> str:
    lines = []
    for mode in report["modes"]:
        lines.append(
            f"{mode:6}  {'forward':>17}  {'forward+backward':>17}  "
            f"{'peak memory':>17}  {'of training':>17}  paper"
        )
        for variant, entry in report["variants"].items():
            cells = [f"{variant:6}"]
            for name in ("forward", "training"):
                one = entry[mode][name]
                cells.append(f"{one['seconds'] * 1e3:8.1f} ms {one['speedup']:5.1f}x")
            for name in ("forward", "training"):
                one = entry[mode][name]
                if "peak_bytes" in one:
                    share = f"{100 * one['memory_ratio']:5.1f}%"
                    cells.append(f"{one['peak_bytes'] / 2**20:7.1f} MiB {share}")
            ratio = 100 * PAPER_MEMORY[variant] / PAPER_MEMORY["full"]
            cells.append(f"{PAPER_SPEED[variant]}x, {ratio:.1f}%")
            lines.append("  ".join(cells))
        lines.append("")
    return "\n".join(lines)


def measure(names, modes, length, batch, candidates, repeats, memory=True) -> dict:
    """Everything, as the JSON object that `--json` prints; "full" is among `names`."""
    times = measure_times(names, modes, length, batch, candidates, repeats)
    variants = {}
    for variant in sorted(names, key=VARIANTS.index):
        variants[variant] = {"paper_speedup": PAPER_SPEED[variant]}
        variants[variant]["paper_memory_ratio"] = round(
            PAPER_MEMORY[variant] / PAPER_MEMORY["full"], 4
        )
        for mode in modes:
            variants[variant][mode] = {}
            for name in ("forward", "training"):
                seconds = times[variant][mode][name]
                entry = {
                    "seconds": seconds,
                    "speedup": times["full"][mode][name] / seconds,
                }
                if memory and MODES[mode]:
                    entry["peak_bytes"] = measure_memory(
                        variant, name, length, batch, candidates
                    )
                    full = variants["full"][mode][name] if variant != "full" else entry
                    entry["memory_ratio"] = entry["peak_bytes"] / full["peak_bytes"]
                variants[variant][mode][name] = entry
        _log(f"{variant}: measured")
    return {
        "bench": "attention",
        "length": length,
        "batch": batch,
        "candidates": candidates,
        "repeats": repeats,
        "cores": len(os.sched_getaffinity(0)),
        **_machine(),
        "modes": list(modes),
        "variants": variants,
    }


def _machine() -> dict:
    """Backend and device, by its own name."""
    if _on_jax():
        import jax

        return {"backend": "jax", "device": jax.devices()[0].device_kind}
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    details = tf.config.experimental.get_device_details(devices[0]) if devices else {}
    return {"backend": "tensorflow", "device": details.get("device_name", "cpu")}


def _modes(asked: list[str] | None) -> list[str]:
    """Those asked for, by default all that the backend has."""
    if not _on_jax():
        return asked or list(MODES)
    import jax

    jax.config.update("jax_enable_x64", True)  # times are 64-bit integers
    if asked and "plain" in asked:
        raise UserError(f"JAX has the mode `xla` alone. Received: modes={asked}")
    return ["xla"]


def main(argv: list[str]) -> int:
    """`ctr-tf bench attention`."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf bench attention", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--length", type=int, default=1024, help="N, behaviors")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--candidates", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--modes", nargs="+", choices=MODES, help="by default all")
    parser.add_argument("--no_memory", action="store_true", help="times only")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--compile_only", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    sizes = (arguments.length, arguments.batch, arguments.candidates)
    if min(*sizes, arguments.repeats) < 1:
        raise UserError(
            "Length, batch, candidates and repeats are positive. "
            f"Received: {(*sizes, arguments.repeats)}"
        )
    modes = _modes(arguments.modes)
    if arguments.compile_only:
        variant, name = arguments.compile_only.split(",")
        Subject(variant, *sizes).run("xla", name)
        return 0
    names = {"full", *arguments.variants}  # what the others are compared with
    report = measure(names, modes, *sizes, arguments.repeats, not arguments.no_memory)
    print(json.dumps(report) if arguments.json else _table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
