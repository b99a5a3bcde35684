"""A run against another on the same candidates: differences, and whether they are real.

Differences are this run minus the other, with the 95 % interval and the p-value of the
paired bootstrap over users (`ctr_tf.evaluation.bootstrap`), up to its `MAX_CANDIDATES`.
The luck of a training is not in them: one run each says nothing of another seed
(`ctr-tf compare --seeds` does).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ctr_tf.errors import UserError
from ctr_tf.evaluation import bootstrap
from ctr_tf.evaluation.scores import KeptScores, Scores, by_request, load_scores
from ctr_tf.evaluation.slices import METRICS, Slices, with_interval

_MOST_SLICES = 8  # that are told


class Against:
    """Compares the scores of a run with those that another has left.

    Args:
        name: of the other run.
        path: of its scores, see `ctr_tf.evaluation.scores`.
        kept: this run's scores; who feeds them is their owner.
        slices: in which the two are compared as well; fed by its owner, too.
    """

    def __init__(self, name: str, path: str | Path, kept: KeptScores, slices: Slices):
        self._name = name
        self._path = path
        self._kept = kept
        self._slices = slices

    def result(self) -> dict:
        """The differences.

        Returns:
            `name` of the other run; `metrics`: of each of `METRICS` that both define
            `this`, `other`, `difference`, `low`, `high` and `p`, None where there is no
            interval; `slices`: the groups that differ most, by p and then by size of
            the difference, each with `slicing`, `group`, `candidates` and the same of
            its AUC; those of few users, which have no interval, are left out.

        Raises:
            UserError: if the other run was scored on other candidates.
        """
        mine, order = by_request(self._kept.arrays())
        other = load_scores(self._path)
        for field in ("request", "user", "label"):
            if not np.array_equal(getattr(mine, field), getattr(other, field)):
                raise UserError(
                    "Runs are compared on the same candidates with the same labels, "
                    f"and these two have scored others. Received: '{self._path}'"
                )
        what = "the runs are compared without intervals"
        with_intervals = bootstrap.can_afford(len(mine.label), what)
        groups = []
        for slicing, parts in self._slices.groups():
            for group, rows in parts:
                here = rows[order]
                found = differences(
                    _some(mine, here), _some(other, here), with_intervals
                ).get("auc")
                tells = not with_intervals or (found and found["p"] is not None)
                if found is not None and tells:
                    count = int(rows.sum())
                    about = {"slicing": slicing, "group": group, "candidates": count}
                    groups.append({**about, **found})
        groups.sort(key=_least_likely)
        return {
            "name": self._name,
            "metrics": differences(mine, other, with_intervals),
            "slices": groups[:_MOST_SLICES],
        }


def differences(this: Scores, other: Scores, with_intervals: bool) -> dict:
    """Differences of two scores of the same candidates; see `Against.result`."""
    users = len(np.unique(this.user))
    drawn = bootstrap.num_replicates(users) if with_intervals else 0
    draws = bootstrap.draw_users(users, drawn)
    found = {
        name: bootstrap.replicate_all(scores, draws)
        for name, scores in (("this", this), ("other", other))
    }
    result = {}
    for key in METRICS:
        values = {name: float(metrics[key][0]) for name, metrics in found.items()}
        if np.isnan(list(values.values())).any():
            continue
        part: dict[str, float | None] = {
            **values,
            "difference": values["this"] - values["other"],
        }
        of_metric = {name: [metrics[key]] for name, metrics in found.items()}
        tested = bootstrap.compare_with("other", of_metric)["this"]
        is_known = not np.isnan(tested.low)
        for name in ("low", "high", "p"):
            part[name] = getattr(tested, name) if is_known else None
        result[key] = part
    return result


def _some(scores: Scores, rows: np.ndarray) -> Scores:
    return Scores(
        scores.user[rows], scores.request[rows], scores.label[rows], scores.score[rows]
    )


def _least_likely(group: Mapping) -> tuple[float, float]:
    p = group["p"]
    return 1.0 if p is None else p, -abs(group["difference"])


def table(against: dict) -> list[list[str]]:
    """The comparison in words: a head and a row a metric.

    Args:
        against: of `Against.result`.
    """
    head = ["", "this run", against["name"], "difference (95 %)", "p"]
    return [head, *([METRICS[k], *_words(m)] for k, m in against["metrics"].items())]


def slices_table(against: dict) -> list[list[str]]:
    """Where the two differ most, in words: a head and a row a group."""
    head = ["AUC where", "candidates", "this run", against["name"]]
    rows = [[*head, "difference (95 %)", "p"]]
    for group in against["slices"]:
        where = f"{group['slicing']}: {group['group']}"
        rows.append([where, f"{group['candidates']:,}", *_words(group)])
    return rows


def _words(part: Mapping) -> list[str]:
    low, high, p = part["low"], part["high"], part["p"]
    return [
        f"{part['this']:.4f}",
        f"{part['other']:.4f}",
        with_interval(part["difference"], low, high, "+"),
        "–" if p is None else f"{p:.3f}",
    ]
