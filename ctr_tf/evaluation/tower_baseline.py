"""*Tower without history*: the ranker `tower`, by its recipe for any data."""

import json
import shutil
from pathlib import Path

from ctr_tf.data.prepared import PreparedData
from ctr_tf.evaluation.baseline_data import Score
from ctr_tf.evaluation.scorer import Scorer
from ctr_tf.storage import as_path

RUN = "tower_run"


def fit_tower(data: PreparedData, folder: str | Path) -> Score:
    """Trains it anew, and takes the weights that do best on the validation split.

    Args:
        data: the data set.
        folder: the run is left in its folder `tower_run`.
    """
    # Not before they are needed: whatever measures a run would load the trainer.
    from ctr_tf.recipes.find import find_recipe
    from ctr_tf.recipes.read import load_recipe
    from ctr_tf.training.run import load_run
    from ctr_tf.training.train import train

    run = as_path(folder) / RUN
    shutil.rmtree(run, ignore_errors=True)  # of an earlier call, on other data maybe
    places = {"run": run, "data.path": data.folder}
    words = [f"{key}={json.dumps(str(path))}" for key, path in places.items()]
    train(load_recipe(find_recipe("tower"), words))
    return Scorer(load_run(run).ranker)
