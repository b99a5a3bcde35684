"""Configuration: what is read, what is refused, and in which words."""

import dataclasses

import pytest
import yaml

from ctr_tf import config as configs
from ctr_tf.training.config import Config

RECIPE = {"run": "R", "data": {"path": "D"}, "model": {"name": "sparsectr"}}


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE), "utf-8")
    return path


def test_overrides_are_typed(recipe):
    words = ["model.sparsity=S4", "optimizer.learning_rate=1e-4", "training.epochs=3"]
    words += ["data.history_lengths=[32, 64]", "training.jit_compile=true"]
    config = configs.load(Config, recipe, words)
    assert config.model.sparsity == "S4" and config.model.num_chunks == 32
    assert config.optimizer.learning_rate == 1e-4
    assert config.training.epochs == 3 and config.training.jit_compile is True
    assert config.data.history_lengths == (32, 64)
    assert config.data.path == "D"


def test_a_dumped_config_reads_back_equal(recipe, tmp_path):
    config = configs.load(Config, recipe, ["optimizer.warmup_steps=7"])
    configs.dump(config, tmp_path / "again.yaml")
    assert configs.load(Config, tmp_path / "again.yaml") == config


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("trainig.epochs=1", "'trainig'. Did you mean 'training'?"),
        ("training.epoch=1", "'training.epoch'. Did you mean 'training.epochs'?"),
        ("training.epochs=x", "`training.epochs` must be an integer. Received: 'x'"),
        ("training.epochs=0", "`training.epochs` must be a positive integer. Rec"),
        ("training.epochs=1.5", "must be an integer. Received: 1.5"),
        ("training.seed=true", "`training.seed` must be an integer. Received: True"),
        ("optimizer.learning_rate=fast", "must be a number. Received: 'fast'"),
        ("optimizer.learning_rate=-1", "must be positive. Received: -1.0"),
        (
            "optimizer.tables=adm",
            "Unknown optimizer.tables 'adm'. Did you mean 'adam'?",
        ),
        ("model.name=sparsctr", "`model.name`: Unknown model 'sparsctr'. Did you mean"),
        ("model.num_head=4", "'model.num_head'. Did you mean 'model.num_heads'?"),
        ("model.sparsity=S9", "`model`: Unknown sparsity 'S9'."),
        ("data.history_lengths=64", "`data.history_lengths` must be a list. Rec"),
        ("data.history_lengths=[a]", "`data.history_lengths[0]` must be an integer"),
        ("data.batch_size=0", "`data.batch_size` must be a positive integer"),
        ("data=3", "`data` must hold keys and values. Received: 3"),
        ("training.precision=fp16", "Unknown training.precision 'fp16'."),
        ("training.monitor=loss", "Unknown training.monitor 'loss'."),
        ("epochs", "has the form key=value, such as model.num_chunks=16. Received: 'e"),
        ("training..epochs=1", "has the form key=value"),
        ("training.epochs=[", "`training.epochs`: the value is not YAML"),
    ],
)
def test_mistakes_are_told_with_key_and_value(recipe, word, message):
    with pytest.raises(ValueError) as error:
        configs.load(Config, recipe, [word])
    assert message in str(error.value)


def test_files_that_are_no_config(tmp_path):
    with pytest.raises(FileNotFoundError, match="no config file at '.*absent.yaml'"):
        configs.load(Config, tmp_path / "absent.yaml")
    (tmp_path / "list.yaml").write_text("- 1", "utf-8")
    with pytest.raises(ValueError, match="must hold keys and values. Received: .1"):
        configs.load(Config, tmp_path / "list.yaml")


def test_required_fields_are_named():
    @dataclasses.dataclass
    class Needs:
        path: str

    with pytest.raises(ValueError, match="`config` lacks path"):
        configs.parse(Needs, {})


def test_differences_name_key_and_values():
    one, other = {"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}
    assert configs.differences(one, other) == ["a.c (2 and 3)"]
