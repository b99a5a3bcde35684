"""From finished runs to the rows of the table."""

import dataclasses
import logging
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from ctr_tf.compare.variants import Variant
from ctr_tf.errors import UserError
from ctr_tf.evaluation.bootstrap import (
    METRICS,
    can_afford,
    compare_with,
    draw_users,
    holm,
    num_replicates,
    replicate_metrics,
)
from ctr_tf.evaluation.scores import load_scores

REPLICATES = 1_000
QUALITY = ("auc", "gauc_user", "ndcg@10", "map", "log_loss")

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class Row:
    """A variant, over its seeds.

    Args:
        name: of the variant.
        overrides: that make it.
        seeds: finished runs; all below is empty or None where there is none.
        quality: metric → its value of each seed, None where it is not defined.
        rela_impr: (AUC - 0.5) / (AUC of the base - 0.5) - 1, of the seeds' means.
        test: metric → the difference to the base: `mean`, `low`, `high`, `p`,
            `replicates`, `p_holm`; empty where the split has too many candidates.
        network: weights outside tables.
        tables: weights of embedding tables.
        flops: of one request.
        examples_per_second: in training, median over the seeds.
        latency_ms: of one request, median over the seeds.
    """

    name: str
    overrides: dict
    seeds: int = 0
    quality: dict[str, list[float | None]] = dataclasses.field(default_factory=dict)
    rela_impr: float | None = None
    test: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    network: int | None = None
    tables: int | None = None
    flops: int | None = None
    examples_per_second: float | None = None
    latency_ms: float | None = None

    def mean(self, metric: str) -> float | None:
        """Of a quality, over the seeds; None where one lacks it."""
        values = self._values(metric)
        return statistics.fmean(values) if values else None

    def spread(self, metric: str) -> float | None:
        """Standard deviation (n - 1) over the seeds; None for fewer than two."""
        values = self._values(metric)
        return statistics.stdev(values) if len(values) > 1 else None

    def _values(self, metric: str) -> list[float]:
        """Of all seeds; none where one lacks it."""
        values = self.quality.get(metric, [])
        known = [value for value in values if value is not None]
        return known if len(known) == len(values) else []


def make_rows(
    variants: Sequence[Variant],
    finished: Mapping[str, Sequence[dict]],
    base: str,
    replicates: int = REPLICATES,
) -> list[Row]:
    """The table's rows.

    Args:
        variants: in the table's order.
        finished: variant's name → results of `read_finished`, one a seed.
        base: the variant that others are compared with.
        replicates: of the bootstrap; fewer where there are many users.

    Raises:
        UserError: if the runs were evaluated on different candidates.
    """
    rows = [_row(variant, finished.get(variant.name, ())) for variant in variants]
    of_base = next(row for row in rows if row.name == base).mean("auc")
    for row in rows:
        auc = row.mean("auc")
        if of_base not in (None, 0.5) and auc is not None:
            row.rela_impr = (auc - 0.5) / (of_base - 0.5) - 1
    if finished.get(base):
        _add_tests(rows, finished, base, replicates)
    return rows


def _row(variant: Variant, runs: Sequence[dict]) -> Row:
    row = Row(variant.name, variant.overrides, len(runs))
    if not runs:
        return row
    cost = runs[0]["cost"]
    row.network, row.tables = (cost["parameters"][k] for k in ("network", "tables"))
    row.flops = cost["flops"]
    row.latency_ms = statistics.median(run["cost"]["latency_ms"] for run in runs)
    row.examples_per_second = statistics.median(
        run["training"]["examples_per_second"] for run in runs
    )
    row.quality = {key: [run["quality"][key] for run in runs] for key in QUALITY}
    return row


def _add_tests(
    rows: Sequence[Row],
    finished: Mapping[str, Sequence[dict]],
    base: str,
    replicates: int,
) -> None:
    candidates = len(load_scores(finished[base][0]["scores"]).label)
    if not can_afford(candidates, "the table comes without p"):
        return
    measured = replicate_runs(finished, base, replicates)
    for metric in METRICS:
        of_metric = {
            name: [run[metric] for run in runs] for name, runs in measured.items()
        }
        differences = compare_with(base, of_metric)
        known = {n: d.p for n, d in differences.items() if not np.isnan(d.mean)}
        corrected = holm(known)
        for row in rows:
            if row.name in known:
                difference = dataclasses.asdict(differences[row.name])
                row.test[metric] = {**difference, "p_holm": corrected[row.name]}


def replicate_runs(
    finished: Mapping[str, Sequence[dict]], base: str, replicates: int
) -> dict[str, list[dict]]:
    """Every run's metrics on the same draws of users; one run's scores at a time.

    Args:
        finished: variant's name → results of `read_finished`, one a seed.
        base: whose candidates are those of all.
        replicates: draws; fewer where there are many users.

    Returns:
        Variant's name → results of `replicate_metrics`, one a seed.

    Raises:
        UserError: if the runs were evaluated on different candidates.
    """
    first = load_scores(finished[base][0]["scores"])
    users = len(np.unique(first.user))
    # Of a few users reports have no intervals; a comparison has all that was asked for.
    most = num_replicates(users) or replicates
    draws = draw_users(users, min(replicates, most))
    result: dict[str, list[dict]] = {}
    for name, runs in finished.items():
        for run in runs:
            scores = load_scores(run["scores"])
            for field in ("request", "user", "label"):
                if not np.array_equal(getattr(scores, field), getattr(first, field)):
                    raise UserError(
                        "Runs to be compared must be evaluated on the same candidates, "
                        f"and the base was on others ('{base}'). "
                        f"Received: '{run['scores']}'"
                    )
            result.setdefault(name, []).append(replicate_metrics(scores, draws))
        _log.info("bootstrap: %s, %d of %d", name, len(result), len(finished))
    return result
