"""Whether one model is better than another: a paired bootstrap over users.

A user's requests depend on each other, and three seeds are too few for a test over
seeds alone (its t distribution has two degrees of freedom). So each replicate draws
users with replacement, the same for every model, which keeps the comparison paired,
and for each model its seeds with replacement, so that the luck of a training counts as
well. The model's metric in the replicate is the mean over the seeds drawn.

The p-value is two-sided: twice the share of replicates in which the difference to the
base has the other sign, with one added to both counts (Davison and Hinkley, "Bootstrap
methods and their application", 1997, section 4.4), so it is never 0. Drawing from S
seeds understates their variance by (S - 1) / S; with one seed the test is about users
alone.

Shapes: `n` candidates, `U` users, `R` replicates.
"""

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ctr_tf.evaluation.metrics import EPSILON
from ctr_tf.evaluation.pairs import dense_rank, pair_counts
from ctr_tf.evaluation.scores import Scores

METRICS = ("auc", "gauc_user")
_log = logging.getLogger(__name__)
# Of a report's intervals: what has more candidates differs for certain, and what has
# fewer users gives none that is worth its name.
MAX_CANDIDATES, MIN_USERS = 500_000, 10
_CELLS = 1 << 21  # of a block of replicates × candidates, or × users
_DRAWN_CELLS = 1 << 24  # of draws: replicates × users
_MIN_REPLICATES, _MAX_REPLICATES = 200, 1_000


@dataclasses.dataclass
class Difference:
    """A model's metric minus the base's.

    Args:
        mean: of the seeds' means.
        low: lower end of the 95 % interval.
        high: upper end.
        p: two-sided p-value.
        replicates: that all this is of.
    """

    mean: float
    low: float
    high: float
    p: float
    replicates: int


def num_replicates(users: int) -> int:
    """Replicates that a report can afford, fewer where there are many users.

    None at all of fewer users than `MIN_USERS`.
    """
    if users < MIN_USERS:
        return 0
    wanted = _DRAWN_CELLS // max(users, 1)
    return int(np.clip(wanted, _MIN_REPLICATES, _MAX_REPLICATES))


def can_afford(candidates: int, what: str) -> bool:
    """Whether a report has intervals of so many candidates; says so where not.

    Args:
        candidates: of the split.
        what: comes without, such as `"slices come without intervals"`.
    """
    if candidates <= MAX_CANDIDATES:
        return True
    _log.info(
        "%s: the split has %s candidates, more than %s",
        *(what, f"{candidates:,}", f"{MAX_CANDIDATES:,}"),
    )
    return False


def draw_users(users: int, replicates: int, seed: int = 0) -> np.ndarray:
    """How often each user is drawn, uint16 `[R, U]`; every row sums to U."""
    random = np.random.default_rng(seed)
    even = np.full(users, 1 / users)
    draws = np.empty((replicates, users), np.uint16)
    for row in draws:  # all at once would be as many numbers of 8 bytes
        row[:] = random.multinomial(users, even)
    return draws


def _weights(draws: np.ndarray, width: int) -> Iterator[np.ndarray]:
    """How often users count, float64 `[r, U]`: first each once, then as drawn.

    Args:
        draws: `[R, U]`.
        width: numbers of a replicate; those of a block fill `_CELLS`.
    """
    yield np.ones((1, draws.shape[1]))
    block = max(_CELLS // width, 1)
    for start in range(0, len(draws), block):
        yield draws[start : start + block].astype(np.float64)


def replicate_metrics(scores: Scores, draws: np.ndarray) -> dict[str, np.ndarray]:
    """A run's metrics on every replicate.

    Args:
        scores: of the run.
        draws: `[R, U]`, see `draw_users`; U users in ascending order of their hash.

    Returns:
        Metric of `METRICS` → float64 `[1 + R]`: first the metric itself, on the users
        as they are. NaN where a replicate lacks one of the classes.
    """
    users = draws.shape[1]
    user = np.unique(scores.user, return_inverse=True)[1]
    order = np.argsort(scores.score, kind="stable")
    user, label = user[order], scores.label[order]
    rank = dense_rank(scores.score[order])
    counts = pair_counts(user, rank, label, users)
    size = np.where(counts.both, counts.positives + counts.negatives, 0)
    won = np.where(counts.both, np.nan_to_num(counts.auc()), 0) * size
    with np.errstate(invalid="ignore"):
        gauc = [(w @ won) / (w @ size) for w in _weights(draws, users)]
    return {
        "auc": _weighted_auc(user, rank, label, draws),
        "gauc_user": np.concatenate(gauc),
    }


def replicate_log_loss(scores: Scores, draws: np.ndarray) -> np.ndarray:
    """The log loss, and that of every replicate, as `replicate_metrics`: `[1 + R]`."""
    clipped = np.clip(scores.score, EPSILON, 1 - EPSILON)
    loss = -np.log(np.where(scores.label > 0, clipped, 1 - clipped))
    return _replicate_ratio(scores, loss, np.ones(len(loss)), draws)


def replicate_calibration(scores: Scores, draws: np.ndarray) -> np.ndarray:
    """Predicted / observed CTR, as `replicate_metrics`: `[1 + R]`, NaN without one."""
    return _replicate_ratio(scores, scores.score, scores.label, draws)


def replicate_all(scores: Scores, draws: np.ndarray) -> dict[str, np.ndarray]:
    """`replicate_metrics`, `log_loss` and `calibration` (predicted / observed CTR)."""
    return {
        **replicate_metrics(scores, draws),
        "log_loss": replicate_log_loss(scores, draws),
        "calibration": replicate_calibration(scores, draws),
    }


def interval(replicates: np.ndarray) -> tuple[float, float] | None:
    """The ends of the 95 % interval of a metric's replicates, None where none has it.

    Args:
        replicates: `[R]`, NaN where one has no such metric.
    """
    known = replicates[~np.isnan(replicates)]
    if not len(known):
        return None
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


def _replicate_ratio(
    scores: Scores, above: np.ndarray, below: np.ndarray, draws: np.ndarray
) -> np.ndarray:
    users = draws.shape[1]
    user = np.unique(scores.user, return_inverse=True)[1]
    of_users = np.stack([np.bincount(user, v, users) for v in (above, below)], 1)
    total, count = np.concatenate([w @ of_users for w in _weights(draws, users)]).T
    return np.divide(total, count, np.full(len(total), np.nan), where=count > 0)


def _weighted_auc(
    user: np.ndarray, rank: np.ndarray, label: np.ndarray, draws: np.ndarray
) -> np.ndarray:
    """AUC with each user's candidates counted so many times: exact, ties one half."""
    ties = np.flatnonzero(np.diff(rank, prepend=-1))
    result = []
    for weights in _weights(draws, len(user)):
        all_RN = weights[:, user]
        positive_RT = np.add.reduceat(all_RN * label, ties, axis=1)
        negative_RT = np.add.reduceat(all_RN, ties, axis=1) - positive_RT
        below_RT = np.cumsum(negative_RT, axis=1) - negative_RT / 2
        won = (positive_RT * below_RT).sum(1)
        pairs = positive_RT.sum(1) * negative_RT.sum(1)
        result.append(np.divide(won, pairs, np.full(len(won), np.nan), where=pairs > 0))
    return np.concatenate(result)


def compare_with(
    base: str, metrics: Mapping[str, Sequence[np.ndarray]], seed: int = 0
) -> dict[str, Difference]:
    """Every model's difference to the base, for one metric.

    Args:
        base: name of the base.
        metrics: model → for each of its seeds `[1 + R]`, see `replicate_metrics`.
        seed: of drawing seeds.

    Returns:
        Model → difference, of all but the base.
    """
    random = np.random.default_rng(seed)
    means, replicates = {}, {}
    for name, seeds in metrics.items():
        values = np.stack(seeds)
        drawn = random.integers(len(values), size=(len(values), values.shape[1] - 1))
        replicates[name] = np.take_along_axis(values[:, 1:], drawn, 0).mean(0)
        means[name] = float(values[:, 0].mean())
    return {
        name: _difference(means[name] - means[base], values - replicates[base])
        for name, values in replicates.items()
        if name != base
    }


def _difference(mean: float, replicates: np.ndarray) -> Difference:
    ends = interval(replicates)
    if ends is None:  # no user has both classes: there is no GAUC
        return Difference(mean, np.nan, np.nan, 1.0, len(replicates))
    known = replicates[~np.isnan(replicates)]
    other_sign = min((known <= 0).sum(), (known >= 0).sum())
    p = min(2 * (1 + other_sign) / (1 + len(known)), 1.0)
    return Difference(mean, *ends, float(p), len(replicates))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values corrected for testing as many models as there are (Holm, 1979)."""
    result, largest = {}, 0.0
    ordered = sorted(p_values, key=p_values.__getitem__)
    for place, name in enumerate(ordered):
        largest = max(largest, min((len(ordered) - place) * p_values[name], 1.0))
        result[name] = largest
    return result
