"""Sinks: their signals, their rows, how they heed each other."""

import math

import keras
import numpy as np
import pytest
import reference_language_model as reference
import tensorflow as tf

from ctr_tf.errors import UserError
from ctr_tf.layers.text.inter_sink_attention import InterSinkAttention
from ctr_tf.layers.text.sink_embedding import SinkEmbedding
from ctr_tf.layers.text.sink_places import one_hot_places, replace_rows, rows_at
from ctr_tf.layers.text.sink_signals import SIGNALS, sink_signals

NOW = 1_700_000_000


def edge_times():
    """Ages at which a bucket begins, and the seconds before and after them.

    Beyond 10^5 seconds float32 no longer tells neighbors apart: a thousandth away.
    """
    ages = {-5, 0, 1, 2}
    for bucket in range(1, 70):
        edge = math.ceil(math.exp(0.301 * bucket))
        away = max(1, edge // 1000) if edge > 100_000 else 1
        ages |= {edge - away, edge + away} | ({edge} if away == 1 else set())
    return np.array(sorted(ages), np.int64)


def test_the_temporal_signal_is_a_loop_over_edge_times():
    ages = edge_times()
    time = NOW - ages[None]
    signals = sink_signals(
        "temporal", np.array([NOW]), time, np.ones_like(time, dtype=bool)
    )
    expected = []
    for age in ages:
        expected.append(min(99, math.floor(math.log(max(int(age), 1)) / 0.301)))
    assert np.asarray(signals)[0].tolist() == expected
    assert len(set(expected)) > 65 and signals.dtype == "int32"


def histories():
    valid = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)
    time = np.where(valid, NOW - 1000 + np.arange(5) * 100, 0)
    return np.array([NOW, NOW + 7, NOW]), time, valid


def test_the_ordinal_signal_counts_from_the_newest():
    signals = np.asarray(sink_signals("ordinal", *histories()))
    assert signals.tolist() == [[0, 0, 2, 1, 0], [4, 3, 2, 1, 0], [0] * 5]
    request, time, valid = histories()
    valid[1, 3] = False  # not of this text
    signals = np.asarray(sink_signals("ordinal", request, time, valid))
    assert signals[1].tolist() == [3, 2, 1, 0, 0]
    long = np.ones((1, 150), bool)
    signals = sink_signals("ordinal", request[:1], np.ones((1, 150), np.int64), long)
    assert np.asarray(signals)[0].tolist() == [99] * 50 + list(range(99, -1, -1))


def test_random_signals_repeat_and_are_spread():
    request = NOW + np.arange(300)
    time = np.ones((300, 50), np.int64)
    valid = np.ones((300, 50), bool)
    signals = np.asarray(sink_signals("random", request, time, valid))
    np.testing.assert_array_equal(
        sink_signals("random", request, time * 5, valid), signals
    )
    count = np.bincount(signals.reshape(-1), minlength=100)
    assert len(count) == 100 and count.min() > 100 and count.max() < 200  # of 150
    # Neither the next request's nor the next behavior's is known from this one's.
    for other in (signals[1:] - signals[:-1], signals[:, 1:] - signals[:, :-1]):
        assert 0.003 < np.mean(other == 0) < 0.02
        assert np.bincount(other.reshape(-1) % 100, minlength=100).max() < 220
    # More padding on the left moves none.
    padded = sink_signals(
        "random",
        request,
        np.pad(time, ((0, 0), (3, 0))),
        np.pad(valid, ((0, 0), (3, 0))),
    )
    np.testing.assert_array_equal(padded[:, 3:], signals)
    assert not np.any(padded[:, :3])


def test_no_signal_is_0_and_so_is_that_of_no_behavior():
    assert not np.any(sink_signals("none", *histories()))
    for kind in SIGNALS:
        assert not np.any(sink_signals(kind, *histories()).numpy()[~histories()[2]])


def test_an_unknown_signal():
    with pytest.raises(UserError) as error:
        sink_signals("time", *histories())
    assert "Unknown signal of sinks 'time'" in str(error.value)


@pytest.mark.parametrize("kind", SIGNALS)
def test_signals_under_xla(kind):
    function = tf.function(
        lambda *inputs: sink_signals(kind, *inputs), jit_compile=True
    )
    inputs = [tf.constant(value) for value in histories()]
    np.testing.assert_array_equal(function(*inputs), sink_signals(kind, *histories()))


def test_rows_begin_as_long_as_they_should():
    keras.utils.set_random_seed(0)
    layer = SinkEmbedding(384, 128, start_norm=1.09)
    signals = np.arange(100).reshape(4, 25)
    rows = np.asarray(layer(signals))
    assert rows.shape == (4, 25, 384) == layer.compute_output_shape((4, 25))
    lengths = np.linalg.norm(rows, axis=-1)
    assert np.mean(lengths) == pytest.approx(1.09, rel=0.03)
    assert lengths.min() > 0.8 and lengths.max() < 1.4
    table, kernel = np.asarray(layer.table), np.asarray(layer.projection.kernel)
    layer.projection.bias.assign(np.full(384, 0.5))
    for signal in (0, 99):
        expected = table[signal] @ kernel + 0.5
        row = np.asarray(layer(signals)).reshape(100, 384)[signal]
        np.testing.assert_allclose(row, expected, atol=1e-5)


PLACES = np.array([[2, 5, 8], [3, -1, -1], [-1, -1, -1], [1, -1, 6]])


def test_rows_at_sinks_are_replaced():
    random = np.random.default_rng(0)
    rows, new = random.normal(size=(4, 9, 6)), random.normal(size=(4, 3, 6))
    places = one_hot_places(PLACES, 9)
    replaced = replace_rows(rows.astype("float32"), places, new.astype("float32"))
    expected, found = rows.copy(), np.zeros((4, 3, 6))
    for row in range(4):
        for sink, place in enumerate(PLACES[row]):
            if place >= 0:
                expected[row, place] = new[row, sink]
                found[row, sink] = rows[row, place]
    np.testing.assert_array_equal(replaced, expected.astype("float32"))
    at = rows_at(places, rows.astype("float32"))
    np.testing.assert_array_equal(at, found.astype("float32"))


def inter_sink(**options):
    keras.utils.set_random_seed(1)
    layer = InterSinkAttention(2, gamma=3.0, **options)
    layer.build((None, 9, 8))
    random = np.random.default_rng(2)
    for variable in layer.variables:
        if variable.path.endswith(("/bias", "/beta", "norm/gamma")):
            variable.assign(random.normal(1.0, 1.0, variable.shape))
    return layer


def test_the_bias_is_a_slow_loop():
    layer = inter_sink()
    hidden = np.random.default_rng(0).normal(size=(4, 9, 8)).astype(np.float32)
    bias = np.asarray(layer(hidden, one_hot_places(PLACES, 9)))
    assert bias.shape == (4, 1, 9, 9)
    query, key = (
        [np.asarray(w, np.float64) for w in (dense.kernel, dense.bias)]
        for dense in (layer.query, layer.key)
    )
    norm = [np.asarray(w, np.float64) for w in (layer.norm.gamma, layer.norm.beta)]
    for row in range(4):
        places = [place for place in PLACES[row] if place >= 0]
        rows = reference.layer_norm(hidden[row, places].astype(float), *norm, 1e-5)
        expected = reference.inter_sink(rows, places, query, key, 2, 3.0, 9)
        np.testing.assert_allclose(bias[row, 0], expected, atol=1e-6)
    assert np.sum(bias[0] != 0) == 9 and np.sum(bias[2] != 0) == 0
    np.testing.assert_allclose(bias.sum(axis=-1)[0, 0, [2, 5, 8]], 3.0, atol=1e-5)


def test_missing_sinks_change_nothing():
    layer = inter_sink()
    hidden = np.random.default_rng(0).normal(size=(4, 9, 8)).astype(np.float32)
    expected = np.asarray(layer(hidden, one_hot_places(PLACES, 9)))
    more = np.concatenate([PLACES, np.full((4, 5), -1)], axis=1)
    output = np.asarray(layer(hidden, one_hot_places(more, 9)))
    np.testing.assert_allclose(output, expected, atol=1e-6)
    other = hidden.copy()
    other[1, [0, 1, 2, 4, 5, 6, 7, 8]] += 5.0  # not the only sink's place
    output = np.asarray(layer(other, one_hot_places(more, 9)))
    np.testing.assert_allclose(output, expected, atol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_the_bias_under_xla_and_bfloat16(policy):
    expected = np.asarray(
        inter_sink()(
            np.random.default_rng(0).normal(size=(4, 9, 8)).astype(np.float32),
            one_hot_places(PLACES, 9),
        )
    )
    layer = inter_sink(dtype=policy)
    hidden = np.random.default_rng(0).normal(size=(4, 9, 8)).astype(np.float32)
    function = tf.function(layer, jit_compile=True)
    bias = function(tf.constant(hidden), one_hot_places(PLACES, 9))
    assert bias.dtype == "float32"
    tolerance = 1e-5 if policy == "float32" else 0.1
    np.testing.assert_allclose(bias, expected, atol=tolerance)


def test_dropout_of_the_softmax():
    layer = inter_sink(dropout=0.5)
    inputs = (np.ones((4, 9, 8), np.float32), one_hot_places(PLACES, 9))
    plain = np.asarray(layer(*inputs))
    np.testing.assert_array_equal(plain, layer(*inputs, training=False))
    assert np.any(plain != np.asarray(layer(*inputs, training=True)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SinkEmbedding(0), "Received: width=0"),
        (lambda: SinkEmbedding(4, 0), "Received: signal_width=0"),
        (lambda: SinkEmbedding(4, start_norm=0.0), "Received: start_norm=0.0"),
        (lambda: InterSinkAttention(2, dropout=1.0), "Received: dropout=1.0"),
        (lambda: InterSinkAttention(3).build((None, 9, 8)), "Received: num_heads=3"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(UserError) as error:
        make()
    assert message in str(error.value)
