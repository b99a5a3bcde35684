"""Clusters of behaviors and the attention over them, beside recursion and loops."""

import numpy as np
import pytest
import reference_retrieval as reference
from backends import gradients, tensor
from keras import ops

from ctr_tf.layers.behavior_clusters import BehaviorClusters
from ctr_tf.layers.cluster_attention import ClusterAttention

BATCH, LENGTH, CANDIDATES, WIDTH = 3, 40, 4, 8
REQUEST_TIME = 1_700_000_000


def histories(seed: int = 0):
    """Keys with many equal ones, values, times and a mask with an empty row."""
    random = np.random.default_rng(seed)
    items = random.normal(size=(15, 5)).astype(np.float32)
    keys = items[random.integers(0, 15, (BATCH, LENGTH))]
    values = random.normal(size=(BATCH, LENGTH, WIDTH)).astype(np.float32)
    age = np.sort(random.integers(1, 10**7, (BATCH, LENGTH)))[:, ::-1]
    mask = np.arange(LENGTH) >= np.array([[0], [23], [LENGTH]])
    return keys, values, np.where(mask, REQUEST_TIME - age, 0), mask


def test_clusters_equal_a_recursion():
    layer = BehaviorClusters(num_clusters=16, cluster_size=3)
    keys, values, time, mask = histories()
    result = layer(keys, values, time, mask)
    members = [
        reference.clusters(keys[b], mask[b], layer.start, 16, 3) for b in range(BATCH)
    ]
    assert max(len(m) for m in members[0]) > 3, "no cluster of equal items"
    for b in range(BATCH):
        for m, inside in enumerate(members[b]):
            assert result["cluster_size"][b, m] == len(inside)
            mean = np.mean(values[b, inside], axis=0) if inside else np.zeros(WIDTH)
            np.testing.assert_allclose(result["cluster"][b, m], mean, atol=1e-5)
            mean = sum(int(t) for t in time[b, inside]) // max(len(inside), 1)
            assert int(result["cluster_time"][b, m]) == mean


def test_padding_changes_no_cluster():
    layer = BehaviorClusters(num_clusters=16, cluster_size=3)
    keys, values, time, mask = histories()
    before = layer(keys, values, time, mask)
    wide = ((0, 0), (11, 0), (0, 0))
    after = layer(
        np.pad(keys, wide, constant_values=7),
        np.pad(values, wide, constant_values=7),
        np.pad(time, wide[:2], constant_values=7),
        np.pad(mask, wide[:2]),
    )
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_equal_items_stay_together_and_groups_apart(dtype):
    random = np.random.default_rng(0)
    centers = 3 * random.normal(size=(4, 5))
    group = random.integers(0, 4, (1, 200))
    keys = (centers[group] + 0.1 * random.normal(size=(1, 200, 5))).astype(np.float32)
    keys[0, :60] = keys[0, 0]
    layer = BehaviorClusters(64, 6, dtype=dtype)
    layer.build(keys.shape)
    keys = ops.cast(keys, layer.compute_dtype)
    index = np.asarray(layer.assign(keys, np.ones((1, 200), bool)))[0]
    assert len(set(index[:60])) == 1
    group[0, :60] = group[0, 0]
    for cluster in set(index):
        assert len(set(group[0, index == cluster])) == 1


def test_clusters_are_nearly_as_tight_as_those_of_bisecting_k_means():
    cluster = pytest.importorskip("sklearn.cluster")
    keys = np.random.default_rng(0).normal(size=(1, 500, 6)).astype(np.float32)
    layer = BehaviorClusters(64, 20)
    layer.build(keys.shape)
    index = np.asarray(layer.assign(tensor(keys), tensor(np.ones((1, 500), bool))))[0]
    parts = [keys[0, index == c] for c in set(index)]
    spread = sum(np.sum((part - part.mean(axis=0)) ** 2) for part in parts)
    model = cluster.BisectingKMeans(len(parts), random_state=0).fit(keys[0])
    assert spread < 1.25 * model.inertia_
    assert max(map(len, parts)) <= 20


def test_gradients_reach_the_values_of_members():
    keys, values, time, mask = histories()
    layer = BehaviorClusters(16, 3)

    def loss(keys, values):
        return ops.sum(layer(keys, values, time, mask)["cluster"] ** 2)

    of_keys, of_values = map(np.asarray, gradients(loss, (keys, values)))
    assert not np.any(of_keys)
    np.testing.assert_array_equal(np.any(of_values != 0, axis=-1), mask)


@pytest.mark.parametrize("top_k", [3, 100])
def test_cluster_attention(top_k):
    keys, values, time, mask = histories()
    state = BehaviorClusters(16, 3)(keys, values, time, mask)
    random = np.random.default_rng(1)
    target = random.normal(size=(BATCH, CANDIDATES, WIDTH)).astype(np.float32)
    layer = ClusterAttention(2, top_k)
    output = layer(target, **state, request_time=np.full(BATCH, REQUEST_TIME, np.int64))
    state = {key: np.asarray(value) for key, value in state.items()}
    for b in range(BATCH):
        gap = REQUEST_TIME - state["cluster_time"][b]
        for c in range(CANDIDATES):
            expected = reference.cluster_attention(
                layer, target[b, c], state["cluster"][b], gap, state["cluster_size"][b]
            )
            np.testing.assert_allclose(output[b, c], expected, atol=1e-5)
    assert np.all(np.asarray(output[2]) == 0)


def test_a_cluster_weighs_as_much_as_its_members():
    random = np.random.default_rng(0)
    rows = random.normal(size=(1, 3, WIDTH)).astype(np.float32)
    time = REQUEST_TIME - np.array([[50, 5_000, 500_000]])
    size = np.array([[1, 5, 2]])
    target = random.normal(size=(1, 2, WIDTH)).astype(np.float32)
    layer, now = ClusterAttention(2), np.array([REQUEST_TIME])
    whole = layer(target, rows, time, size.astype(np.float32), now)
    repeats = size[0]
    single = layer(
        target,
        np.repeat(rows, repeats, axis=1),
        np.repeat(time, repeats, axis=1),
        np.ones((1, 8), np.float32),
        now,
    )
    np.testing.assert_allclose(whole, single, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BehaviorClusters(12, 3), "Received: num_clusters=12"),
        (lambda: BehaviorClusters(0, 3), "Received: num_clusters=0"),
        (lambda: BehaviorClusters(8, 0), "Received: cluster_size=0"),
        (lambda: ClusterAttention(4, 0), "Received: top_k=0"),
        (lambda: ClusterAttention(3).build((None, None, 8)), "num_heads=3"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert message in str(error.value)
