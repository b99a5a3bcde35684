"""A recipe's section `tune`: what is read, what is refused, and in which words."""

import pytest
import yaml

from ctr_tf import config as configs
from ctr_tf.compare.recipes import Recipes, resolved
from ctr_tf.compare.variants import TFRS, Variant
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError
from ctr_tf.models import MODELS
from ctr_tf.recipes.find import find_recipe, recipe_names
from ctr_tf.recipes.read import load_recipe
from ctr_tf.training.config import Config
from ctr_tf.training.run import open_run
from ctr_tf.tuning.ranges import DEFAULT_RANGES, Range, read_ranges
from ctr_tf.tuning.space import make_space

SECTION = """
model: {name: din}
tune:
  optimizer.learning_rate: {low: 3.0e-4, high: 1e-2, log: true}
  training.row_dropout.behavior: {low: 0, high: 0.4}
  training.epochs: {low: 1, high: 3}
  model.dim: [16, 32, 64]
  model.head_units: [[32], [64, 32]]
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "din.yaml"
    path.write_text(SECTION, "utf-8")
    return path


def space_of(recipe, *words, model="din"):
    row = Variant(model)
    recipes = Recipes(recipe, "D", words, [row])
    return make_space(
        recipes.ranges(model), lambda chosen: resolved(row, recipes.values(row, chosen))
    )


def test_ranges_are_as_the_recipe_understands_them(recipe):
    space = space_of(recipe)
    assert space["optimizer.learning_rate"] == Range(3e-4, 1e-2, log=True)
    assert space["model.dim"] == (16, 32, 64)
    assert space["model.head_units"] == ([32], [64, 32])
    dropout, epochs = space["training.row_dropout.behavior"], space["training.epochs"]
    assert isinstance(dropout.low, float) and isinstance(epochs.low, int)


def test_a_range_between_integers_is_of_floats_where_the_key_takes_them(recipe):
    space = space_of(recipe, "tune.objective.listwise={low: 0, high: 1}")
    assert isinstance(space["objective.listwise"].low, float)


def test_the_command_line_adds_ranges_and_fixes_keys(recipe):
    space = space_of(
        recipe,
        "tune.model.dim=[8, 16]",
        "training.epochs=2",
        "training.row_dropout={user: 0.1}",
        "tune.optimizer.warmup_steps={low: 0, high: 9}",
    )
    assert list(space) == [
        *("optimizer.learning_rate", "model.dim", "model.head_units"),
        "optimizer.warmup_steps",
    ]
    assert space["model.dim"] == (8, 16)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("tune=3", "`tune` must hold keys and ranges. Received: 3"),
        ("tune.model.dim=8", "`tune.model.dim` must be a list of two values or more"),
        ("tune.model.dim=[8]", "`tune.model.dim` must be a list of two values or more"),
        ("tune.model.dim={low: 8}", "`tune.model.dim` lacks high."),
        ("tune.model.dim={low: 8, hi: 9}", "Did you mean 'tune.model.dim.high'?"),
        ("tune.model.dim={low: a, high: 9}", "`tune.model.dim.low` must be a number"),
        ("tune.model.dim={low: 9, high: 9}", "`low` must be less than `high`."),
        ("tune.model.dim={low: 16, high: 18}", "`tune.model.dim`: `model`: "),
        ("tune.training.epochs={low: 0, high: 3, log: true}", "begins above 0"),
        ("tune.training.epochs={low: 0, high: 3}", "`tune.training.epochs`: `train"),
        ("tune.training.epochs={low: 0.5, high: 3}", "must be an integer. Rec"),
        ("tune.model.dims=[8, 16]", "'model.dims'. Did you mean 'model.dim'?"),
        ("tune.model.num_chunks=[8, 16]", "Unknown key of the recipe 'model.num_chun"),
        ("tune.distillation.weight=[1, 2]", "Unknown key of the recipe 'distillation"),
        ("tune.optimizer.dense=[adam, adm]", "`tune.optimizer.dense`: Unknown optim"),
        ("tune.optimizer.dense={low: 1, high: 2}", "must be a string. Received: 1"),
        ("tune.optimizer.learning_rate=[1, 1.0]", "some values make no difference"),
        ("tune.training.seed=[1, 2]", "`tune.training.seed`: all trials must have"),
        ("tune.data.path=[a, b]", "`tune.data.path`: all trials must have this in"),
    ],
)
def test_mistakes_name_the_key(recipe, word, message):
    with pytest.raises(UserError) as caught:
        space_of(recipe, word)
    assert message in str(caught.value)


def test_a_mistake_in_the_recipe_is_told_to_whoever_reads_it(recipe):
    recipe.write_text("tune: {model.dim: {low: 9, high: 8}}", "utf-8")
    with pytest.raises(UserError, match="`tune.model.dim`: `low` must be less than"):
        configs.load(Config, recipe)


@pytest.mark.parametrize("model", [*MODELS, TFRS])
def test_the_default_ranges_are_of_every_model(model):
    recipe = find_recipe("sparsectr_synthetic")
    space = space_of(recipe, model=model)
    everything = set(DEFAULT_RANGES)
    expected = {"optimizer.learning_rate"} if model == TFRS else everything
    assert set(space) == expected


@pytest.mark.parametrize("name", recipe_names())
def test_the_default_ranges_fit_every_shipped_recipe(name):
    model = load_recipe(find_recipe(name)).model.name
    assert set(space_of(find_recipe(name), model=model)) == set(DEFAULT_RANGES)


def test_the_section_reads_back_equal(recipe, tmp_path):
    config = configs.load(Config, recipe)
    configs.dump(config, tmp_path / "again.yaml")
    assert configs.load(Config, tmp_path / "again.yaml") == config
    nested = yaml.safe_load("{model: {dim: [1, 2]}, model.dim: [3, 4]}")
    assert read_ranges(nested) == {"model.dim": (3, 4)}


def test_a_run_goes_on_whatever_its_recipe_says_of_tuning(recipe, tmp_path):
    from small_run import write_small_data

    data = PreparedData.load(write_small_data(tmp_path / "data"))
    words = [f"run={tmp_path / 'run'}", f"data.path={data.folder}"]
    open_run(configs.load(Config, recipe, [*words, "tune={}"]), data)
    open_run(configs.load(Config, recipe, words), data)
    with pytest.raises(UserError, match="differ in training.epochs .1 and 2.\\."):
        open_run(configs.load(Config, recipe, [*words, "training.epochs=2"]), data)
