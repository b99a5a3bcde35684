"""Which values a model's runs have once it is tuned, and which keys are tuned."""

import pytest
from made_up_runs import make_up_runs

from ctr_tf.compare.jobs import make_jobs
from ctr_tf.compare.recipes import Recipes
from ctr_tf.compare.tuned import make_studies, tune_models
from ctr_tf.compare.variants import Variant, variants
from ctr_tf.errors import UserError

RECIPE = """
model: {name: sparsectr, dim: 16}
tune:
  optimizer.learning_rate: {low: 1.0e-4, high: 1.0e-1, log: true}
  model.num_blocks: [1, 2]
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "sparsectr.yaml"
    path.write_text(RECIPE, "utf-8")
    return path


def test_variants_have_the_tuned_values_of_their_model(recipe, tmp_path):
    rows = variants(["sparsectr", "din"], ablations=True)
    tuned = {"sparsectr": {"model.attention": "dilated", "model.dim": 32}}
    tuned["din"] = {"optimizer.learning_rate": 0.05}
    words = ["sparsectr-A2:model.dim=8"]
    jobs = make_jobs(rows, 1, tmp_path, recipe, "D", words, tuned)
    recipes = {job.variant.name: job.recipe for job in jobs}
    assert recipes["sparsectr"]["model"]["attention"] == "dilated"
    assert recipes["sparsectr-A1"]["model"]["attention"] == "full"  # what makes it
    assert recipes["sparsectr-B1"]["model"]["dim"] == 32
    assert recipes["sparsectr-A2"]["model"]["dim"] == 8
    assert recipes["din"]["optimizer"]["learning_rate"] == 0.05
    assert recipes["sparsectr"]["optimizer"]["learning_rate"] == 1e-3
    assert all(not recipe["tune"] for recipe in recipes.values())


def test_keys_of_models_are_tuned_where_they_are(recipe, tmp_path, caplog):
    caplog.set_level("INFO")
    rows = variants(["sparsectr", "din", "tfrs"], ablations=True)
    words = ["sparsectr-A1:optimizer.learning_rate=0.5"]
    studies = make_studies(rows, Recipes(recipe, "D", words, rows), tmp_path)
    assert {name: [*study.space] for name, study in studies.items()} == {
        "sparsectr": ["optimizer.learning_rate", "model.num_blocks"],
        "din": ["optimizer.learning_rate"],
        "tfrs": ["optimizer.learning_rate"],
    }
    assert "din has no `model.num_blocks`: it is not tuned" in caplog.text
    words = ["tune.model.num_block=[1, 2]"]
    with pytest.raises(UserError, match="Did you mean 'model.num_blocks'?"):
        make_studies(rows, Recipes(recipe, "D", words, rows), tmp_path)


def test_models_are_tuned_alike_and_apart(recipe, tmp_path, monkeypatch):
    rows = [Variant("sparsectr"), Variant("din"), Variant("can")]
    words = ["can:optimizer.learning_rate=0.02", "can:tune.model.dim=[8, 16]"]
    studies = make_studies(rows, Recipes(recipe, "D", words, rows), tmp_path)
    jobs = make_jobs(rows, 1, tmp_path, recipe, "D", words)

    def reached(recipe):
        if recipe["model"]["name"] == "din":
            return None
        return recipe["optimizer"]["learning_rate"] + recipe["model"]["dim"] / 100

    done = make_up_runs(monkeypatch, reached)
    tuned = tune_models(studies, 4, jobs)
    assert len(done) == 4 + 3 + 3
    assert (tuned["din"].best, tuned["din"].failed, tuned["din"].chosen) == (
        None,
        3,
        {},
    )
    assert tuned["can"].chosen == {"model.dim": 8} or tuned["can"].best == 1
    best = tuned["sparsectr"]
    assert best.chosen["optimizer.learning_rate"] > 1e-3 and best.trials == 4
    assert best.value == pytest.approx(0.16 + best.chosen["optimizer.learning_rate"])
    assert (tmp_path / "tuning" / "din" / "trials.md").is_file()


def test_runs_that_were_begun_before_are_not_those_of_a_tuned_model(recipe, tmp_path):
    rows = [Variant("din")]
    studies = make_studies(rows, Recipes(recipe, "D", [], rows), tmp_path)
    jobs = make_jobs(rows, 1, tmp_path, recipe, "D")
    jobs[0].recipe_file.parent.mkdir()
    jobs[0].recipe_file.write_text("run: r", "utf-8")
    with pytest.raises(UserError, match="din-seed-0' was begun without `--tune`"):
        tune_models(studies, 2, jobs)
