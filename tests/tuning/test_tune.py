"""`ctr-tf tune` and `ctr-tf compare --tune` with models that are really trained."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from small_run import write_small_data

from ctr_tf import config as configs
from ctr_tf.commands.main import main
from ctr_tf.data.dataset import dataset
from ctr_tf.data.prepared import PreparedData
from ctr_tf.training.config import Config
from ctr_tf.training.train import train

pytestmark = [pytest.mark.long, pytest.mark.study]

NOTHING_LEARNED = 1e-9
RECIPE = f"""
data: {{batch_size: 16}}
model: {{name: din, dim: 8, activation_units: [4], head_units: [8]}}
optimizer: {{learning_rate: {NOTHING_LEARNED:.1e}}}
training: {{epochs: 5}}
tune: {{optimizer.learning_rate: [{NOTHING_LEARNED:.1e}, 1.0e-2]}}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Whose test split has the right size and nothing in it that can be read."""
    folder = write_small_data(tmp_path_factory.mktemp("tuned") / "data")
    for path in (folder / "test").iterdir():
        path.write_bytes(bytes(path.stat().st_size))
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "din.yaml"
    path.write_text(RECIPE, "utf-8")
    return path


def words(data, recipe, output, trials):
    options = ["--data", str(data), "--config", str(recipe), "--trials", str(trials)]
    return ["tune", *options, "--output", str(output)]


def outcome(output):
    """All that is told of the trials but the time that they took."""
    told = json.loads((output / "trials.json").read_text("utf-8"))
    for trial in told["trials"]:
        assert trial.pop("seconds") > 0
    return told


def test_the_rate_that_learns_is_found_without_the_test_split(data, recipe, tmp_path):
    prepared = PreparedData.load(data)
    config = configs.load(Config, recipe).data
    with pytest.raises(Exception, match="corrupt|record"):
        for _ in dataset(prepared, "test", config, training=False, num_chunks=4):
            pass
    output = tmp_path / "study"
    assert main(words(data, recipe, output, 5)) == 0
    told = outcome(output)
    rates = [t["values"]["optimizer.learning_rate"] for t in told["trials"]]
    assert rates == [NOTHING_LEARNED, 1e-2], "two values, so two trials"
    blind, learned = (trial["value"] for trial in told["trials"])
    assert learned > max(blind, 0.6) and told["best"] == 2
    best = configs.load(Config, output / "best.yaml")
    assert best.optimizer.learning_rate == 1e-2
    metrics = train(best)
    assert metrics["validation"]["auc"] == pytest.approx(learned, abs=1e-6)


def kill_at(process, condition):
    """Kills a process and those that it has started, once a condition holds."""
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.long
def test_killed_in_a_trial_and_gone_on_with_equals_uninterrupted(
    data, recipe, tmp_path
):
    ranges = ["tune.optimizer.learning_rate={low: 1.0e-3, high: 1.0e-1, log: true}"]
    ranges += ["training.epochs=10", "training.checkpoint_every=1"]
    output, whole = tmp_path / "study", tmp_path / "whole"
    assert main([*words(data, recipe, whole, 3), *ranges]) == 0
    command = [sys.executable, "-m", "ctr_tf", *words(data, recipe, output, 3), *ranges]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    run = output / "runs" / "trial-002"
    kill_at(process, (run / "checkpoints" / "step-00000004").exists)
    assert not (run / "metrics.json").exists(), "the process was killed too late"
    assert main(command[3:]) == 0
    log = (output / "logs" / "trial-002.txt").read_text("utf-8")
    assert re.search(r"the run goes on after step [1-9]", log)
    assert outcome(output) == outcome(whole)


@pytest.mark.long
def test_each_model_of_a_comparison_is_tuned_by_itself(
    recipe, tmp_path, monkeypatch, capsys
):
    data, output = write_small_data(tmp_path / "data"), tmp_path / "compared"
    command = ["compare", "--data", str(data), "--config", str(recipe), "--seeds", "1"]
    command += ["--output", str(output), "--models", "din,tfrs", "--tune", "2"]
    command += ["--candidates", "4", "training.epochs=3"]
    assert main(command) == 0
    table = json.loads((output / "table.json").read_text("utf-8"))
    assert list(table["tuned"]) == ["din", "tfrs"]
    for model, found in table["tuned"].items():
        assert (found["trials"], found["failed"], found["best"]) == (2, 0, 2)
        told = outcome(output / "tuning" / model)
        assert found["value"] == max(trial["value"] for trial in told["trials"])
        run = (output / "recipes" / f"{model}-seed-0.yaml").read_text("utf-8")
        assert "learning_rate: 0.01\n" in run
    shown = capsys.readouterr().out
    assert "* din, tuned by 2 trials: `optimizer.learning_rate=0.01` (trial 2;" in shown
    assert table["budget"]["optimizer"]["learning_rate"] == NOTHING_LEARNED
    files = [*output.rglob("metrics.json")]
    before = {path: path.stat().st_mtime_ns for path in files}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in files} == before
