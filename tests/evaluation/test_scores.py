"""Saved scores come back, a request's candidates side by side."""

import numpy as np
import pytest

from ctr_tf.evaluation.metrics import hash_ids
from ctr_tf.evaluation.predictions import Predictions
from ctr_tf.evaluation.scores import load_scores, saving_scores


def batch(requests, users, labels, probabilities, mask):
    count = len(requests)
    return Predictions(
        request_id=np.array(requests),
        user_id=np.array(users),
        request_time=np.zeros(count, np.int64),
        history_length=np.zeros(count, np.int64),
        labels=np.array(labels, np.float32),
        probabilities=np.array(probabilities),
        mask=np.array(mask, bool),
    )


def test_scores_of_two_orders_are_equal(tmp_path):
    one = batch(["r1"], ["ann"], [[1, 0, 0]], [[0.5, 0.25, 0.9]], [[1, 1, 0]])
    two = batch(
        ["r2", "r3"],
        ["bob", "ann"],
        [[0, 1], [1, 1]],
        [[0.1, 0.2], [0.3, 0.4]],
        [[1, 1], [1, 0]],
    )
    for name, batches in (("a", [one, two]), ("b", [two, one])):
        assert list(saving_scores(batches, tmp_path / name / "s.npz")) == batches
    a, b = (load_scores(tmp_path / name / "s.npz") for name in "ab")
    for field in ("user", "request", "label", "score"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    r1, r2, r3 = (a.request == hash_ids([name])[0] for name in ("r1", "r2", "r3"))
    np.testing.assert_array_equal(a.score[r1], [0.5, 0.25])
    np.testing.assert_array_equal(a.label[r2], [0, 1])
    np.testing.assert_array_equal(a.user[r3], hash_ids(["ann"]))


def test_missing_scores_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no scores at '.*/nothing.npz'"):
        load_scores(tmp_path / "nothing.npz")
