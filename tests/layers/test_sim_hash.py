"""SimHash and its collisions beside loops over NumPy vectors."""

import numpy as np
import pytest
from backends import gradients
from keras import ops
from keras.backend import standardize_dtype
from reference_retrieval import code, collisions

from ctr_tf.layers.hash_collisions import HashCollisions
from ctr_tf.layers.sim_hash import SimHash

BATCH, LENGTH, CANDIDATES, WIDTH = 2, 9, 4, 8


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def as_number(code) -> int:
    return sum(2**place for place, bit in enumerate(code) if bit)


@pytest.mark.parametrize(("bits", "groups"), [(32, 1), (62, 2), (3, 4)])
def test_codes_and_distances(bits, groups):
    layer = SimHash(bits, groups, seed=3)
    keys, queries = normal(BATCH, LENGTH, WIDTH), normal(BATCH, CANDIDATES, WIDTH)
    key_codes, query_codes = layer(keys), layer(queries)
    assert tuple(key_codes.shape) == (BATCH, LENGTH, groups)
    assert standardize_dtype(key_codes.dtype) == "int64"
    planes = np.asarray(layer.planes)
    assert planes.shape == (WIDTH, bits * groups)
    distance = np.asarray(layer.distance(query_codes, key_codes))
    assert distance.dtype == np.float32
    for b in range(BATCH):
        for n in range(LENGTH):
            key_code = code(keys[b, n], planes)
            expected = [
                as_number(key_code[g * bits : (g + 1) * bits]) for g in range(groups)
            ]
            np.testing.assert_array_equal(key_codes[b, n], expected)
            for c in range(CANDIDATES):
                query_code = code(queries[b, c], planes)
                differing = sum(
                    x != y for x, y in zip(query_code, key_code, strict=True)
                )
                assert distance[b, c, n] == differing


def test_distance_measures_the_angle():
    layer = SimHash(62, 32)
    x = normal(1, 1, WIDTH)
    other = normal(1, 1, WIDTH, seed=1)
    cosine = np.sum(x * other) / np.linalg.norm(x) / np.linalg.norm(other)
    share = np.asarray(layer.distance(layer(x), layer(other))) / layer.total_bits
    assert abs(share[0, 0, 0] - np.arccos(cosine) / np.pi) < 0.03
    assert layer.distance(layer(x), layer(5 * x))[0, 0, 0] == 0
    assert layer.distance(layer(x), layer(-x))[0, 0, 0] == layer.total_bits


def test_planes_are_fixed_by_the_seed_and_not_trained():
    first, same, other = SimHash(8, seed=1), SimHash(8, seed=1), SimHash(8, seed=2)
    for layer in (first, same, other):
        layer.build((None, WIDTH))
    np.testing.assert_array_equal(first.planes, same.planes)
    assert np.any(np.asarray(first.planes) != np.asarray(other.planes))
    assert not first.trainable_weights and len(first.weights) == 1


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_collisions(policy):
    layer = HashCollisions(num_groups=5, num_bits=2, dtype=policy)
    half = layer.compute_dtype
    keys = ops.cast(normal(BATCH, LENGTH, WIDTH), half)
    queries = ops.cast(normal(BATCH, CANDIDATES, WIDTH, seed=1), half)
    values = ops.cast(normal(BATCH, LENGTH, 3, seed=2), half)
    mask = np.array([[False] * 4 + [True] * 5, [False] * 9])
    output = layer(queries, keys, values, mask)
    assert standardize_dtype(output.dtype) == half
    planes = np.asarray(layer.hash.planes)
    for b in range(BATCH):
        for c in range(CANDIDATES):
            query, key, value = (
                np.asarray(ops.cast(x[b], "float32")) for x in (queries, keys, values)
            )
            expected = collisions(query[c], key, value, mask[b], planes, 2)
            tolerance = 1e-6 if policy == "float32" else 2e-2
            found = np.asarray(ops.cast(output[b, c], "float32"))
            np.testing.assert_allclose(found, expected, atol=tolerance)
    output = np.asarray(ops.cast(output, "float32"))
    assert np.any(output[0] != 0) and np.all(output[1] == 0)


def test_buckets_do_not_grow_and_ignore_padding():
    layer = HashCollisions(num_groups=4, num_bits=3)
    keys, mask = normal(BATCH, LENGTH, WIDTH), np.ones((BATCH, LENGTH), bool)
    layer.build((None, None, WIDTH))
    buckets = layer.encode(keys, keys, mask)
    assert buckets.shape == (BATCH, 4 * 8, WIDTH)
    padding = ((0, 0), (7, 0))
    padded_keys = np.pad(keys, (*padding, (0, 0)), constant_values=3)
    padded = layer.encode(padded_keys, padded_keys, np.pad(mask, padding))
    np.testing.assert_allclose(padded, buckets, atol=1e-6)


def test_gradients_reach_the_behaviors_only():
    layer = HashCollisions(num_groups=4, num_bits=2)
    keys = normal(BATCH, LENGTH, WIDTH)
    queries = normal(BATCH, CANDIDATES, WIDTH, seed=1)
    mask = np.arange(LENGTH) >= [[3], [9]]

    def loss(keys, queries):
        output = layer(queries, keys, keys, mask)
        return ops.sum(ops.multiply(output**2, np.arange(WIDTH, dtype=np.float32)))

    of_keys, of_queries = map(np.asarray, gradients(loss, (keys, queries)))
    assert not np.any(of_queries)
    assert np.all(np.isfinite(of_keys))
    assert np.any(of_keys[0, 3:] != 0) and np.all(of_keys[1] == 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SimHash(63), "Received: num_bits=63"),
        (lambda: SimHash(0), "Received: num_bits=0"),
        (lambda: HashCollisions(0), "Received: num_groups=0"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert message in str(error.value)
