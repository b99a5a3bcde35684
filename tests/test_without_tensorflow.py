"""The library of layers where TensorFlow is not: its import is shut out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jax")

ROOT = Path(__file__).parent.parent
HIDE = """
import sys


class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "tensorflow_io"):
            raise ModuleNotFoundError(f"{name} is shut out", name=name)


sys.meta_path.insert(0, Hidden())
"""
IMPORT_ALL = """
import ctr_tf.evaluation, ctr_tf.layers, ctr_tf.losses
import benchmarks.attention

for module in (ctr_tf.layers, ctr_tf.losses, ctr_tf.evaluation):
    for name in module.__all__:
        getattr(module, name)
import keras
print(keras.backend.backend(), "tensorflow" in sys.modules)
"""
BENCH = """
from ctr_tf.commands.main import main

sys.exit(main(["bench", "attention", *sys.argv[1:]]))
"""


def run(program, *words):
    result = subprocess.run(
        [sys.executable, "-c", HIDE + program, *words],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_the_library_and_its_bench_are_imported_under_jax():
    assert run(IMPORT_ALL) == "jax False\n"


@pytest.mark.long
def test_the_bench_of_attention_runs_under_jax():
    sizes = "--length 48 --batch 2 --candidates 3 --repeats 1 --variants S1 --json"
    report = json.loads(run(BENCH, *sizes.split()))
    assert report["backend"] == "jax" and report["modes"] == ["xla"]
    assert list(report["variants"]) == ["full", "S1"]
    for name in ("forward", "training"):
        found = report["variants"]["S1"]["xla"][name]
        assert found["seconds"] > 0 and 0 < found["memory_ratio"] < 10
