"""Measures scores: metrics.json and a one-page report on one split.

Whatever made the scores (a run's ranker, an exported model, a baseline), they go
through `evaluate_predictions`, so that all are measured by the very same code. The
command is `ctr_tf.commands.evaluate`.
"""

import dataclasses
import functools
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ctr_tf import time as times
from ctr_tf.errors import UserError, unknown_name
from ctr_tf.evaluation.against import Against
from ctr_tf.evaluation.importance import REQUESTS, permutation_importance
from ctr_tf.evaluation.metrics import Metrics
from ctr_tf.evaluation.origin import origin_of_run
from ctr_tf.evaluation.predictions import (
    Predictions,
    predictions,
    with_progress,
)
from ctr_tf.evaluation.report import write_report
from ctr_tf.evaluation.scores import SCORES, KeptScores, saving_scores
from ctr_tf.evaluation.slices import (
    HISTORY_EDGES,
    HISTORY_LENGTH,
    HISTORY_NAMES,
    Slices,
    find_slicings,
)
from ctr_tf.evaluation.withheld import WithheldMetrics
from ctr_tf.storage import as_path, files
from ctr_tf.storage.folders import writing
from ctr_tf.training.learning_curve import Rows, read_learning_curve

if TYPE_CHECKING:
    from ctr_tf.data.prepared import PreparedData

METRICS = "metrics.json"
_BESIDE = ("name", "auc", "gauc_user", "gauc_request", "log_loss")  # of a baseline
_SLICES = {HISTORY_LENGTH: HISTORY_NAMES, "hour": tuple(map(str, range(24)))}
_COMPARED = ("auc", "gauc_user", "gauc_request")
_log = logging.getLogger(__name__)


class OneClassError(UserError):
    """There are no clicks to evaluate on, or nothing but clicks.

    Attributes:
        metrics: all the same, None where one is not defined.
    """

    def __init__(self, message: str, metrics: dict):
        super().__init__(message)
        self.metrics = metrics


class Part(Protocol):
    """What is measured beside the metrics, as batches pass."""

    def update(self, batch: Predictions) -> None:
        """Adds scored slates."""


@dataclasses.dataclass(frozen=True)
class Further:
    """What an evaluation measures and tells beside its metrics.

    Args:
        parts: that see every batch, in this order.
        results: key of the result → gives its value when all batches have passed.
        curves: name of a run → rows of its learning curve, for the report.
    """

    parts: tuple[Part, ...] = ()
    results: Mapping[str, Callable[[], Any]] = dataclasses.field(default_factory=dict)
    curves: Mapping[str, Rows] = dataclasses.field(default_factory=dict)


def evaluate_predictions(
    batches: Iterable[Predictions],
    output: str | Path,
    *,
    name: str,
    zone: int | str = 0,
    base: str | Path | None = None,
    total: int | None = None,
    memory_rows: int = 2_000_000,
    told: Mapping[str, Any] | None = None,
    further: Further | None = None,
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
        told: what is known already, by its key in the result, such as `origin`.
        further: what is measured beside.

    Returns:
        What `metrics.json` holds: the result of `Metrics.result`, and `name`; what is
        `told`, and what is measured `further`;
        `reachable`, where the data know the true probabilities: the metrics of those,
        and the `share` of (AUC - 0.5) that the scores have reached; `withheld`, where
        slates were scored without their history, too: see `WithheldMetrics.result`;
        `rela_impr`, where a base is given: (AUC - 0.5) / (AUC of the base - 0.5) - 1,
        for the GAUCs alike.

    Raises:
        OneClassError: if there are no clicks, or nothing but clicks.
        UserError: if there are no samples, a score is not from 0 to 1, or the base is
            of other samples.
        FileNotFoundError: names the base that is missing.
    """
    base_metrics = _read_base(base) if base else None
    further = further or Further()
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
        for part in further.parts:
            part.update(batch)
    result = {"name": name, **(told or {}), **metrics.result()}
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
    result |= {key: measure() for key, measure in further.results.items()}
    result["seconds"] = time.monotonic() - started
    text = json.dumps(result, indent=1, allow_nan=False)
    files.write_text(output / METRICS, text + "\n")
    write_report(result, output, further.curves)
    return result


def _check_classes(result: dict, name: str) -> None:
    candidates, clicks = result["candidates"], result["clicks"]
    if not result["samples"]:
        raise UserError(f"There are no samples to evaluate '{name}' on. Received: 0")
    if clicks in (0, candidates):
        what = "no clicks" if clicks == 0 else "nothing but clicks"
        raise OneClassError(
            f"'{name}' cannot be evaluated on {what}: AUC needs both classes. "
            f"Received: {clicks:,} clicks among {candidates:,} candidates",
            result,
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
    inside = base / METRICS
    evaluated = base / "evaluation" / split / METRICS
    return inside if inside.is_file() and not evaluated.is_file() else evaluated


def output_folder(folder: str | Path, split: str, task: str | None = None) -> Path:
    """Where a run's evaluation lies: `evaluation/<split>`, of a task in there."""
    return as_path(folder) / "evaluation" / split / (task or "")


@dataclasses.dataclass(frozen=True)
class Asked:
    """What an evaluation of a run is asked for beside its metrics.

    Args:
        slice_by: see `ctr_tf.evaluation.slices.find_slicings`.
        importance: `"groups"` or `"all"`, see `ctr_tf.evaluation.importance`; None:
            that of nothing.
        importance_requests: that importance is measured on, at most.
        baselines: folder of `ctr-tf baselines`; its usual one where None.
    """

    slice_by: tuple[str, ...] = ()
    importance: str | None = None
    importance_requests: int = REQUESTS
    baselines: str | Path | None = None


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
    asked: Asked | None = None,
) -> dict:
    """Scores one split with a trained run and measures it.

    Args:
        folder: of the run.
        split: of the data.
        base: what to compare with: a run, which is scored on the same samples (see
            `ctr_tf.evaluation.against`; its own report is left in `against`, within the
            output); or a metrics file, that RelaImpr is relative to.
        output: folder to write to; by default that of `output_folder`.
        batch_size: samples scored at once; the run's own by default.
        scores: whether to keep every candidate's score (`ctr_tf.evaluation.scores`).
        task: of the model's, to measure; the label it is trained for where None.
        withheld: whether to score everything once more with the history withheld.
        data: prepared data set, read by the run's vocabularies; the run's own where
            None.
        asked: what is asked for beside.

    Returns:
        See `evaluate_predictions`; with `origin`, and what was asked for: `sliced_by`
        (`Slices.result`), `importance` (`permutation_importance`) and `against`
        (`Against.result`).

    Raises:
        UserError: beside those of `evaluate_predictions`, if the run that it is
            compared with was trained on other data and `data` says nothing.
    """
    from ctr_tf.data.dataset import dataset, empty_history
    from ctr_tf.data.prepared import PreparedData
    from ctr_tf.data.reading import diagnosed
    from ctr_tf.evaluation.known_baselines import known_baselines
    from ctr_tf.evaluation.scorer import Scorer, WithoutHistory
    from ctr_tf.layers.feature_embedding import ITEM_VECTORS
    from ctr_tf.text.item_vectors import text_inputs
    from ctr_tf.training.run import load_run

    asked = asked or Asked()
    output = as_path(output or output_folder(folder, split, task))
    other = base if base and _is_run(base) else None
    if base and not other:
        base = base_file(base, split)
        _read_base(base)  # before anything is scored
    run = load_run(folder)
    config = run.config.data
    if batch_size is not None:
        config = dataclasses.replace(config, batch_size=batch_size)
    if task is not None:
        if task not in run.ranker.tasks:
            raise UserError(unknown_name("task", task, run.ranker.tasks))
        config = dataclasses.replace(config, label=task)
    found = PreparedData.load(data or config.path)
    slicings = find_slicings(run.schema, asked.slice_by)
    told: dict[str, Any] = {"origin": origin_of_run(run, found, split)}
    if config.label in (None, run.schema.labels[0]):
        known = known_baselines(found, split, asked.baselines)
        told["baselines"] = {n: {k: m[k] for k in _BESIDE} for n, m in known.items()}
    else:
        _log.info(
            "no baseline is shown beside: they are of the schema's first label, and "
            "this is measured on '%s'",
            config.label,
        )
    if other:
        if data is None:
            _check_same_data(folder, found, other)
        place = output / "against"
        evaluate_run(
            *(other, split, None, place, batch_size, True, task, False, found.folder)
        )
        base = place / METRICS
    found = found.read_as(run.schema, run.vocabularies)
    chunks = run.ranker.num_chunks
    texts = text_inputs({ITEM_VECTORS: run.ranker}, found.vocabularies)
    read = functools.partial(
        dataset,
        found,
        split,
        config,
        num_chunks=chunks,
        training=False,
        metadata=True,
        texts=texts,
    )
    scorer = Scorer(run.ranker, task)
    without = None
    if withheld:
        history = empty_history(found, config, num_chunks=chunks, texts=texts)
        without = WithoutHistory(scorer, history)
    total = found.num_samples(split)
    if (output / METRICS).is_file():
        _log.info("the report in %s will be replaced", output)
    with diagnosed(found, split), writing(output) as here:
        if asked.importance is not None:
            most = asked.importance_requests
            told["importance"] = permutation_importance(
                read(share=min(1.0, max(most, 1) / max(total, 1))),
                scorer,
                run.schema,
                batch_size=config.batch_size,
                single=asked.importance == "all",
                requests=most,
            )
        kept = KeptScores()
        sliced = Slices(
            slicings or find_slicings(run.schema, _SLICES if other else ()),
            found.vocabularies,
            kept,
        )
        results: dict[str, Callable[[], Any]] = {}
        if slicings:
            results["sliced_by"] = sliced.result
        curves = {"this run" if other else "": read_learning_curve(folder)}
        if other:
            path = output / "against" / SCORES
            results["against"] = Against(str(other), path, kept, sliced).result
            curves[str(other)] = read_learning_curve(other)
        scored = predictions(read(), scorer, without, sliced.keys)
        if scores:
            scored = saving_scores(scored, here / SCORES)
        return evaluate_predictions(
            scored,
            here,
            name=", ".join(filter(None, (_name(folder), split, task))),
            zone=run.schema.zone,
            base=base,
            total=total,
            told=told,
            further=Further((kept, sliced) if results else (), results, curves),
        )


def _name(folder: str | Path) -> str:
    return as_path(folder).resolve().name


def _is_run(folder: str | Path) -> bool:
    from ctr_tf.training.run import is_run

    return is_run(folder)


def _check_same_data(
    folder: str | Path, data: "PreparedData", other: str | Path
) -> None:
    from ctr_tf.data.prepared import PreparedData
    from ctr_tf.training.run import fingerprint, read_config

    theirs = PreparedData.load(read_config(other).data.path)
    if fingerprint(theirs) != fingerprint(data):
        raise UserError(
            f"Runs are compared on the same samples, and '{other}' was trained on "
            f"others than '{folder}': its data '{theirs.folder}' have the hash "
            f"{fingerprint(theirs)}, those of '{data.folder}' {fingerprint(data)}. "
            "Name the data that both are to be measured on (`--data`). "
            f"Received: --against {other}"
        )
