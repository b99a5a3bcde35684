"""What the history is worth: the same model's metrics with the history withheld.

The difference has a 95 % interval by the paired bootstrap over users of
`ctr_tf.evaluation.bootstrap`, up to its `MAX_CANDIDATES`.
"""

import math
from pathlib import Path

import numpy as np

from ctr_tf.evaluation import bootstrap
from ctr_tf.evaluation.metrics import Metrics, hash_ids
from ctr_tf.evaluation.predictions import Predictions
from ctr_tf.evaluation.scores import Scores

METRICS = {"auc": "AUC", "gauc_user": "GAUC, user", "log_loss": "log loss"}

_SOME = 0.01  # of the candidates


class WithheldMetrics:
    """Metrics of slates that were scored once more with the history withheld.

    Args:
        memory_rows: see `Metrics`.
        folder: see `Metrics`.

    Attributes:
        any: whether there were such slates.
    """

    def __init__(self, memory_rows: int, folder: str | Path | None = None):
        self.any = False
        self._metrics = Metrics(memory_rows=memory_rows, folder=folder)
        self._candidates = self._without = 0
        self._kept: list[tuple[np.ndarray, ...]] = []

    def update(self, batch: Predictions) -> None:
        """Adds scored slates, unless their history was not withheld."""
        if batch.withheld is None:
            return
        self.any = True
        mask = batch.mask
        self._metrics.update(
            batch.labels, batch.withheld, mask, batch.request_id, batch.user_id
        )
        self._candidates += np.count_nonzero(mask)
        self._without += np.count_nonzero(mask[batch.history_length == 0])
        if self._candidates > bootstrap.MAX_CANDIDATES:
            self._kept = []
            return
        user = np.repeat(hash_ids(batch.user_id), mask.sum(1))
        label = batch.labels[mask].astype(np.uint8)
        scores = (batch.probabilities[mask], batch.withheld[mask])
        self._kept.append((user, label, *scores))

    def result(self, whole: dict) -> dict:
        """The metrics, and the difference that the history makes.

        Args:
            whole: result of `Metrics.result` of the same slates, their histories read.

        Returns:
            `auc`, `gauc_user` and `log_loss`, None where not defined; of each in
            `difference`, with the history minus without, `mean`, `low` and `high`, the
            ends of the 95 % interval, None where there is none; and `replicates` of
            the bootstrap; `without_history`, the share of candidates whose user has
            none in either case.
        """
        found = self._metrics.result()
        replicates, ends = self._bootstrap()
        difference = {}
        for key in METRICS:
            mean = None if found[key] is None else whole[key] - found[key]
            low, high = ends.get(key, (None, None))
            difference[key] = {"mean": mean, "low": low, "high": high}
        kept = {key: found[key] for key in METRICS}
        share = self._without / max(self._candidates, 1)
        return {
            **kept,
            "difference": difference,
            "replicates": replicates,
            "without_history": share,
        }

    def _bootstrap(self) -> tuple[int, dict[str, tuple[float | None, float | None]]]:
        """Replicates, and of each metric the ends of its interval."""
        what = "what the history is worth comes without an interval"
        if not bootstrap.can_afford(self._candidates, what):
            return 0, {}
        kept = [np.concatenate(parts) for parts in zip(*self._kept, strict=True)]
        user, label, *scores = kept
        users = len(np.unique(user))
        replicates = bootstrap.num_replicates(users)
        draws = bootstrap.draw_users(users, replicates)
        measured: dict[str, dict[str, list[np.ndarray]]] = {}
        for name, score in zip(("whole", "withheld"), scores, strict=True):
            of_name = Scores.of_users(user, label, score)
            metrics = bootstrap.replicate_metrics(of_name, draws)
            metrics["log_loss"] = bootstrap.replicate_log_loss(of_name, draws)
            for key, values in metrics.items():
                measured.setdefault(key, {})[name] = [values]
        ends = {}
        for key, of_metric in measured.items():
            difference = bootstrap.compare_with("withheld", of_metric)["whole"]
            ends[key] = (_known(difference.low), _known(difference.high))
        return replicates, ends


def table(result: dict) -> list[tuple[str, str, str, str, str]]:
    """What the history is worth, in words: a head and a row a metric.

    Args:
        result: of `evaluate_predictions`, with `withheld`.
    """
    withheld = result["withheld"]
    rows = [("history", "read", "withheld", "difference", "95 % interval")]
    for key, label in METRICS.items():
        difference = withheld["difference"][key]
        low, high = (_signed(difference[end]) for end in ("low", "high"))
        rows.append(
            (
                label,
                _plain(result[key]),
                _plain(withheld[key]),
                _signed(difference["mean"]),
                "–" if difference["low"] is None else f"{low} to {high}",
            )
        )
    share = withheld["without_history"]
    if share > _SOME:
        rows.append(("no history", f"{share:.0%}", "100%", "", "of the candidates"))
    return rows


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"
