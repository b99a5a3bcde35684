"""The honest lines that a model has to beat; `ctr_tf.commands.baselines` tells which.

All are fitted on the train split and measured by `evaluate_predictions`.
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from ctr_tf.data.prepared import PreparedData
from ctr_tf.evaluation.baseline_data import Score, click_rate, whole_batches
from ctr_tf.evaluation.boosted_trees import fit_boosted_trees
from ctr_tf.evaluation.evaluate import evaluate_predictions
from ctr_tf.evaluation.known_baselines import default_output
from ctr_tf.evaluation.linear_baseline import fit_logistic_regression
from ctr_tf.evaluation.origin import origin_of_data
from ctr_tf.evaluation.popularity import fit_popularity
from ctr_tf.evaluation.predictions import predictions
from ctr_tf.evaluation.tower_baseline import fit_tower
from ctr_tf.storage import as_local

_log = logging.getLogger(__name__)

# Name → what fits it: to the data set, with a folder for temporary files.
BASELINES: Mapping[str, Callable[[PreparedData, Path], Score]] = MappingProxyType(
    {
        "popularity": fit_popularity,
        "logistic_regression": fit_logistic_regression,
        "gradient_boosted_trees": fit_boosted_trees,
        "tower": fit_tower,
    }
)


def evaluate_baselines(
    folder: str | Path, split: str = "test", output: str | Path | None = None
) -> dict[str, dict]:
    """Fits the baselines and measures them.

    Args:
        folder: of the prepared data set.
        split: to measure on.
        output: folder for their reports; `runs/baselines-<data set>` by default.

    Returns:
        Baseline's name → result of `evaluate_predictions`.
    """
    data = PreparedData.load(folder)
    output = as_local(output or default_output(folder), "`--output`")
    output.mkdir(parents=True, exist_ok=True)
    click_rate(data, split)  # which says at once where there is nothing to measure
    models: dict[str, Score] = {}
    for name, fit in BASELINES.items():
        started = time.monotonic()
        models[name] = fit(data, output)
        _log.info("%s: fitted in %.1f s", shown(name), time.monotonic() - started)
    return {
        name: evaluate_predictions(
            predictions(whole_batches(data, split), model),
            output / name,
            name=f"{shown(name)}, {split}",
            zone=data.schema.zone,
            total=data.num_samples(split),
            told={"origin": origin_of_data(data, split)},
        )
        for name, model in models.items()
    }


def shown(name: str) -> str:
    """A baseline's name for people."""
    return name.replace("_", " ").replace("gradient boosted", "gradient-boosted")
