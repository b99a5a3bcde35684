"""Two runs on the same candidates: scores are made up, so the answer is known."""

import numpy as np
import pytest
from helpers import make_schema
from sklearn.metrics import roc_auc_score

from ctr_tf.evaluation.against import Against, slices_table, table
from ctr_tf.evaluation.predictions import Predictions
from ctr_tf.evaluation.scores import KeptScores
from ctr_tf.evaluation.slices import Slices, find_slicings
from ctr_tf.synthetic.random_samples import random_vocabularies

SCHEMA = make_schema()
REQUESTS, WIDTH = 300, 5


def make_batch(noise, position_noise=0.0):
    """Slates alike for all noises; some scores are worse at the position 3."""
    random = np.random.default_rng(0)
    shape = (REQUESTS, WIDTH)
    true, position = random.random(shape), random.integers(2, 6, shape)
    label = random.random(shape) < true
    scale = np.where(position == 5, noise + position_noise, noise)
    scores = true + random.normal(size=shape) * scale
    return Predictions(
        request_id=np.array([b"r%d" % i for i in range(REQUESTS)]),
        user_id=random.integers(0, 60, REQUESTS),
        request_time=np.full(REQUESTS, 1_700_000_000),
        history_length=np.zeros(REQUESTS, np.int64),
        labels=label.astype(np.float32),
        probabilities=np.clip(scores, 0.01, 0.99),
        mask=np.ones(shape, bool),
        features={"candidate_position": position},
    )


def against(this, other, folder):
    theirs = KeptScores()
    # The order of batches is nobody's business.
    theirs.update(
        Predictions(
            **{
                name: value[::-1] if isinstance(value, np.ndarray) else value
                for name, value in vars(other).items()
            }
        )
    )
    np.savez(folder / "scores.npz", **theirs.arrays())
    kept = KeptScores()
    slicings = find_slicings(SCHEMA, ["position"])
    slices = Slices(slicings, random_vocabularies(SCHEMA, 20), kept)
    kept.update(this)
    slices.update(this)
    return Against("runs/other", folder / "scores.npz", kept, slices).result()


def test_a_better_run_is_told_from_its_other(tmp_path):
    this, other = make_batch(0.1), make_batch(0.1, position_noise=2.0)
    found = against(this, other, tmp_path)
    aucs = [
        roc_auc_score(batch.labels.ravel(), batch.probabilities.ravel())
        for batch in (this, other)
    ]
    auc = found["metrics"]["auc"]
    assert (auc["this"], auc["other"]) == pytest.approx(aucs, abs=1e-12)
    assert auc["difference"] == pytest.approx(aucs[0] - aucs[1])
    assert 0 < auc["low"] < auc["difference"] < auc["high"] and auc["p"] < 0.01
    loss = found["metrics"]["log_loss"]
    assert loss["high"] < 0 and loss["p"] < 0.01
    worst, *others = found["slices"]
    assert (worst["slicing"], worst["group"]) == ("position", "3")
    rows = this.features["candidate_position"] == 5
    assert worst["candidates"] == rows.sum()
    expected = roc_auc_score(this.labels[rows], this.probabilities[rows])
    assert worst["this"] == pytest.approx(expected)
    assert worst["p"] < 0.01 and len(others) == 3
    assert all(other["difference"] == 0 for other in others)
    assert table(found)[0][2] == "runs/other"
    assert slices_table(found)[1][0] == "position: 3"


def test_a_run_against_itself_differs_in_nothing(tmp_path):
    found = against(make_batch(0.3), make_batch(0.3), tmp_path)
    for part in (*found["metrics"].values(), *found["slices"]):
        assert part["difference"] == part["low"] == part["high"] == 0
        assert part["p"] == 1


def test_other_labels_are_refused(tmp_path):
    other = make_batch(0.3)
    other.labels[3, 2] = 1 - other.labels[3, 2]
    with pytest.raises(ValueError, match="same candidates with the same labels"):
        against(make_batch(0.3), other, tmp_path)
