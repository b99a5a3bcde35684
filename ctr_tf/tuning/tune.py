"""`ctr-tf tune`: seeks values for a recipe's keys; validation alone decides.

    ctr-tf tune --data DATA --config RECIPE --trials 20 [key=value …]

A recipe's section `tune` says which keys may take which values:

    tune:
      optimizer.learning_rate: {low: 3.0e-4, high: 1.0e-2, log: true}
      training.row_dropout.behavior: {low: 0.0, high: 0.4}
      model.dim: [16, 32, 64]

Without one, the learning rates, weight decay, dropout of rows and the listwise term are
tuned. A key that is set as `key=value` is left as it is set. The first trial is the
recipe as it is. Each trial is a process that trains; what it reached is the best
validation of its `training.monitor`. The test split is never read.

The same command goes on where it was interrupted, tries again what failed, and with
more --trials adds to what is there. best.yaml is the recipe to train; tuning.png shows
what mattered.
"""

import argparse
import logging

from ctr_tf.compare.jobs import check_data
from ctr_tf.compare.recipes import Recipes
from ctr_tf.compare.variants import Variant
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError, check_positive_options, unknown_name
from ctr_tf.models import MODELS
from ctr_tf.recipes.find import find_recipe, recipe_of_data
from ctr_tf.recipes.read import load_recipe
from ctr_tf.storage import as_local, as_path
from ctr_tf.tuning.report import BEST, write_report
from ctr_tf.tuning.study import Study, best_of

_log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Tunes a model; the exit status is 0 if a trial came to its end."""
    arguments = parse(argv)
    check_positive_options(arguments, "trials")
    data = PreparedData.load(arguments.data)
    study = chosen(arguments, data.schema.name)
    _log.info(
        "%d trials in %s, of %s", arguments.trials, study.folder, ", ".join(study.space)
    )
    study.check(arguments.trials)
    check_data(study.folder, data)
    results = study.run(arguments.trials)
    best = best_of(results)
    if best is None:
        raise UserError(f"No trial came to its end; see '{study.folder / 'logs'}'.")
    print(write_report(study, results))
    print(f"table, plot: {study.folder}")
    print(f"recipe to train: {study.folder / BEST}")
    return 0


def chosen(arguments: argparse.Namespace, schema: str) -> Study:
    """The study that a command line asks for.

    Args:
        arguments: of `parse`.
        schema: name of the data's.

    Raises:
        UserError: if the model, an override or a range is wrong.
    """
    recipe = find_recipe(arguments.config or recipe_of_data(schema))
    model = arguments.model or load_recipe(recipe).model.name
    if model not in MODELS:
        raise UserError(unknown_name("model", model, MODELS))
    name = as_path(arguments.data).resolve().name
    folder = as_local(arguments.output or f"runs/tune-{model}-{name}", "`--output`")
    rows = [Variant(model)]
    recipes = Recipes(recipe, arguments.data, arguments.overrides, rows)
    return Study(folder, model, recipes, recipes.ranges(model))


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line's options; overrides may stand anywhere among them."""
    parser = argparse.ArgumentParser(
        prog="ctr-tf tune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", required=True, help="folder of `ctr-tf prepare`")
    add("--config", help="recipe to begin with; default: SparseCTR's for the data")
    add("--model", help="by its name, with its own recipe beside that of --config")
    add("--trials", type=int, default=20, help="in all; default: 20")
    add("--output", help="default: runs/tune-<model>-<name of the data>")
    add("overrides", nargs="*", metavar="key=value", help="of the recipe")
    return parser.parse_intermixed_args(argv)
