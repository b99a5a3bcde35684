"""Layers of models whose candidates look at the history, against NumPy."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops
from reference_target import (
    activation,
    attention,
    co_action,
    dice,
    randomize,
    tower,
)

from ctr_tf.layers.activation_unit import ActivationUnit
from ctr_tf.layers.co_action import CoAction
from ctr_tf.layers.dice import Dice
from ctr_tf.layers.recent_attention import RecentAttention
from ctr_tf.layers.search_attention import SearchAttention
from ctr_tf.layers.target_attention import TargetAttention
from ctr_tf.layers.time_gap import one_hot_gap
from ctr_tf.layers.top_behaviors import take_behaviors, top_behaviors
from ctr_tf.layers.tower import Tower

B, C, N, D = 2, 3, 7, 8


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def make_mask(seed=0, *shape):
    mask = np.random.default_rng(seed).random(shape or (B, N)) < 0.6
    mask[-1] = False  # a row that sees nothing
    return mask


def test_tower():
    inputs = normal(0, B, C, 5)
    layer = randomize(build(Tower((6, 4)), (B, C, 5)))
    np.testing.assert_allclose(
        layer(inputs), tower(layer, inputs), rtol=1e-4, atol=1e-5
    )


def build(layer, *shapes):
    layer.build(*shapes)
    return layer


def test_dice_in_training_uses_and_records_the_statistics_of_visible_rows():
    layer = build(Dice(momentum=0.9), (B, N, D))
    layer.alpha.assign(normal(1, D))
    values, mask = 3 + 2 * normal(0, B, N, D), make_mask()
    output = layer(values, mask[..., None], training=True)
    seen = values[mask].astype(np.float64)
    mean, variance = seen.mean(axis=0), seen.var(axis=0)
    share = 1 / (1 + np.exp(-(values - mean) / np.sqrt(variance)))
    expected = share * values + (1 - share) * np.asarray(layer.alpha) * values
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(layer.mean, 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(layer.variance, 0.9 + 0.1 * variance, rtol=1e-4)
    np.testing.assert_allclose(layer(values), dice(layer, values), rtol=1e-4)
    layer(values, training=True)  # all rows count
    expected = 0.09 * mean + 0.1 * values.mean(axis=(0, 1))
    np.testing.assert_allclose(layer.mean, expected, rtol=1e-4)


@pytest.mark.parametrize("units", [(5,), (6, 4)])
def test_activation_unit(units):
    target, behaviors, mask = normal(0, B, C, D), normal(1, B, N, D), make_mask()
    layer = randomize(build(ActivationUnit(units), (B, C, D)))
    weight = np.asarray(layer(target, behaviors, mask))
    for b, c, n in itertools.product(range(B), range(C), range(N)):
        expected = activation(layer, target[b, c], behaviors[b, n]) if mask[b, n] else 0
        np.testing.assert_allclose(weight[b, c, n], expected, rtol=1e-4, atol=1e-5)


def test_statistics_of_the_activation_unit_are_of_real_pairs_only():
    target, behaviors, mask = normal(0, B, C, D), normal(1, B, N, D), make_mask()
    target_mask = np.array([[True, False, True], [True, True, True]])
    layer = randomize(build(ActivationUnit((5,)), (B, C, D)))
    dice = layer.activations[0]
    dice.momentum = 0  # so that what is recorded is this batch's
    layer(target, behaviors, mask, target_mask, training=True)
    hidden = [
        np.concatenate([t, e, t - e, t * e]) @ np.asarray(layer.kernel) + layer.bias
        for b in range(B)
        for t in target[b][target_mask[b]]
        for e in behaviors[b][mask[b]]
    ]
    np.testing.assert_allclose(dice.mean, np.mean(hidden, axis=0), rtol=1e-4)
    np.testing.assert_allclose(dice.variance, np.var(hidden, axis=0), rtol=1e-4)


def test_target_attention_over_shared_and_own_keys():
    target, keys, mask = normal(0, B, C, D), normal(1, B, N, D + 2), make_mask()
    layer = build(TargetAttention(2), (B, C, D), (B, N, D + 2))
    output = np.asarray(layer(target, keys, mask))
    for b, c in itertools.product(range(B), range(C)):
        expected = attention(layer, target[b, c], keys[b][mask[b]])
        np.testing.assert_allclose(output[b, c], expected, rtol=1e-4, atol=1e-5)
    assert np.all(output[-1] == 0)

    own_keys, own_mask = normal(2, B, C, N, D + 2), make_mask(3, B, C, N)
    output = np.asarray(layer(target, own_keys, own_mask))
    for b, c in itertools.product(range(B), range(C)):
        seen = own_keys[b, c][own_mask[b, c]]
        expected = attention(layer, target[b, c], seen)
        np.testing.assert_allclose(output[b, c], expected, rtol=1e-4, atol=1e-5)
    assert np.all(output[-1] == 0)


def test_recent_and_search_attention_ask_the_latest_and_the_most_relevant():
    target, behaviors, mask = normal(0, B, C, D), normal(1, B, N, D), make_mask()
    recent = RecentAttention(2, count=4)
    output = np.asarray(recent(target, behaviors, mask))
    for b, c in itertools.product(range(B), range(C)):
        seen = behaviors[b, -4:][mask[b, -4:]]
        expected = attention(recent, target[b, c], seen)
        np.testing.assert_allclose(output[b, c], expected, rtol=1e-4, atol=1e-5)

    search, relevance = SearchAttention(2, top_k=2), normal(2, B, C, N)
    output = np.asarray(search(target, relevance, mask, behaviors))
    for b, c in itertools.product(range(B), range(C)):
        best = [n for n in np.argsort(-relevance[b, c]) if mask[b, n]][:2]
        expected = attention(search, target[b, c], behaviors[b][best])
        np.testing.assert_allclose(output[b, c], expected, rtol=1e-4, atol=1e-5)


def test_recent_and_search_attention_in_a_functional_model():
    target, behaviors = keras.Input((C, D)), keras.Input((N, D))
    mask, relevance = keras.Input((N,), dtype="bool"), keras.Input((C, N))
    time, now = keras.Input((N,), dtype="int64"), keras.Input((), dtype="int64")
    found = SearchAttention(2, 2)(target, relevance, mask, behaviors, time, now)
    assert found.shape == (None, C, D)
    assert RecentAttention(2, 4)(found, behaviors, mask).shape == (None, C, D)


@pytest.mark.parametrize("per_candidate", [False, True])
@pytest.mark.parametrize("k", [1, 4, 20])
def test_top_behaviors_takes_the_later_of_equals(k, per_candidate):
    score = np.random.default_rng(k).integers(-2, 2, (B, C, N)).astype(np.float32)
    mask = make_mask(1, B, C, N) if per_candidate else make_mask(1)
    index, found = map(np.asarray, top_behaviors(ops.array(score), mask, k))
    assert index.shape == found.shape == (B, C, min(k, N))
    for b, c in itertools.product(range(B), range(C)):
        allowed = np.flatnonzero(mask[b, c] if per_candidate else mask[b])
        best = sorted(allowed, key=lambda n: (-score[b, c, n], -n))[:k]
        assert list(index[b, c][found[b, c]]) == best


def test_take_behaviors():
    index = np.random.default_rng(0).integers(0, N, (B, C, 4)).astype(np.int32)
    time, rows = np.arange(B * N).reshape(B, N), normal(0, B, N, D)
    for values in (time, rows):
        taken = np.asarray(take_behaviors(ops.array(values), ops.array(index)))
        for b, c in itertools.product(range(B), range(C)):
            np.testing.assert_array_equal(taken[b, c], values[b][index[b, c]])


def test_one_hot_gap():
    gaps = np.array([[0, 1, 2, 3, 4, 2**31 - 1, 2**31, 2**50, -5]])
    request = np.array([2**55 + 1])
    expected = [[0, 0, 1, 1, 2, 30, 31, 31, 0]]
    one_hot = np.asarray(one_hot_gap(request, request[:, None] - gaps, "float32"))
    np.testing.assert_array_equal(one_hot.argmax(axis=-1), expected)
    assert np.all(one_hot.sum(axis=-1) == 1)


@pytest.mark.parametrize("units", [(5, 3), (4,), (4, 3, 2)])
def test_co_action(units):
    layer = CoAction(units, orders=3)
    weights = normal(0, B, C, layer.num_weights(D))
    inputs, mask = normal(1, B, N, D), make_mask()
    output = np.asarray(layer(weights, inputs, mask))
    for b, c in itertools.product(range(B), range(C)):
        expected = co_action(units, 3, weights[b, c], inputs[b][mask[b]])
        np.testing.assert_allclose(output[b, c], expected, rtol=1e-4, atol=1e-4)
