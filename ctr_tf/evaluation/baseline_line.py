"""The line of logistic regression beside a run that was trained, on its validation.

A model that logistic regression beats on the same features has not learned what is
there. The regression is fitted on at most `SAMPLES` of the training's samples (spread
evenly over it), and measured on the whole validation split, as the model was: that is
one pass, which costs less than a validation of the model. What it found is kept in the
run's folder, so that going on with a finished run fits nothing.
"""

import json
import logging
import tempfile
import time
from typing import Any

from ctr_tf.data.dataset import num_samples
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError
from ctr_tf.evaluation.baseline_data import whole_batches
from ctr_tf.evaluation.linear_baseline import fit_logistic_regression
from ctr_tf.evaluation.metrics import Metrics
from ctr_tf.evaluation.origin import BASELINE
from ctr_tf.evaluation.predictions import predictions
from ctr_tf.losses import LogLoss
from ctr_tf.storage import as_path, files
from ctr_tf.training.config import Config
from ctr_tf.training.distribution import worker_of_environment
from ctr_tf.training.run import METRICS, fingerprint

SAMPLES = 20_000
_SPLIT = "validation"
_TOO_GOOD = 0.999  # an AUC that no model of people has
_MEASURED = ("auc", "gauc_request", "log_loss")
_MEMORY_ROWS = 2_000_000

_log = logging.getLogger(__name__)


def tell_baseline(config: Config) -> None:
    """Tells how a finished run stands beside logistic regression.

    Nothing is told of a run that validates nothing, or of `training.baseline: false`.
    Where nothing can be fitted, that is told, and the run stays what it is.

    Args:
        config: the recipe of the run.
    """
    if not (config.training.baseline and config.training.validate):
        return
    if config.stream is not None:
        return
    worker, workers = worker_of_environment()
    if workers > 1:
        if not worker:
            _log.info(
                "logistic regression is not fitted where several workers train: "
                "`ctr-tf baselines --data %s --split %s` tells what it reaches",
                *(config.data.path, _SPLIT),
            )
        return
    run = as_path(config.run)
    metrics = files.read_json(run / METRICS)
    try:
        found = baseline_of(config)
    except (UserError, FileNotFoundError) as error:
        _log.warning("logistic regression was not fitted: %s", error)
        return
    files.write_text(run / BASELINE, json.dumps(found, indent=1) + "\n")
    own = metrics["validation"]
    own = {**own, "log_loss": log_loss_of(own, config)}
    for line in lines(own, found, config.training.monitor):
        _log.info("%s", line)


def baseline_of(config: Config) -> dict[str, Any]:
    """What logistic regression reaches on the validation split of a run.

    Args:
        config: the recipe of the run.

    Returns:
        `validation`: its AUC, GAUC by request and log loss, None where not defined;
        `samples` that it was fitted on, `of` the training's; `data` and `label`, what
        it is of.
    """
    data = PreparedData.load(config.data.path)
    share = config.data.train_share
    mark = {"data": fingerprint(data), "label": config.data.label, "share": share}
    path = as_path(config.run) / BASELINE
    if path.is_file():
        known = files.read_json(path)
        if all(known.get(key) == value for key, value in mark.items()):
            return known
    total = num_samples(data, "train", config.data)
    samples = min(SAMPLES, total)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ctr-tf-") as folder:
        model = fit_logistic_regression(data, folder, config.data.label, samples)
        metrics = Metrics(memory_rows=_MEMORY_ROWS, folder=folder)
        batches = whole_batches(data, _SPLIT, label=config.data.label)
        for batch in predictions(batches, model):
            metrics.update(
                *(batch.labels, batch.probabilities, batch.mask),
                *(batch.request_id, batch.user_id),
            )
        found = metrics.result()
    _log.info(
        "logistic regression on %s of %s training samples took %.0f s "
        "(`training.baseline=false` leaves it out)",
        *(f"{samples:,}", f"{total:,}", time.monotonic() - started),
    )
    return {
        "validation": {key: found[key] for key in _MEASURED},
        "samples": samples,
        "of": total,
        **mark,
    }


def log_loss_of(validation: dict[str, float], config: Config) -> float | None:
    """The log loss of the label that a run is trained for, by its validation.

    None where that does not tell it: the objective has none, or the mean over several
    labels.

    Args:
        validation: metrics of a validation.
        config: the recipe of the run.
    """
    weight = getattr(config.objective, LogLoss.name)
    if config.model.tasks or not weight:
        return None
    # A term has its own name, unweighted, beside others; alone it is all of the loss.
    return validation.get(LogLoss.name, validation["loss"] / weight)


def lines(
    validation: dict[str, Any], baseline: dict[str, Any], monitor: str
) -> list[str]:
    """Both lines, and what follows from them.

    Args:
        validation: metrics of the run's best validation, and its log loss.
        baseline: of `baseline_of`.
        monitor: the metric that decides.
    """
    own, beside = validation, baseline["validation"]
    told = [
        f"{name:<20}"
        + "  ".join(
            f"{key} {'–' if values.get(key) is None else format(values[key], '.4f')}"
            for key in _MEASURED
        )
        for name, values in (("this run", own), ("logistic regression", beside))
    ]
    if beside[monitor] is None:
        return [*told, f"which is better nobody can tell: {monitor} is not defined"]
    if max(own["auc"] or 0, beside["auc"] or 0) > _TOO_GOOD:
        told.append(
            "WARNING: an AUC of nearly 1 says that a feature tells the label: one that "
            "nobody knows before the click, or that is the label by another name. "
            "`ctr-tf evaluate --importance=all` tells which."
        )
    if own[monitor] > beside[monitor]:
        behind = [
            key
            for key in ("auc", "gauc_request")
            if None not in (own.get(key), beside.get(key)) and own[key] < beside[key]
        ]
        but = f", not in {' and '.join(behind)}" if behind else ""
        return [*told, f"the run beats logistic regression in {monitor}{but}"]
    return [
        *told,
        f"the run does NOT beat logistic regression in {monitor}. Try the values that "
        "`ctr-tf tune` finds; dropout of rows and unknown values "
        "(training.row_dropout.*, training.unknown_values.*) where validation falls "
        "while training rises; more steps (training.epochs, training.min_steps) where "
        "validation still rises at the end. plots/learning_curve.png of the run shows "
        "which.",
    ]
