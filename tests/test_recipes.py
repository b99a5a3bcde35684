from pathlib import Path

import pytest

from ctr_tf.commands.main import main
from ctr_tf.config import load
from ctr_tf.recipes.find import find_recipe, recipe_names, recipe_title
from ctr_tf.schema import Schema
from ctr_tf.synthetic.fresh_titles import __path__ as fresh_titles
from ctr_tf.training.config import Config
from pipelines.sources.source import get_source

FRESH_TITLES = Path(fresh_titles[0]) / "schema.yaml"


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_load_and_name_a_model_and_a_source(name):
    path = find_recipe(name)
    config = load(Config, path, [])
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
    text = path.read_text("utf-8")
    for part in ("# command:", f"--config {name} ", "# expected:"):
        assert part in text
    assert text.startswith(f"# {recipe_title(name)}\n#\n")
    assert recipe_title(name).endswith(".")


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
        "demo --source syntetic --input raw",
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
