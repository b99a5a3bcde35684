"""Seeks values for a recipe's keys; validation alone decides.

The command is `ctr_tf.commands.tune`, which tells how.
"""

import argparse
import logging

from ctr_tf.compare.jobs import check_data
from ctr_tf.compare.recipes import Recipes
from ctr_tf.compare.variants import Variant
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError, unknown_name
from ctr_tf.models import MODELS
from ctr_tf.recipes.find import find_recipe, recipe_of_data
from ctr_tf.recipes.read import load_recipe
from ctr_tf.storage import as_local, as_path
from ctr_tf.tuning.report import BEST, write_report
from ctr_tf.tuning.study import Study, best_of

_log = logging.getLogger(__name__)


def tune(arguments: argparse.Namespace) -> None:
    """Tunes a model.

    Args:
        arguments: of the command.

    Raises:
        UserError: if no trial came to its end.
    """
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
