"""What is tried next, and what mattered, on functions that are known."""

import math

import numpy as np
import pytest

from ctr_tf.tuning.ranges import Range
from ctr_tf.tuning.sampler import FEWEST, Tried, importances, propose
from ctr_tf.tuning.space import lies_in

SPACE = {
    "rate": Range(1e-4, 1e-1, log=True),
    "dropout": Range(0.0, 1.0),
    "blocks": Range(1, 4),
    "units": ([8], [16, 8], None),
}


def reached(values):
    """Best at 0.01, 0.3 and [16, 8]; blocks do not matter."""
    far = abs(math.log10(values["rate"]) + 2) + (values["dropout"] - 0.3) ** 2
    return 0.8 - 0.1 * far + 0.05 * (values["units"] == [16, 8])


def search(trials, seed=0):
    known = []
    for number in range(1, trials + 1):
        values = propose(SPACE, known, number, seed)
        known.append(Tried(values, reached(values)))
    return known


def test_values_lie_in_the_space_and_follow_from_what_is_known():
    known = search(12)
    assert all(lies_in(SPACE, tried.values) for tried in known)
    assert {type(tried.values["blocks"]) for tried in known} == {int}
    assert search(12) == known != search(12, seed=1)
    for number in (3, 9):
        again = propose(SPACE, known[: number - 1], number)
        assert again == known[number - 1].values


def test_the_first_values_leave_no_large_part_out():
    for seed in range(5):
        tried = [propose(SPACE, [], number, seed) for number in range(2, 8)]
        rates = [(math.log10(values["rate"]) + 4) / 3 for values in tried]
        for shares in (rates, [values["dropout"] for values in tried]):
            assert np.diff([0, *sorted(shares), 1]).max() < 0.45
        assert {v["blocks"] for v in tried} == {1, 2, 3, 4}
        assert {str(v["units"]) for v in tried} == {"[8]", "[16, 8]", "None"}


def test_it_learns():
    best = [max(t.value for t in search(24, seed)) for seed in range(4)]
    random = np.random.default_rng(0)
    blind = [
        max(
            reached({
                "rate": 10 ** random.uniform(-4, -1),
                "dropout": random.uniform(),
                "units": SPACE["units"][random.integers(3)],
            })
            for _ in range(24)
        )
        for _ in range(200)
    ]  # fmt: skip
    assert np.mean(best) > np.mean(blind)


def test_no_values_are_tried_twice_until_none_are_left():
    space, known = {"units": ([8], [16]), "blocks": Range(1, 3)}, []
    while (values := propose(space, known, len(known) + 1)) is not None:
        known.append(Tried(values, 0.5))
    assert len({str(tried.values) for tried in known}) == len(known) == 6


def test_failed_trials_and_those_outside_do_not_hinder():
    inside = search(8)
    outside = Tried({"rate": 1.0, "dropout": None, "blocks": 9, "units": []}, 0.9)
    failed = Tried({**inside[0].values, "dropout": 0.77}, None)
    assert lies_in(SPACE, propose(SPACE, [outside, *inside, failed], 11))


def test_what_matters_is_what_the_variance_comes_from():
    space = {"a": Range(0.0, 1.0), "b": Range(0.0, 1.0), "c": Range(0.0, 1.0)}
    random = np.random.default_rng(0)
    drawn = [dict(zip("abc", random.random(3), strict=True)) for _ in range(80)]
    known = [Tried(values, 3 * values["a"] + values["b"]) for values in drawn]
    shares = importances(space, known)
    assert list(shares)[0] == "a" and sum(shares.values()) == pytest.approx(1)
    variances = [np.var([3 * v["a"] for v in drawn]), np.var([v["b"] for v in drawn])]
    assert shares["a"] == pytest.approx(variances[0] / sum(variances), abs=0.08)
    assert shares["c"] < 0.05
    assert importances(space, known[: FEWEST - 1]) == {}
    assert importances(space, [Tried(values, 0.5) for values in drawn]) == {}
