"""The layers of GAP-Net beside their formulas in NumPy loops."""

import helpers
import keras
import numpy as np
import pytest
import reference_gap as reference

from ctr_tf.layers.asga import ASGA
from ctr_tf.layers.context_gated_fusion import ContextGatedFusion
from ctr_tf.layers.gated_query_calibration import GatedQueryCalibration
from ctr_tf.layers.history_views import VIEWS, HistoryViews
from ctr_tf.layers.pafs import PAFS

B, C, J, D, H, X = 3, 2, 7, 16, 4, 5
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


@pytest.fixture
def random():
    return np.random.default_rng(5)


def normal(random, *shape):
    return random.normal(size=shape).astype(np.float32)


def scatter_weights(layer, random):
    """Gives every weight its own value, so that none is tested at its start alone."""
    for weight in layer.weights:
        weight.assign(np.asarray(weight) + normal(random, *weight.shape) * 0.3)


@pytest.mark.parametrize(("width", "hidden"), [(1, 2), (31, 32), (32, 64), (33, 64)])
def test_pafs(width, hidden, random):
    layer = PAFS()
    inputs = normal(random, 4, width)
    layer(inputs)
    scatter_weights(layer, random)
    assert layer.ffn.gate.kernel.shape == (width, hidden)
    np.testing.assert_allclose(layer(inputs), reference.pafs(layer, inputs), **CLOSE)


@pytest.mark.parametrize("own_keys", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"gated": False}, {"gated": False, "activation": "sigmoid"}]
)
def test_asga(options, own_keys, random):
    layer = ASGA(H, **options)
    target = normal(random, B, C, D)
    keys = normal(random, B, *((C,) if own_keys else ()), J, D)
    mask = random.random(keys.shape[:-1]) < 0.6
    mask[1] = False
    layer(target, keys, mask)
    scatter_weights(layer, random)
    actual = np.asarray(layer(target, keys, mask))
    for b, c in np.ndindex(B, C):
        where = (b, c) if own_keys else b
        expected = reference.asga(layer, target[b, c], keys[where][mask[where]])
        np.testing.assert_allclose(actual[b, c], expected, **CLOSE)
    assert not np.any(actual[1])


def test_a_closed_gate_ignores_the_history(random):
    layer = ASGA(H)
    target, keys = np.ones((1, 1, D), np.float32), normal(random, 1, J, D)
    layer.build(target.shape, keys.shape)
    found = {}
    for logit in (-100.0, 0.0, 100.0):
        layer.gate.kernel.assign(np.full((D, D), logit))
        found[logit] = np.asarray(layer(target, keys, np.ones((1, J), bool)))
    assert not np.any(found[-100.0]) and np.any(found[100.0])
    np.testing.assert_allclose(found[0.0], found[100.0] / 2, rtol=1e-5)


def test_query_calibration(random):
    layer = GatedQueryCalibration()
    query, found = normal(random, B, C, D), normal(random, B, C, D)
    layer(query, found)
    scatter_weights(layer, random)
    actual = np.asarray(layer(query, found))
    for b, c in np.ndindex(B, C):
        expected = reference.calibrate(layer, query[b, c], found[b, c])
        np.testing.assert_allclose(actual[b, c], expected, **CLOSE)


@pytest.mark.parametrize("purified", [False, True])
def test_fusion(purified, random):
    layer = ContextGatedFusion(purified)
    target, context = normal(random, B, C, D), normal(random, B, X)
    views = normal(random, B, C, 3, D)
    present = np.array([[True] * 3, [False, True, True], [False] * 3])
    views *= present[:, None, :, None]
    layer(target, context, views, present)
    scatter_weights(layer, random)
    actual = np.asarray(layer(target, context, views, present))
    for b, c in np.ndindex(B, C):
        anchor = np.concatenate([target[b, c], context[b]])
        expected = reference.fuse(layer, anchor, list(views[b, c]), present[b])
        np.testing.assert_allclose(actual[b, c], expected, **CLOSE)


@pytest.mark.parametrize("length", [1, 5, 8, 20])
@pytest.mark.parametrize(
    ("cut", "limits"),
    [("age", (90, 86_400)), ("count", (5, 8)), ("count", (1, 2)), ("count", (5, 50))],
)
def test_views(cut, limits, length, random):
    time = helpers.make_times(random, 4, length, [length, 0, 1, (length + 1) // 2])
    time[0, -1] = helpers.REQUEST_TIME - limits[0]  # just within
    request_time = np.full(4, helpers.REQUEST_TIME)
    views = HistoryViews(cut, limits)(
        *(keras.ops.convert_to_tensor(x) for x in (time, time > 0, request_time))
    )
    assert list(views) == list(VIEWS)
    for row in range(4):
        expected = reference.views(
            cut, limits, time[row].tolist(), helpers.REQUEST_TIME
        )
        for (positions, mask), wanted in zip(views.values(), expected, strict=True):
            mask = np.asarray(mask)
            assert np.arange(length)[positions][mask[row]].tolist() == wanted
            if cut == "count" and row == 0:  # the full history: nothing to spare
                assert mask.shape[1] == max(len(wanted), 1)
