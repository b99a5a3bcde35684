"""Measures scores: metrics.json and a one-page report on one split.

Whatever made the scores (a run's ranker, an exported model, a baseline), they go
through `evaluate_predictions`, so that all are measured by the very same code. The
command is `ctr_tf.commands.evaluate`.
"""

import dataclasses
import json
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ctr_tf import time as times
from ctr_tf.errors import UserError, unknown_name
from ctr_tf.evaluation.metrics import Metrics
from ctr_tf.evaluation.predictions import (
    Predictions,
    predictions,
    with_progress,
)
from ctr_tf.evaluation.report import write_report
from ctr_tf.evaluation.scores import SCORES, saving_scores
from ctr_tf.evaluation.withheld import WithheldMetrics
from ctr_tf.storage import as_path, files
from ctr_tf.storage.folders import writing

HISTORY_EDGES = (1, 5, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
HISTORY_NAMES = (
    "0",
    *(
        f"{low}-{high - 1}"
        for low, high in zip(HISTORY_EDGES, HISTORY_EDGES[1:], strict=False)
    ),
    f"{HISTORY_EDGES[-1]}+",
)
_SLICES = {"history_length": HISTORY_NAMES, "hour": tuple(map(str, range(24)))}
_COMPARED = ("auc", "gauc_user", "gauc_request")


def evaluate_predictions(
    batches: Iterable[Predictions],
    output: str | Path,
    *,
    name: str,
    zone: int | str = 0,
    base: str | Path | None = None,
    total: int | None = None,
    memory_rows: int = 2_000_000,
) -> dict:
    """Measures scored slates and writes `metrics.json`, `report.html`, `report.png`.

    Args:
        batches: the scored slates, in any order.
        output: folder to write to; made if it is not there.
        name: of what is measured, for the report's title.
        zone: of local time; see `ctr_tf.time.local_time`.
        base: metrics file that RelaImpr is relative to, of the same samples.
        total: samples that will come, if known, for the progress lines.
        memory_rows: candidates kept in memory before they spill to disk.

    Returns:
        What `metrics.json` holds: the result of `Metrics.result`, and `name`;
        `reachable`, where the data know the true probabilities: the metrics of those,
        and the `share` of (AUC - 0.5) that the scores have reached; `withheld`, where
        slates were scored without their history, too: see `WithheldMetrics.result`;
        `rela_impr`, where a base is given: (AUC - 0.5) / (AUC of the base - 0.5) - 1,
        for the GAUCs alike.

    Raises:
        UserError: if there are no samples, no clicks or nothing but clicks, a score
            is not from 0 to 1, or the base is of other samples.
        FileNotFoundError: names the base that is missing.
    """
    base_metrics = _read_base(base) if base else None
    output = as_path(output)
    output.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    sizes = {slicing: len(names) for slicing, names in _SLICES.items()}
    metrics = Metrics(sizes, memory_rows=memory_rows, folder=output)
    truth = Metrics(memory_rows=memory_rows, folder=output)
    knows_truth = True
    withheld = WithheldMetrics(memory_rows=memory_rows, folder=output)
    for batch in with_progress(batches, total):
        arrays = (batch.mask, batch.request_id, batch.user_id)
        slices = {
            "history_length": np.searchsorted(
                HISTORY_EDGES, batch.history_length, "right"
            ),
            "hour": times.hour_of_day(batch.request_time, zone),
        }
        metrics.update(batch.labels, batch.probabilities, *arrays, slices)
        known = batch.true_probability
        if known is None or not np.isfinite(known[batch.mask]).all():
            knows_truth = False
        elif knows_truth:
            truth.update(batch.labels, known, *arrays)
        withheld.update(batch)
    result = {"name": name, **metrics.result()}
    _check_classes(result, name)
    for slicing, names in _SLICES.items():
        result["slices"][slicing] = [
            {"group": group, **part}
            for group, part in zip(names, result["slices"][slicing], strict=True)
            if part["samples"]
        ]
    if knows_truth:
        result["reachable"] = _reachable(result, truth.result())
    if withheld.any:
        result["withheld"] = withheld.result(result)
    if base and base_metrics:
        result["rela_impr"] = _relative_improvement(result, base_metrics, base)
    result["seconds"] = time.monotonic() - started
    text = json.dumps(result, indent=1, allow_nan=False)
    files.write_text(output / "metrics.json", text + "\n")
    write_report(result, output)
    return result


def _check_classes(result: dict, name: str) -> None:
    candidates, clicks = result["candidates"], result["clicks"]
    if not result["samples"]:
        raise UserError(f"There are no samples to evaluate '{name}' on. Received: 0")
    if clicks in (0, candidates):
        what = "no clicks" if clicks == 0 else "nothing but clicks"
        raise UserError(
            f"'{name}' cannot be evaluated on {what}: AUC needs both classes. "
            f"Received: {clicks:,} clicks among {candidates:,} candidates"
        )


def _reachable(result: dict, truth: dict) -> dict:
    share = {
        key: (result[key] - 0.5) / (truth[key] - 0.5)
        for key in _COMPARED
        if truth[key] not in (None, 0.5) and result[key] is not None
    }
    kept = {key: truth[key] for key in (*_COMPARED, "log_loss")}
    return {**kept, "share": share}


def _read_base(path: str | Path) -> dict:
    path = as_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no metrics file of a base at '{path}'.")
    base = files.read_json(path)
    needed = ("auc", "candidates", "clicks")
    if not isinstance(base, dict) or any(key not in base for key in needed):
        received = sorted(base) if isinstance(base, dict) else base
        raise UserError(
            f"The base '{path}' must be a metrics.json of `ctr-tf evaluate`. "
            f"Received: {received}"
        )
    return base


def _relative_improvement(result: dict, base: dict, path: str | Path) -> dict:
    for key in ("candidates", "clicks"):
        if result[key] != base[key]:
            raise UserError(
                f"The base '{path}' was measured on other samples: this split has "
                f"{result[key]:,} {key}. Received: {base[key]:,}"
            )
    improvement = {
        key: (result[key] - 0.5) / (base[key] - 0.5) - 1
        for key in _COMPARED
        if base.get(key) not in (None, 0.5) and result[key] is not None
    }
    return {"base": base.get("name", str(path)), **improvement}


def base_file(base: str | Path, split: str) -> Path:
    """The metrics file of a base: itself, or of a run or of an evaluation's folder."""
    base = as_path(base)
    if not base.is_dir():
        return base
    inside = base / "metrics.json"
    evaluated = base / "evaluation" / split / "metrics.json"
    return inside if inside.is_file() and not evaluated.is_file() else evaluated


def output_folder(folder: str | Path, split: str, task: str | None = None) -> Path:
    """Where a run's evaluation lies: `evaluation/<split>`, of a task in there."""
    return as_path(folder) / "evaluation" / split / (task or "")


def evaluate_run(
    folder: str | Path,
    split: str = "test",
    base: str | Path | None = None,
    output: str | Path | None = None,
    batch_size: int | None = None,
    scores: bool = False,
    task: str | None = None,
    withheld: bool = True,
    data: str | Path | None = None,
) -> dict:
    """Scores one split with a trained run and measures it.

    Args:
        folder: of the run.
        split: of the data.
        base: run, or metrics file, that RelaImpr is relative to.
        output: folder to write to; by default that of `output_folder`.
        batch_size: samples scored at once; the run's own by default.
        scores: whether to keep every candidate's score (`ctr_tf.evaluation.scores`).
        task: of the model's, to measure; the label it is trained for where None.
        withheld: whether to score everything once more with the history withheld.
        data: prepared data set, read by the run's vocabularies; the run's own where
            None.

    Returns:
        See `evaluate_predictions`.
    """
    from ctr_tf.data.dataset import dataset, empty_history
    from ctr_tf.data.prepared import PreparedData
    from ctr_tf.data.reading import diagnosed
    from ctr_tf.evaluation.scorer import Scorer, WithoutHistory
    from ctr_tf.layers.feature_embedding import ITEM_VECTORS
    from ctr_tf.text.item_vectors import text_inputs
    from ctr_tf.training.run import load_run

    base = base_file(base, split) if base else None
    run = load_run(folder)
    config = run.config.data
    if batch_size is not None:
        config = dataclasses.replace(config, batch_size=batch_size)
    if task is not None:
        if task not in run.ranker.tasks:
            raise UserError(unknown_name("task", task, run.ranker.tasks))
        config = dataclasses.replace(config, label=task)
    found = PreparedData.load(data or config.path)
    found = found.read_as(run.schema, run.vocabularies)
    chunks = run.ranker.num_chunks
    texts = text_inputs({ITEM_VECTORS: run.ranker}, found.vocabularies)
    batches = dataset(
        found,
        split,
        config,
        num_chunks=chunks,
        training=False,
        metadata=True,
        texts=texts,
    )
    output = as_path(output or output_folder(folder, split, task))
    scorer = Scorer(run.ranker, task)
    without = None
    if withheld:
        history = empty_history(found, config, num_chunks=chunks, texts=texts)
        without = WithoutHistory(scorer, history)
    scored = predictions(batches, scorer, without)
    with diagnosed(found, split), writing(output) as here:
        if scores:
            scored = saving_scores(scored, here / SCORES)
        return evaluate_predictions(
            scored,
            here,
            name=", ".join(filter(None, (as_path(folder).resolve().name, split, task))),
            zone=run.schema.zone,
            base=base,
            total=found.num_samples(split),
        )
