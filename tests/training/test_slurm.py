"""The SLURM script, with stand-ins for what only a cluster has."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "slurm" / "train.sbatch"
PROGRAMS = {
    "scontrol": '[ "$1" = show ] && printf "n1\\nn2\\n" || echo "$@" >> said',
    "srun": 'shift; export SLURM_PROCID=1; exec "$@"',
    "ctr-tf": 'echo "$@" >> said; exit "$STATUS"',
}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)

    def run(status):
        environment = {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "STATUS": str(status),
            "SLURM_JOB_ID": "17",
            "SLURM_JOB_NODELIST": "n[1-2]",
        }
        words = ["bash", SCRIPT, "--config", "sparsectr", "run=a b"]
        done = subprocess.run(words, env=environment, cwd=tmp_path)
        return done.returncode, (tmp_path / "said").read_text().splitlines()

    return run


def test_each_node_is_a_worker(run):
    status, said = run(0)
    assert status == 0
    assert said == [
        "launch --hosts n1:2222,n2:2222 --index 1 -- train --config sparsectr run=a b"
    ]


@pytest.mark.parametrize("status", [2, 75])
def test_a_job_that_left_is_queued_again_and_another_is_not(run, status):
    ended, said = run(status)
    assert ended == status
    assert (said[1:] == ["requeue 17"]) == (status == 75)
