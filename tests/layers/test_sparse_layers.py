"""Each layer of SparseCTR beside its formula in NumPy loops."""

import helpers
import keras
import numpy as np
import pytest
import reference_encodings
import reference_sparse_ctr as reference
from backends import tensor

from ctr_tf.layers.evo_attention import EvoAttention
from ctr_tf.layers.evo_keys import EvoKeys
from ctr_tf.layers.fixed_chunking import FixedChunking
from ctr_tf.layers.full_attention import FullAttention
from ctr_tf.layers.full_keys import FullKeys
from ctr_tf.layers.rel_temporal import RelTemporal
from ctr_tf.layers.sparse_block import SparseBlock
from ctr_tf.layers.swiglu import SwiGLU
from ctr_tf.layers.temporal_relations import temporal_relations
from ctr_tf.layers.time_chunking import TimeChunking
from ctr_tf.time import chunk_ids

P, M, W, H, D = 4, 2, 5, 4, 16
N, C = 20, 3
LENGTHS = [20, 0, 1, 3, 13]
B = len(LENGTHS)


def normal(random, *shape):
    return random.normal(size=shape).astype(np.float32)


def scatter_weights(layer, random):
    """Gives every weight its own value, so that none is tested at its start alone."""
    for weight in layer.weights:
        weight.assign(np.asarray(weight) + normal(random, *weight.shape) * 0.3)


@pytest.fixture
def sample():
    random = np.random.default_rng(3)
    time = helpers.make_times(random, B, N, LENGTHS)
    return {
        "random": random,
        "time": time,
        "mask": time > 0,
        "chunk": chunk_ids(time, time > 0, P).astype(np.int32),
        "request_time": np.full(B, helpers.REQUEST_TIME),
        "behaviors": normal(random, B, N, D),
        "candidates": normal(random, B, C, D),
        "user": normal(random, B, D),
    }


def sequences(sample, zone=0):
    for row in range(B):
        yield (
            np.concatenate([sample["behaviors"][row], sample["candidates"][row]]),
            sample["user"][row],
            reference.MixedSequence(
                sample["time"][row],
                sample["mask"][row],
                sample["chunk"][row],
                sample["request_time"][row],
                C,
                zone,
            ),
        )


def run(layer, keys, sample):
    """The layer's outputs, behaviors' and candidates', as one mixed sequence."""
    plan, state = keys(*(tensor(sample[k]) for k in ("time", "mask", "chunk")))
    relations = keys.relations_to(state, tensor(sample["request_time"]))
    outputs = layer(
        sample["behaviors"], sample["candidates"], sample["user"], plan, relations
    )
    return np.concatenate(outputs, axis=1)


@pytest.mark.parametrize("relations", [(), ("hour",), ("time", "hour", "weekend")])
@pytest.mark.parametrize("zone", [0, 28_800])
def test_rel_temporal(relations, zone):
    random = np.random.default_rng(0)
    spread = 10.0 ** random.uniform(0, 9, (2, 7))
    time = np.sort(helpers.REQUEST_TIME - spread.astype(np.int64), axis=1)
    time[0, :3] = [0, 3600 * 24 * 7 - 1, 3600 * 24 * 7]
    visible = random.random((2, 7, 7)) < 0.7
    layer = RelTemporal(H, relations)
    layer.build()
    scatter_weights(layer, random)
    matrices = temporal_relations(
        tensor(time)[:, :, None],
        tensor(time)[:, None, :],
        tensor(visible),
        relations,
        zone,
    )
    bias = np.asarray(layer(matrices))
    assert bias.shape == (2, H, 7, 7)
    for b, i, j in np.ndindex(2, 7, 7):
        if visible[b, i, j]:
            expected = reference_encodings.temporal_bias(
                layer, time[b, i], time[b, j], zone
            )
            np.testing.assert_allclose(bias[b, :, i, j], expected, atol=1e-5)
        else:
            assert np.all(bias[b, :, i, j] < -9e8)


def test_rel_temporal_starts_as_a_geometric_sequence():
    layer = RelTemporal(8)
    layer.build()
    expected = [0.5**h for h in range(8)]
    np.testing.assert_allclose(layer.scale, [expected] * 3)


@pytest.mark.parametrize("hours", [0, 1, 23, 24, 25, 24 * 400 + 7])
def test_the_hour_changes_at_the_full_hour(hours):
    for seconds, hour in ((0, hours), (-1, hours - 1), (3599, hours)):
        distance = max(hours * 3600 + seconds, 0)
        expected = np.sin(np.pi * (max(hour, 0) % 24) / 24)
        for query, key in ((distance, 0), (0, distance)):
            times = [tensor([[[t + 12345]]], "int64") for t in (query, key)]
            relation = temporal_relations(*times, tensor([[[True]]]), ("hour",))
            np.testing.assert_allclose(relation[0, 0, 0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("branch", ["global", "transition", "local"])
def test_each_branch(branch, sample):
    layer = EvoAttention(H, W, branches=(branch,))
    layer.build((None, None, D))
    scatter_weights(layer, sample["random"])
    layer.output_projection.kernel.assign(np.eye(D))
    actual = run(layer, EvoKeys(P, M, W, branches=(branch,)), sample)
    for row, (rows, user, sequence) in enumerate(sequences(sample)):
        expected = reference.evo_branches(layer, rows, user, sequence, P, M)[branch]
        np.testing.assert_allclose(actual[row], expected, rtol=1e-4, atol=2e-5)
        if branch != "local":  # sample 1 has no behavior: no key, exactly nothing
            assert not np.any(actual[1])


@pytest.mark.parametrize("branches", [("global", "transition", "local"), ("global",)])
def test_evo_attention(branches, sample):
    layer = EvoAttention(H, W, branches=branches)
    layer.build((None, None, D))
    scatter_weights(layer, sample["random"])
    actual = run(layer, EvoKeys(P, M, W, branches, zone=28_800), sample)
    for row, (rows, user, sequence) in enumerate(sequences(sample, 28_800)):
        expected = reference.evo_attention(layer, rows, user, sequence, P, M)
        np.testing.assert_allclose(actual[row], expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("window", [1, N, N + 7])
def test_windows_longer_than_the_history(window, sample):
    layer = EvoAttention(H, window)
    layer.build((None, None, D))
    actual = run(layer, EvoKeys(P, M, window), sample)
    for row, (rows, user, sequence) in enumerate(sequences(sample)):
        expected = reference.evo_attention(layer, rows, user, sequence, P, M)
        np.testing.assert_allclose(actual[row], expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", ["evo", "full"])
def test_sparse_block(kind, sample):
    attention = EvoAttention(H, W) if kind == "evo" else FullAttention(H)
    block = SparseBlock(attention, ffn_factor=2)
    block.build((None, None, D))
    scatter_weights(block, sample["random"])
    actual = run(block, EvoKeys(P, M, W) if kind == "evo" else FullKeys(), sample)
    for row, (rows, user, sequence) in enumerate(sequences(sample)):
        expected = reference.sparse_block(block, rows, user, sequence, P, M)
        np.testing.assert_allclose(actual[row], expected, rtol=2e-4, atol=5e-5)


def test_swiglu():
    random = np.random.default_rng(0)
    for use_bias in (False, True):
        layer = SwiGLU(12, use_bias=use_bias)
        layer.build((None, D))
        scatter_weights(layer, random)
        inputs = normal(random, 5, D)
        np.testing.assert_allclose(
            layer(inputs), reference.swiglu(layer, inputs), rtol=1e-4, atol=1e-5
        )


def test_time_chunking_takes_or_computes_the_ids(sample):
    time, mask = tensor(sample["time"]), tensor(sample["mask"])
    layer = TimeChunking(P)
    np.testing.assert_array_equal(layer(time, mask), sample["chunk"])
    given = tensor(sample["chunk"] + 1)
    np.testing.assert_array_equal(
        layer(time, mask, given), np.where(sample["mask"], sample["chunk"] + 1, 0)
    )


def test_time_chunking_of_gaps_beyond_32_bits():
    time = np.cumsum([[1, 2**31, 5, 2**40, 2**33, 2**50, 7, 2**20]], axis=1)
    for num_chunks in (2, 3, 5):
        found = TimeChunking(num_chunks)(tensor(time), tensor(time > 0))
        np.testing.assert_array_equal(found, chunk_ids(time, time > 0, num_chunks))


def test_fixed_chunking():
    mask = np.arange(8) >= np.array([0, 2, 5, 8])[:, None]
    expected = [
        [1, 1, 1, 2, 2, 2, 3, 3],
        [0, 0, 1, 1, 2, 2, 3, 3],
        [0, 0, 0, 0, 0, 1, 2, 3],
        [0] * 8,
    ]
    actual = FixedChunking(3)(keras.ops.zeros((4, 8), "int64"), tensor(mask))
    np.testing.assert_array_equal(actual, expected)
