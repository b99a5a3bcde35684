"""A study of runs that are made up: order, resumption, failures, the report."""

import json
import shutil

import pytest
import yaml
from made_up_runs import make_up_runs
from small_run import write_small_data

from ctr_tf import config as configs
from ctr_tf.commands.main import main
from ctr_tf.training.config import Config
from ctr_tf.tuning.study import Trial

RECIPE = """
run: elsewhere
model: {name: din, dim: 16}
optimizer: {learning_rate: 1.0e-3}
tune:
  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
  model.dim: [16, 32]
  model.num_heads: [2, 4]
"""


def reached(recipe):
    rate, dim = recipe["optimizer"]["learning_rate"], recipe["model"]["dim"]
    return 0.6 + 0.2 * (rate > 1e-3) + 0.001 * dim - rate


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("tuned") / "data")


@pytest.fixture
def words(data, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE, "utf-8")
    output = tmp_path / "study"
    options = ["--data", str(data), "--config", str(path), "--output", str(output)]
    return output, ["tune", *options]


def trials(output):
    return json.loads((output / "trials.json").read_text("utf-8"))["trials"]


def test_the_first_trial_is_the_recipe_and_the_best_one_a_recipe(
    words, data, monkeypatch, capsys
):
    output, command = words
    done = make_up_runs(monkeypatch, reached)
    assert main([*command, "--trials", "8"]) == 0
    assert done == [f"trial-{number:03d}" for number in range(1, 9)]
    first, *others = trials(output)
    assert first["values"] == {
        "optimizer.learning_rate": 1e-3, "model.dim": 16, "model.num_heads": 4,
    }  # fmt: skip
    begun = yaml.safe_load((output / "recipes" / "trial-001.yaml").read_text("utf-8"))
    recipe = configs.to_mapping(configs.parse(Config, yaml.safe_load(RECIPE)))
    changed = configs.differences(recipe, begun)
    assert [line.split(" ")[0] for line in changed if line[:4] != "tune"] == [
        "data.path", "run",
    ]  # fmt: skip
    best = max([first, *others], key=lambda trial: trial["value"])
    assert best["value"] > first["value"]
    config = configs.load(Config, output / "best.yaml")
    assert config.optimizer.learning_rate == best["values"]["optimizer.learning_rate"]
    assert config.model.dim == best["values"]["model.dim"]
    assert config.data.path == str(data) and config.run == str(output / "best")
    assert set(config.tune) == set(first["values"])
    shown = capsys.readouterr().out
    assert shown.startswith((output / "trials.md").read_text("utf-8"))
    assert f"| **{best['number']}** | **{best['value']:.4f}** | **12** |" in shown
    told = json.loads((output / "trials.json").read_text("utf-8"))
    assert told["best"] == best["number"] and told["monitor"] == "auc"
    assert next(iter(told["importances"])) == "optimizer.learning_rate"
    assert (output / "tuning.png").stat().st_size > 20_000


@pytest.mark.parametrize("interrupted", [1, 8])
def test_an_interrupted_study_ends_like_another(interrupted, words, monkeypatch):
    output, command = words
    with monkeypatch.context() as patched:
        make_up_runs(patched, reached)
        assert main([*command, "--trials", "9"]) == 0
    whole = trials(output)
    shutil.rmtree(output)
    calls = []

    def killed(recipe):
        calls.append(recipe["run"])
        if len(calls) == interrupted:
            raise KeyboardInterrupt  # the recipe is written, the run is not
        return reached(recipe)

    with monkeypatch.context() as patched:
        make_up_runs(patched, killed)
        assert main([*command, "--trials", "9"]) == 130
    done = make_up_runs(monkeypatch, reached)
    assert main([*command, "--trials", "5"]) == 0
    assert main([*command, "--trials", "9"]) == 0
    assert done[0] == f"trial-{interrupted:03d}" and len(set(done)) == len(done)
    assert trials(output) == whole


def test_what_was_begun_is_gone_on_with_only_as_it_was(words, monkeypatch, capsys):
    output, command = words
    done = make_up_runs(monkeypatch, reached)
    command += ["--trials", "2"]
    assert main(command) == 0
    for word, *parts in (
        ("training.epochs=2", "begun with another recipe", "training.epochs (1 and 2)"),
        ("tune.model.dim=[16, 64]", "begun with other ranges", "differ in model.dim"),
        ("model.dim=32", "begun with other ranges", "differ in model.dim"),
    ):
        assert main([*command, word]) == 2
        told = capsys.readouterr().err
        assert all(part in told for part in parts), told
    assert len(done) == 2


def test_failed_trials_are_told_counted_and_tried_again(words, monkeypatch, capsys):
    output, command = words

    def broken(recipe):
        return None if recipe["run"].endswith("trial-002") else reached(recipe)

    with monkeypatch.context() as patched:
        make_up_runs(patched, broken)
        assert main([*command, "--trials", "3"]) == 0
    shown = capsys.readouterr().out
    assert "| 2 (failed) | – | – |" in shown
    assert "* Trial 2 failed: the loss is no number" in shown
    assert [trial["value"] is None for trial in trials(output)] == [False, True, False]
    before = [trial["values"] for trial in trials(output)]
    done = make_up_runs(monkeypatch, reached)
    assert main([*command, "--trials", "3"]) == 0
    assert done == ["trial-002"]
    assert [trial["values"] for trial in trials(output)] == before


def test_a_recipe_that_never_trains_is_given_up(words, monkeypatch, capsys):
    output, command = words
    done = make_up_runs(monkeypatch, lambda recipe: None)
    assert main([*command, "--trials", "20"]) == 2
    assert "No trial came to its end" in capsys.readouterr().err
    assert len(done) == 3


def test_values_that_do_not_go_together_are_left_out(words, monkeypatch, caplog):
    output, command = words
    make_up_runs(monkeypatch, reached)
    caplog.set_level("INFO")
    words = ["tune={model: {dim: [16, 24], num_heads: [4, 8, 16]}}"]
    assert main([*command, "--trials", "9", *words]) == 0
    tried = {tuple(trial["values"].values()) for trial in trials(output)}
    assert tried == {(16, 4), (16, 8), (16, 16), (24, 4), (24, 8)}
    assert "not tried: `model`:" in caplog.text
    assert "no values are left that were not tried" in caplog.text


@pytest.mark.parametrize(
    ("words_added", "message"),
    [
        (["--trials", "0"], "`--trials` must be positive. Received: 0"),
        (["training.validate=false"], "are judged by their validation. Received: trai"),
        (["--model", "dim"], "Unknown model 'dim'. Did you mean"),
        (["--model", "tfrs"], "Unknown model 'tfrs'."),
        (["model.dims=8"], "Did you mean 'model.dim'?"),
        (["tune.model.dims=[8, 16]"], "Did you mean 'model.dim'?"),
        (
            ["optimizer.learning_rate=1", "model={name: din}"],
            "There is nothing to tune: every key of the ranges is set",
        ),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(
    words_added, message, words, monkeypatch, capsys
):
    output, command = words
    done = make_up_runs(monkeypatch, reached)
    assert main([*command, *words_added]) == 2
    assert message in capsys.readouterr().err
    assert not done and not output.exists()


def test_trials_sort_by_name(tmp_path):
    names = [Trial(None, 0, tmp_path, {}, number).name for number in (1, 20, 100)]
    assert sorted(names) == names
