"""What can be known at best in the world of fresh titles, and the AUC of that.

Which of a user's behaviors are fresh does not depend on what they are about. So a
history without times says of a topic only how many of its behaviors have it, and the
slate, whose topics are drawn from the history whatever its times, says nothing more.
That makes the best guesses exact. Of N behaviors n are of the topic, and f are fresh,
each number of `FRESH_SIZE` as likely as any other:

* titles as an unordered set: P(none of the n is fresh | f) = C(N - n, f) / C(N, f)
* in their order: the newest of the n is fresh if fewer than f behaviors are newer
"""

from collections import defaultdict
from collections.abc import Iterator
from math import comb

import numpy as np
import pyarrow as pa

from ctr_tf.synthetic.auc import weighted_auc
from ctr_tf.synthetic.fresh_titles.config import (
    FRESH_SIZE,
    HISTORY_SHARE,
    HISTORY_SIZE,
    MATCH_RATE,
    NUM_TOPICS,
    OTHER_RATE,
)

# Who knows what → the column of the exposures that holds the best guess from that.
KNOWN = {
    "reachable": "true_probability",
    "ordered": "ordered_probability",
    "blind": "blind_probability",
}


def click_rate(chance: np.ndarray) -> np.ndarray:
    """Probability of a click, by the chance of a fresh behavior of the topic."""
    return OTHER_RATE + (MATCH_RATE - OTHER_RATE) * chance


def blind_chances() -> np.ndarray:
    """Chance of a fresh behavior of a topic, to who knows no time.

    Returns:
        `[N + 1, N + 1]`: by the number of behaviors, and of those of the topic. 0 where
        there are no such histories.
    """
    least, most = HISTORY_SIZE
    chances = np.zeros((most + 1, most + 1))
    for size in range(least, most + 1):
        for count in range(size + 1):
            chances[size, count] = np.mean(
                [1 - comb(size - count, f) / comb(size, f) for f in _fresh_sizes()]
            )
    return chances


def ordered_chances() -> np.ndarray:
    """Chance of a fresh behavior of a topic, to who knows the order but no time.

    Returns:
        `[N + 1]`: by the number of behaviors that are newer than all of the topic; 0 at
        N, which stands for none of the topic.
    """
    newer = np.arange(HISTORY_SIZE[1] + 1)
    return np.mean([f > newer for f in _fresh_sizes()], axis=0)


def exact_limits() -> dict[str, float]:
    """The AUC of the best guesses, over all that may happen.

    Returns:
        A value for each of `KNOWN`: by the true probability; without the ages of
        behaviors; without their order as well.
    """
    blind, ordered = blind_chances(), ordered_chances()
    # Chance of a fresh behavior → how many candidates have it.
    found: dict[str, dict] = {name: defaultdict(float) for name in KNOWN}
    for size, count, weight in _candidates():
        chance = blind[size, count]
        found["blind"][chance] += weight
        found["reachable"][1.0] += weight * chance
        found["reachable"][0.0] += weight * (1 - chance)
        if not count:
            found["ordered"][0.0] += weight
        for newer in range(size - count + 1 if count else 0):
            # The places of the topic's other behaviors are all older ones.
            share = comb(size - 1 - newer, count - 1) / comb(size, count)
            found["ordered"][ordered[newer]] += weight * share
    return {name: _auc(weights) for name, weights in found.items()}


def found_limits(exposures: pa.Table) -> dict[str, float]:
    """The AUC of the best guesses against the clicks of a table; see `exact_limits`."""
    click = exposures["click"].to_numpy().astype(np.float64)
    return {
        name: weighted_auc(exposures[column].to_numpy(), click, 1 - click)
        for name, column in KNOWN.items()
    }


def _candidates() -> Iterator[tuple[int, int, float]]:
    """Behaviors, those of the candidate's topic, and how likely that is."""
    least, most = HISTORY_SIZE
    for size in range(least, most + 1):
        for chosen, share in ((1, HISTORY_SHARE), (0, 1 - HISTORY_SHARE)):
            others = size - chosen  # whose topics are by chance that of the candidate
            for same in range(others + 1):
                likely = comb(others, same) * (NUM_TOPICS - 1) ** (others - same)
                weight = share * likely / NUM_TOPICS**others / (most - least + 1)
                yield size, chosen + same, weight


def _fresh_sizes() -> range:
    return range(FRESH_SIZE[0], FRESH_SIZE[1] + 1)


def _auc(weights: dict[float, float]) -> float:
    rate, weight = click_rate(np.array(list(weights))), np.array([*weights.values()])
    return weighted_auc(rate, weight * rate, weight * (1 - rate))
