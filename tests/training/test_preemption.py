"""A training leaves when it is told to, and goes on as if nothing had happened."""

import os
import signal

import pytest
import tensorflow as tf
import yaml
from test_distribution import launch
from test_train import assert_checkpoints_equal, data, recipe

from ctr_tf.config import parse
from ctr_tf.errors import UserError
from ctr_tf.training.config import Config, TrainingConfig
from ctr_tf.training.preemption import LeftError, Wishes, leaving_when_told
from ctr_tf.training.run import held_run
from ctr_tf.training.statuses import LEFT
from ctr_tf.training.train import train

__all__ = ["data"]
EPOCHS, STEPS = 4, 48
SAME = {"log_every": 1, "checkpoint_every": 1_000}


def words(data, run, **training):
    return recipe(data, run, epochs=EPOCHS, **SAME | training)


def train_here(data, run):
    return train(parse(Config, words(data, run)))


def command(data, folder, **training):
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(words(data, folder / "run", **training)), "utf-8")
    return ["-m", "ctr_tf", "train", "--config", str(path)]


def wait_for(process, words):
    """Reads what a process says up to a line with the words."""
    said = []
    for line in process.stderr:
        said.append(line)
        if words in line:
            return
    raise AssertionError("".join(said))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    assert train_here(data, run)["steps"] == STEPS
    return run / "checkpoints" / f"step-{STEPS:08d}"


@pytest.fixture
def start():
    """Starts processes, and ends those that a test leaves."""
    processes = []

    def start(words, task=None):
        processes.append(launch(words, task))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_told_to_leave_and_called_again_equals_uninterrupted(
    data, whole, tmp_path, start
):
    process = start(command(data, tmp_path))
    wait_for(process, "step  3/")
    process.terminate()
    _, said = process.communicate(timeout=240)
    assert process.returncode == LEFT, said
    (left,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    step = int(left.name.split("-")[1])
    assert 3 <= step < STEPS
    assert f"left after step {step}, with a checkpoint" in said
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert train_here(data, tmp_path / "run")["steps"] == STEPS
    assert_checkpoints_equal(whole, left.with_name(whole.name))


def test_a_checkpoint_by_time(data, tmp_path):
    run = tmp_path / "run"
    often = {"keep_checkpoints": 100, "validate_every": 1_000, "max_steps": 24}
    train(parse(Config, words(data, run, checkpoint_minutes=1e-9, **often)))
    steps = sorted(int(p.name[5:]) for p in (run / "checkpoints").glob("step-*"))
    assert steps == [*range(3, 24, 2), 24]


def test_two_processes_do_not_train_in_one_folder(data, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with held_run(run), pytest.raises(UserError, match=f"process trains in '{run}'"):
        with held_run(run):
            pass
    with held_run(run), held_run(run, worker=1):
        pass


def test_minutes_are_positive():
    with pytest.raises(UserError, match="checkpoint_minutes` must be positive. Rec"):
        TrainingConfig(checkpoint_minutes=0)


def test_a_signal_before_the_first_step_leaves_at_once_and_later_does_not():
    wishes = Wishes()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(LeftError, match="before the first step"):
        with leaving_when_told(wishes, alone=True):
            os.kill(os.getpid(), signal.SIGTERM)
    with leaving_when_told(wishes, alone=False):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    wishes.tell()
    wishes.stepped(wishes.over_replicas())
    assert not wishes.leave  # only of the step before, which need not be waited for
    wishes.stepped(wishes.over_replicas())
    assert wishes.leave


def test_a_wish_is_known_to_all_replicas_at_one_step():
    devices = tf.config.list_logical_devices("CPU")[:1]
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    wishes = Wishes()
    wishes.ask_to_save()
    for step in range(4):
        wishes.tell()
        wishes.stepped(strategy.run(wishes.over_replicas))
        assert wishes.take_save() == (step == 1)
