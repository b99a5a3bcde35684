"""Each relative encoding beside its formula, and in both attentions of SparseCTR."""

import helpers
import keras
import numpy as np
import pytest
import reference_encodings as reference
import reference_sparse_ctr
from backends import tensor
from keras import ops

from ctr_tf.layers.alibi import Alibi
from ctr_tf.layers.hstu_bias import HSTUBias
from ctr_tf.layers.relative_encoding import HIDDEN
from ctr_tf.layers.rotary_encoding import RotaryEncoding
from ctr_tf.layers.t5_bias import T5Bias
from ctr_tf.layers.temporal_relations import temporal_relations
from ctr_tf.models import build_ranker
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig

N, H, D = 40, 4, 16


def pairs(layer, stretch=1):
    """Biases of all pairs of one history, `[N, N, heads]`, its times and distances."""
    random = np.random.default_rng(1)
    time = np.sort(helpers.REQUEST_TIME - (10 ** random.uniform(0, 9, N)).astype(int))
    time[1] = time[0]
    distance = (np.arange(N)[:, None] - np.arange(N)) * stretch
    layer.build((None, N, D))
    for weight in layer.weights:
        weight.assign(random.normal(size=weight.shape))
    relations = temporal_relations(
        tensor(time)[None, :, None],
        tensor(time)[None, None, :],
        tensor(distance >= 0)[None],
        layer.relations,
        distance=tensor(distance, "int32"),
    )
    return np.transpose(np.asarray(layer(relations))[0], (1, 2, 0)), time, distance


@pytest.mark.parametrize("layer", [HSTUBias(N), T5Bias(H), Alibi(H), RotaryEncoding(H)])
def test_bias_of_every_pair(layer):
    bias, time, distance = pairs(
        layer, stretch=1 if layer.name.startswith("hstu") else 5
    )
    key = np.ones(D)
    for i, j in np.ndindex(N, N):
        if distance[i, j] < 0:
            assert np.all(bias[i, j] < HIDDEN / 2)
            continue
        _, expected = reference.place(layer, key, time[i], time[j], distance[i, j])
        np.testing.assert_allclose(bias[i, j], expected, rtol=1e-5, atol=1e-5)


def test_alibi_of_eight_heads():
    bias, _, _ = pairs(Alibi(8))
    np.testing.assert_allclose(bias[1, 0], [-(2.0**-h) for h in range(1, 9)])


def test_distances_beyond_the_table_take_its_last_row():
    layer = HSTUBias(3)
    bias, time, _ = pairs(layer)
    expected = reference.hstu_bias(layer, time[30], time[2], distance=3)
    np.testing.assert_allclose(bias[30, 2], expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rotation(dtype):
    random = np.random.default_rng(0)
    rows = ops.cast(random.normal(size=(2, 5, D)), dtype)
    position = random.integers(-1000, 1, (2, 5))
    turned = RotaryEncoding(H).rotate(rows, tensor(position))
    assert keras.backend.standardize_dtype(turned.dtype) == dtype
    atol = 1e-3 if dtype == "float32" else 2e-2
    for b, q in np.ndindex(2, 5):
        expected = reference.turn(ops.cast(rows[b, q], "float32"), H, position[b, q])
        np.testing.assert_allclose(
            ops.cast(turned[b, q], "float32"), expected, atol=atol
        )


@pytest.mark.parametrize("attention", ["evo", "full"])
@pytest.mark.parametrize("encoding", ["hstu", "t5", "alibi", "rope"])
def test_equals_the_mixed_sequence(attention, encoding):
    schema = helpers.make_schema(history_length=24)
    config = SparseCTRConfig(
        dim=D,
        num_heads=H,
        attention=attention,
        relative_encoding=encoding,
        candidate_tower=(),
    )
    model = build_ranker(config, schema, helpers.make_table_sizes(schema))
    random = np.random.default_rng(0)
    for block in model.blocks:
        for weight in block.attention.weights:
            weight.assign(weight + 0.3 * random.normal(size=weight.shape))
    inputs = helpers.make_inputs(
        schema, batch=3, num_chunks=model.num_chunks, lengths=[24, 1, 9]
    )
    expected = reference_sparse_ctr.sparse_ctr(model, inputs)
    found = helpers.scores(model, inputs)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-4)
