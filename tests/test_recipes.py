from pathlib import Path

import pytest

from ctr_tf.commands.main import main
from ctr_tf.errors import UserError
from ctr_tf.models import MODELS
from ctr_tf.recipes.find import (
    find_recipe,
    recipe_names,
    recipe_of_data,
    recipe_title,
)
from ctr_tf.recipes.read import load_recipe, read_recipe
from ctr_tf.schema import Schema
from ctr_tf.synthetic.fresh_titles import __path__ as fresh_titles
from pipelines.sources.source import get_source

FRESH_TITLES = Path(fresh_titles[0]) / "schema.yaml"


FOR_ANY = ("default", *MODELS)


@pytest.mark.parametrize("name", [n for n in recipe_names() if n not in FOR_ANY])
def test_recipes_load_and_name_a_model_and_a_source(name):
    path = find_recipe(name)
    config = load_recipe(path)
    # The world's schema lies beside its logs, which the source `synthetic` reads.
    models, world, source = name.rpartition("_fresh_titles")
    if not world:
        models, _, source = name.rpartition("_")
    model, _, teacher = models.partition("_from_")
    assert config.model.name == model
    assert (config.distillation is not None) == bool(teacher)
    if teacher:
        assert config.distillation.teacher.name == teacher
    schema = Schema.load(FRESH_TITLES) if world else get_source(source).schema()
    assert max(config.data.history_lengths, default=0) <= schema.history_length
    check_head(name)


def check_head(name):
    text = find_recipe(name).read_text("utf-8")
    for part in ("# command:", f"--config {name} ", "# expected:"):
        assert part in text
    assert text.startswith(f"# {recipe_title(name)}\n#\n")
    assert recipe_title(name).endswith(".")


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_recipe_for_any_data(name):
    """What it does not say itself it has from the one that all are like."""
    check_head(name)
    own, default = load_recipe(find_recipe(name)), load_recipe(find_recipe("default"))
    assert own.model.name == name and own.training == default.training
    assert own.optimizer == default.optimizer or MODELS[name].reads_texts
    words = [f"model.name={name}"]
    if not MODELS[name].reads_texts:  # which need a language model
        assert load_recipe(find_recipe("default"), words) == own


def test_a_recipe_is_like_another(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("like: sparsectr_kuairand\ntraining: {row_dropout: {user: 0.5}}\n")
    found = read_recipe(mine)
    expected = read_recipe(find_recipe("sparsectr_kuairand"))
    assert expected["training"]["row_dropout"] == {"user": 0.3, "behavior": 0.3}
    expected["training"]["row_dropout"]["user"] = 0.5
    assert found == expected
    assert load_recipe(mine, ["training.epochs=7"]).training.epochs == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("like: sparsectr_kuairan", "Did you mean 'sparsectr_kuairand'?"),
        ("like: [din]", r"is the name of a recipe. Received: \['din'\]"),
        ("like: din", "Received: like: din, which is like 'default'"),
    ],
)
def test_what_a_recipe_cannot_be_like(tmp_path, text, message):
    mine = tmp_path / "mine.yaml"
    mine.write_text(text)
    with pytest.raises(UserError, match=message):
        load_recipe(mine)


def test_data_without_a_recipe_of_their_own_take_that_for_any():
    assert recipe_of_data("kuairand") == "sparsectr_kuairand"
    assert recipe_of_data("hotels") == "sparsectr"


def test_a_path_is_told_from_a_name():
    for word in ("mine.yaml", "mine.yml", "recipes/mine", "./sparsectr_synthetic"):
        assert find_recipe(word) == Path(word)
    assert find_recipe("sparsectr_synthetic").is_file()


def test_the_verb_lists_every_recipe_with_its_title(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split(maxsplit=1) for line in lines[:-2]]
    assert listed == [[name, recipe_title(name)] for name in recipe_names()]
    title = "DIN on the synthetic logs of `ctr-tf synthesize`."
    assert ["din_synthetic", title] in listed
    assert lines[-1] == f"They lie in {find_recipe('din_synthetic').parent}."


@pytest.mark.parametrize(
    "words",
    [
        "train --config sparsectr_syntetic",
        "demo --config sparsectr_syntetic",
    ],
)
def test_an_unknown_recipe_is_told(words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    message = capsys.readouterr().err
    nearest = "Did you mean 'sparsectr_synthetic'?"
    assert f"Unknown recipe 'sparsectr_syntetic'. {nearest}" in message
    assert "A recipe of your own is given by its path" in message
    assert not list(tmp_path.iterdir())


def test_an_unknown_source_of_the_demo_is_told(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--source", "syntetic", "--input", "raw"]) == 2
    message = capsys.readouterr().err
    assert "Unknown source 'syntetic'. Did you mean 'synthetic'?" in message
    assert not list(tmp_path.iterdir())
