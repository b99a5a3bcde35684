"""Dropout of embedding rows: what is dropped, how the rest is scaled, and when."""

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.training.row_dropout import RowDropout, RowDropoutConfig

KEYS = {
    "user_age": "user_age",
    "behavior_item_id": "behavior_item_id",
    "weights_of_item": "candidate_item_id",
}


def make_rows():
    shapes = {
        "user_age": (50, 1, 4),
        "behavior_item_id": (50, 40, 4),
        "weights_of_item": (50, 3, 6),
    }
    rng = np.random.default_rng(0)
    return {
        name: tf.constant(rng.uniform(1, 2, shape), tf.float32)
        for name, shape in shapes.items()
    }


def test_whole_rows_are_dropped_and_the_rest_is_scaled():
    rows = make_rows()
    rates = RowDropoutConfig(behavior=0.25, candidate=0.5)
    dropped = RowDropout(rates)(rows, 3, KEYS)
    np.testing.assert_array_equal(dropped["user_age"], rows["user_age"])
    for name, rate in (("behavior_item_id", 0.25), ("weights_of_item", 0.5)):
        before, after = rows[name].numpy(), dropped[name].numpy()
        gone = np.all(after == 0, axis=-1)
        np.testing.assert_allclose(after[~gone], before[~gone] / (1 - rate), rtol=1e-6)
        assert abs(gone.mean() - rate) < 0.1


def test_seed_and_step_decide():
    rows, rates = make_rows(), RowDropoutConfig(behavior=0.5)

    def dropped(seed, step):
        result = RowDropout(rates, seed)(rows, tf.constant(step, tf.int64), KEYS)
        return result["behavior_item_id"].numpy() == 0

    assert np.array_equal(dropped(0, 7), dropped(0, 7))
    assert not np.array_equal(dropped(0, 7), dropped(0, 8))
    assert not np.array_equal(dropped(0, 7), dropped(1, 7))


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_rates(rate):
    with pytest.raises(ValueError, match=r"`training\.row_dropout\.user` .*Received"):
        RowDropoutConfig(user=rate)
