"""What an export tells a model of liked and disliked behaviors is what the data say."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from helpers import make_inputs, make_schema, make_table_sizes
from keras import ops

from ctr_tf.layers.state_spec import StateSpec, history
from ctr_tf.models.ranker import Ranker
from ctr_tf.models.sizes import TowerSizes
from ctr_tf.schema import Bucketized, Numeric, Positive
from serving.sized_ranker import SizedRanker

LENGTHS = (4, 12)


class Liking(Ranker):
    """Its state says which behaviors are positive."""

    config_class = TowerSizes

    def build_parts(self):
        pass

    def state_spec(self):
        return {"liked": StateSpec((history,), "int32")}

    def encode(self, user, behaviors, context, training=False):
        return {"liked": ops.cast(behaviors["positive"], "int32")}


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize(
    "rating",
    [
        Bucketized("rating", "behavior", boundaries=(2, 4, 5)),
        Numeric("rating", "behavior"),
    ],
)
@pytest.mark.parametrize("longest", LENGTHS)
def test_the_mask_is_served(rating, xla, longest):
    plain = make_schema(history_length=LENGTHS[-1])
    schema = dataclasses.replace(
        plain, features=(*plain.features, rating), positive=Positive("rating", 4)
    )
    lengths = [longest, 1, 0, longest - 1]
    inputs = make_inputs(schema, lengths=lengths)
    rng, known = np.random.default_rng(1), inputs["behavior_time"] > 0
    stars = rng.choice([np.nan, 1, 3.5, 4, 5], known.shape).astype(np.float32)
    encoded = np.asarray(rating.to_input(tf.constant(stars)))
    inputs["behavior_rating"] = np.where(known, encoded, 0).astype(encoded.dtype)
    ranker = Liking(schema, make_table_sizes(schema), TowerSizes("liking"))
    ranker.build()
    of_user = {
        key: tf.constant(value)
        for key, value in inputs.items()
        if not key.startswith("candidate_")
    }
    state = SizedRanker(ranker, LENGTHS, (5,), xla=xla).encode(of_user)
    expected = known & (stars >= 4)
    assert expected.any() and (known & ~expected).any()
    np.testing.assert_array_equal(state["liked"], expected)
