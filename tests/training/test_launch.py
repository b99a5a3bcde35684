"""Workers are started together, and again when one of them is lost."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from test_preemption import STEPS, command, data
from test_train import assert_checkpoints_equal

from ctr_tf.commands.launch import main
from ctr_tf.errors import UserError
from ctr_tf.training.distribution import make_strategy
from ctr_tf.training.launch import environment_of, expand_hosts
from ctr_tf.training.statuses import LEFT

__all__ = ["data"]
LAUNCH = [sys.executable, "-m", "ctr_tf", "launch"]


def test_hosts_are_listed_or_counted():
    assert expand_hosts("a:1, b:2") == ["a:1", "b:2"]
    assert expand_hosts("n[0-2].svc:22") == ["n0.svc:22", "n1.svc:22", "n2.svc:22"]
    assert expand_hosts("r[1-2]n[0-1]:5") == ["r1n0:5", "r1n1:5", "r2n0:5", "r2n1:5"]


@pytest.mark.parametrize(
    "words, message",
    [
        ([], r"Either `--workers`, .* Received: --workers None, --hosts None"),
        (["--workers", "2", "--hosts", "a:1"], "Either `--workers`"),
        (["--workers", "0"], "`--workers` must be positive. Received: 0"),
        (["--workers", "2", "--index", "1"], "`--index` belongs to `--hosts`"),
        (["--hosts", "a:1,b:2"], r"among the 2 `--hosts`, from 0. Received: None"),
        (["--hosts", "a:1,b:2", "--index", "2"], "from 0. Received: 2"),
        (["--hosts", "a:1,b", "--index", "0"], "Received: 'b' in 'a:1,b'"),
        (["--hosts", "a:1,a:1", "--index", "0"], "each once, .*Received: 'a:1' in"),
        (["--workers", "2", "--restarts", "-1"], "must not be negative. Received: -1"),
        (
            ["--hosts", "a:1", "--index", "0", "--gpus_per_worker", "1"],
            "belongs to",
        ),
    ],
)
def test_wrong_options_are_told(words, message):
    with pytest.raises(UserError, match=message):
        main([*words, "--", "train", "--config", "sparsectr"])


def test_only_trainings_are_launched():
    with pytest.raises(UserError, match="Received: evaluate --run run"):
        main(["--workers", "2", "--", "evaluate", "--run", "run"])


def test_workers_that_would_train_by_themselves_are_refused(monkeypatch):
    cluster = {"worker": ["a:1", "b:2"]}
    task = {"type": "worker", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    with pytest.raises(UserError, match="lists 2 workers, each of which"):
        make_strategy("none")


def test_each_worker_knows_the_others_and_gpus_of_its_own():
    found = environment_of(1, ["a:1", "b:2"], place=1, gpus=2)
    assert found["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert json.loads(found["TF_CONFIG"]) == {
        "cluster": {"worker": ["a:1", "b:2"]},
        "task": {"type": "worker", "index": 1},
    }
    assert set(environment_of(0, ["a:1"])) == {"TF_CONFIG"}


def test_a_mistake_is_not_tried_again(tmp_path):
    words = ["--workers", "2", "--", "train", "--config", "nowhere"]
    done = subprocess.run(
        [*LAUNCH, *words], capture_output=True, text=True, cwd=tmp_path, timeout=200
    )
    assert done.returncode == 2, done.stderr
    assert "ended by status 2; the others are ended" in done.stderr
    assert "started again" not in done.stderr
    assert "] ctr-tf: error: Unknown recipe 'nowhere'" in done.stdout


class Launched:
    """A launch of two workers, and what it says."""

    def __init__(self, words):
        self.lines = []
        self.process = subprocess.Popen(
            [*LAUNCH, "--workers", "2", "--", *words[2:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, words):
        for line in self.process.stdout:
            self.lines.append(line)
            if words in line:
                return
        raise AssertionError("".join(self.lines))

    def end(self):
        """The exit status, and all that was said."""
        timer = threading.Timer(300, self.process.kill)
        timer.start()
        self.lines += self.process.stdout
        timer.cancel()
        return self.process.wait(), "".join(self.lines)

    def workers(self):
        """Process ids, in the order of their start."""
        pid = self.process.pid
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(word) for word in text.split()]


@pytest.fixture(scope="module")
def whole_of_two(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    status, said = Launched(command(data, folder, checkpoint_every=5)).end()
    assert status == 0, said
    return folder / "run" / "checkpoints" / f"step-{STEPS:08d}"


@pytest.mark.long
def test_a_killed_worker_and_a_launch_told_to_leave_change_nothing(
    data, whole_of_two, tmp_path
):
    victim = 0  # on which the others depend the most
    words = command(data, tmp_path, checkpoint_every=5)
    launched = Launched(words)
    launched.wait_for("step  8/")
    os.kill(launched.workers()[victim], signal.SIGKILL)
    launched.wait_for("goes on after step")
    launched.wait_for("examples/s")
    launched.process.terminate()
    status, said = launched.end()
    assert status == LEFT, said
    assert f"worker {victim} ended by SIGKILL; the others are ended" in said
    assert "all workers are started again, 1 of 10" in said
    left = re.findall(r"^\[.\] [\d:]+  left (?:after step|during a valid)", said, re.M)
    assert len(left) == 2, said
    status, said = Launched(words).end()
    assert status == 0, said
    last = tmp_path / "run" / "checkpoints" / whole_of_two.name
    assert_checkpoints_equal(whole_of_two, last)
