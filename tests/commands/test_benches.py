"""`ctr-tf bench` finds its scripts in the checkout, whatever the working folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

from ctr_tf.commands.benches import BENCHES, load_bench

ROOT = Path(__file__).parents[2]


def bench(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "ctr_tf", "bench", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_every_bench_is_a_script_of_the_checkout():
    for name in BENCHES:
        module = load_bench(name)
        assert module.main
        assert Path(module.__file__) == ROOT / "benchmarks" / f"{name}.py"


def test_a_bench_runs_in_any_folder_beside_another_package_of_the_name(tmp_path):
    other = tmp_path / "benchmarks"
    other.mkdir()
    for name in ("__init__.py", "embedding.py"):
        (other / name).write_text("raise SystemExit('another package')\n", "utf-8")
    result = bench(tmp_path, "embedding", "--rows", "10000", "--json")
    assert result.returncode == 0, result.stderr[-3000:]
    (ours,) = (case["ours"] for case in json.loads(result.stdout)["cases"])
    assert ours["seconds"] > 0, ours
