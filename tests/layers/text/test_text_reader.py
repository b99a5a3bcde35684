"""From tokens to logits: texts read alone, then together, then scored."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from small_language_model import batch, make_folder

from ctr_tf.errors import UserError
from ctr_tf.layers.text.language_model import LanguageModel
from ctr_tf.layers.text.low_rank import LoRA
from ctr_tf.layers.text.sink_places import one_hot_places
from ctr_tf.layers.text.text_reader import TextReader
from ctr_tf.layers.text.texts_head import TextsHead
from ctr_tf.layers.text.token_pooling import pool_text

PLACES = np.array([[2, 5, 8], [1, -1, -1], [-1, -1, -1]])
SIGNALS = np.array([[3, 2, 99], [7, 0, 0], [0, 0, 0]])


def make_reader(
    folder, architecture="bert", tune="nothing", dropout=0.0, layers=4, **options
):
    keras.utils.set_random_seed(0)
    path = make_folder(folder, architecture, weights=True, num_hidden_layers=layers)
    lora = LoRA(rank=2) if tune == "lora" else None
    model = LanguageModel(
        path, tune=tune, lora=lora, dropout=dropout, dtype=options.get("dtype")
    )
    reader = TextReader(model, **{"signal_width": 4, "num_inter_sink": 2, **options})
    reader.build()
    return reader


def inputs(seed=0):
    return (*batch(seed=seed), PLACES, SIGNALS)


def test_the_mean_of_tokens_and_of_sinks():
    hidden = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    mask = np.array(
        [[1, 1, 1, 1, 0], [0, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0] * 5], dtype=bool
    )
    is_sink = np.array([[0, 1, 0, 1, 0], [1, 0, 0, 0, 1], [0] * 5, [0] * 5], bool)
    tokens = np.asarray(pool_text(hidden, mask, is_sink))
    sinks = np.asarray(pool_text(hidden, mask, is_sink, True))
    for row in range(3):
        expected = hidden[row][mask[row]].mean(axis=0)
        np.testing.assert_allclose(tokens[row], expected, atol=1e-6)
    np.testing.assert_allclose(sinks[0], hidden[0, [1, 3]].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(sinks[1], hidden[1, 4], atol=1e-6)  # 0 is padding
    np.testing.assert_allclose(sinks[2], hidden[2, 2], atol=1e-6)  # the first token
    assert not np.any(tokens[3]) and not np.any(sinks[3])
    np.testing.assert_array_equal(pool_text(hidden, mask), tokens)


def test_the_stage_is_a_tensor_and_traces_nothing_twice():
    hidden = np.random.default_rng(0).normal(size=(3, 12, 4)).astype(np.float32)
    _, mask = batch()
    is_sink = np.asarray(one_hot_places(PLACES, 12)).any(axis=1)
    function = tf.function(
        lambda step: pool_text(hidden, mask, is_sink, step < 5), jit_compile=True
    )
    for step in (4, 5):
        expected = pool_text(hidden, mask, is_sink, step < 5)
        np.testing.assert_allclose(function(tf.constant(step)), expected, atol=1e-6)
    assert function.experimental_get_tracing_count() == 1


def test_reading_is_its_steps_one_by_one(tmp_path):
    reader = make_reader(tmp_path)
    tokens, mask, place, signals = inputs()
    model, table = reader.model, reader.sinks
    rows = np.asarray(model.embed(tokens)).copy()
    new = np.asarray(table(signals))
    for row in range(3):
        for sink, at in enumerate(place[row]):
            if at >= 0:
                rows[row, at] = new[row, sink]
    hidden = model.begin(rows, mask)
    places = one_hot_places(place, 12)
    for index in range(2):
        bias = reader.inter_sink[index](hidden, places)
        hidden = model.run(
            hidden, mask, index, index + 1, lambda i, rows, bias=bias: bias
        )
    for over_sinks in (False, True):
        output = reader(*inputs(), over_sinks=over_sinks)
        is_sink = np.asarray(places).any(axis=1)
        expected = pool_text(hidden, mask, is_sink, over_sinks)
        np.testing.assert_allclose(output, expected, atol=1e-5)
    joined = reader.join(output[None])
    expected = model.run(output[None], np.ones((1, 3), bool), 2, 4)
    np.testing.assert_array_equal(joined, expected)


@pytest.mark.parametrize("architecture", ["bert", "llama", "qwen3"])
def test_missing_sinks_change_nothing(tmp_path, architecture):
    reader = make_reader(tmp_path, architecture)
    tokens, mask, place, signals = inputs()
    expected = np.asarray(reader(tokens, mask, place, signals))
    more = np.concatenate([place, np.full((3, 4), -1)], axis=1)
    other = np.concatenate([np.where(place < 0, 50, signals), np.full((3, 4), 9)], 1)
    output = np.asarray(reader(tokens, mask, more, other))
    np.testing.assert_allclose(output, expected, atol=1e-5)
    # A text without a sink reads as it does where there are none at all.
    plain = np.asarray(reader(tokens, mask))
    np.testing.assert_allclose(output[2], plain[2], atol=1e-5)
    assert np.abs(output[:2] - plain[:2]).max(axis=1).min() > 1e-3
    changed = np.asarray(reader(tokens, mask, place, signals + 40))
    assert list(np.abs(changed - expected).max(axis=1) > 1e-4) == [True, True, False]


def test_without_a_split_all_layers_read_a_text(tmp_path):
    reader = make_reader(tmp_path, split=False, num_inter_sink=0)
    tokens, mask = batch()
    output = reader(tokens, mask)
    expected = pool_text(reader.model(tokens, mask), mask)
    np.testing.assert_allclose(output, expected, atol=1e-6)
    assert reader.join(output[None]).shape == (1, 3, 16)
    np.testing.assert_array_equal(reader.join(output[None])[0], output)


def score(reader, head, user, items):
    """As a model would: users' texts once, each candidate's with them."""
    vectors = reader(*user)  # [B, W]
    texts = reader(*items)  # [B C, W], C = 2
    texts = ops.reshape(texts, (-1, 2, 1, 16))
    vectors = ops.broadcast_to(vectors[:, None, None], ops.shape(texts))
    texts = ops.concatenate([vectors, texts], axis=2)
    joined = reader.join(ops.reshape(texts, (-1, 2, 16)))
    return head(ops.reshape(joined, (-1, 2, 2, 16)))  # [B, C]


@pytest.mark.parametrize("tune", ["nothing", "lora", "layers"])
@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_sinks_learn_whatever_the_language_model_does(tmp_path, architecture, tune):
    reader = make_reader(tmp_path, architecture, tune)
    head = TextsHead((6, 5, 4), match=(0, 1))
    head.build((None, 2, 16))
    items = batch(size=6, seed=3)
    variables = {
        v.path: v for v in reader.trainable_variables + head.trainable_variables
    }
    with tf.GradientTape() as tape:
        logits = score(reader, head, inputs(), items)
        loss = tf.reduce_sum(tf.square(logits - 1.0))
    assert logits.shape == (3, 2) and logits.dtype == "float32"
    found = tape.gradient(loss, {name: v.value for name, v in variables.items()})
    own = set(variables) - {v.path for v in reader.model.trainable_variables}
    assert len(own) == 3 + 2 * 7 + 3 * 4 + 8  # two maps a text or product
    assert (
        len(variables) - len(own)
        == {
            "nothing": 0,
            "lora": 4 * 2 * 2,
            "layers": 4 + 4 * 16 if architecture == "bert" else 1 + 4 * 9,
        }[tune]
    )
    for name, gradient in found.items():
        assert isinstance(gradient, tf.Tensor), name
        if name.endswith(("key/bias", "first")) and name not in own - {name}:
            continue  # a constant to a softmax; second is 0 at first
        if not name.endswith("key/bias"):
            assert np.any(gradient), name
    table = np.asarray(found[next(n for n in own if n.endswith("table"))])
    assert np.flatnonzero(table.any(axis=1)).tolist() == [2, 3, 7, 99]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_gradients_under_xla(tmp_path, policy):
    reader = make_reader(
        tmp_path, "bert", "lora", layers=2, num_inter_sink=1, dtype=policy
    )
    head = TextsHead((6, 5, 4), dtype=policy)
    head.build((None, 2, 16))
    variables = [v.value for v in reader.trainable_variables + head.trainable_variables]
    values = [tf.constant(x) for x in inputs()]
    items = [tf.constant(x) for x in batch(size=6, seed=3)]

    def gradients():
        with tf.GradientTape() as tape:
            logits = score(reader, head, values, items)
            loss = tf.reduce_mean(tf.square(logits - 1.0))
        return tape.gradient(loss, variables)

    compiled = tf.function(gradients, jit_compile=True)()
    assert {gradient.dtype.name for gradient in compiled} == {"float32"}
    found, expected = (
        np.concatenate([np.reshape(gradient, -1) for gradient in every])
        for every in (compiled, gradients())
    )
    if policy == "float32":
        np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())
    lengths = np.linalg.norm(found) * np.linalg.norm(expected)
    assert found @ expected / lengths > 0.9  # eager bfloat16 rounds more often


def test_dropout_under_xla(tmp_path):
    reader = make_reader(tmp_path, dropout=0.5, layers=2, num_inter_sink=1)
    values = [tf.constant(x) for x in inputs()]
    function = tf.function(
        lambda training: reader(*values, training=training), jit_compile=True
    )
    plain = [function(False).numpy() for _ in range(2)]
    dropped = [function(True).numpy() for _ in range(2)]
    np.testing.assert_array_equal(*plain)
    assert np.all(np.isfinite(dropped))
    assert np.any(dropped[0] != dropped[1]) and np.any(dropped[0] != plain[0])


def test_scores_under_xla(tmp_path):
    reader = make_reader(tmp_path, "qwen3", layers=2, num_inter_sink=1)
    head = TextsHead(match=(0, 1))
    head.build((None, 2, 16))
    values = [tf.constant(x) for x in inputs()]
    items = [tf.constant(x) for x in batch(size=6, seed=3)]
    specs = [
        [tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in every]
        for every in (values, items)
    ]
    function = tf.function(
        lambda user, items: score(reader, head, user, items),
        input_signature=specs,
        jit_compile=True,
    )
    expected = score(reader, head, values, items)
    np.testing.assert_allclose(function(values, items), expected, atol=1e-4)


@pytest.mark.parametrize("architecture", ["bert", "llama"])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_text_without_tokens_is_finite(tmp_path, architecture, policy):
    reader = make_reader(
        tmp_path, architecture, "layers", layers=2, num_inter_sink=1, dtype=policy
    )
    tokens, mask, place, signals = inputs()
    mask[-1], place = False, np.where(np.arange(3)[:, None] < 2, place, -1)
    with tf.GradientTape() as tape:
        vectors = reader(tokens, mask, place, signals)
        joined = tf.cast(reader.join(vectors[None]), "float32")
        loss = tf.reduce_sum(tf.square(joined))
    assert np.all(np.isfinite(joined)) and not np.any(vectors[-1])
    found = tape.gradient(loss, [v.value for v in reader.trainable_variables])
    assert all(np.all(np.isfinite(gradient)) for gradient in found)


def test_the_head_is_a_loop_over_texts():
    keras.utils.set_random_seed(0)
    head = TextsHead((7, 6, 5), match=(0, 2))
    texts = np.random.default_rng(0).normal(size=(2, 3, 4, 8)).astype(np.float32)
    logits = np.asarray(head(texts))
    assert logits.shape == (2, 3)

    def dense(layer, row):
        return row @ np.asarray(layer.kernel) + np.asarray(layer.bias)

    def leaky(row):
        return np.where(row > 0, row, 0.01 * row)

    for row in range(2):
        for candidate in range(3):
            own = [*texts[row, candidate]]
            own.append(own[0] * own[2])
            outputs = []
            for inner, outer, text in zip(head.inner, head.outer, own, strict=True):
                assert inner.kernel.shape == (8, 4)
                outputs.append(dense(outer, leaky(dense(inner, text))))
            hidden = dense(head.first, np.concatenate(outputs))
            hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5)
            hidden = leaky(dense(head.second, leaky(hidden)))
            expected = dense(head.logit, hidden)[0]
            assert logits[row, candidate] == pytest.approx(expected, abs=1e-5)
    assert TextsHead().units == (128, 128, 32)


def test_sinks_begin_as_long_as_they_are_told(tmp_path):
    reader = make_reader(tmp_path, signal_width=64, sink_scale=10.0)
    own = np.linalg.norm(reader.sinks(np.arange(100)), axis=-1).mean()
    assert own == pytest.approx(10.0 * reader.model.mean_row_norm(), rel=0.1)
    tokens, mask, place, _ = inputs()
    reader = make_reader(tmp_path, signal_width=None)
    assert reader.sinks is None
    other = tokens.copy()
    other[0, 5] += 1  # a sink's token, which now counts
    before, after = (np.asarray(reader(x, mask, place)) for x in (tokens, other))
    assert np.any(before[0] != after[0])
    reader = make_reader(tmp_path)
    before, after = (
        np.asarray(reader(x, mask, *inputs()[2:])) for x in (tokens, other)
    )
    np.testing.assert_array_equal(before, after)


def test_config_round_trip(tmp_path):
    reader = make_reader(tmp_path, sink_scale=2.0, num_inter_sink=1)
    data = json.loads(json.dumps(keras.saving.serialize_keras_object(reader)))
    again = keras.saving.deserialize_keras_object(data)
    assert again.get_config() == reader.get_config()
    paths = [[v.path for v in x.variables] for x in (reader, again)]
    assert len(paths[0]) == len(paths[1]) == len(set(paths[0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_inter_sink": 3}, "the 2 layers that read a text. Received: num_inter_"),
        ({"num_inter_sink": -1}, "Received: num_inter_sink=-1"),
        ({"num_hidden_layers": 1}, "two layers or more. Received: 1 layer"),
    ],
)
def test_mistakes_of_readers(tmp_path, options, message):
    layers = options.pop("num_hidden_layers", 4)
    model = LanguageModel(
        make_folder(tmp_path, num_hidden_layers=layers), pretrained=False
    )
    with pytest.raises(UserError) as error:
        TextReader(model, **options)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TextsHead((1, 2)), "Received: units=(1, 2)"),
        (lambda: TextsHead((1, 2, 0)), "Received: units[2]=0"),
        (lambda: TextsHead(match=(0, 4)).build((None, 4, 8)), "match=(0, 4)"),
        (lambda: TextsHead(match=(1, 1)).build((None, 4, 8)), "match=(1, 1)"),
    ],
)
def test_mistakes_of_heads(make, message):
    with pytest.raises(UserError) as error:
        make()
    assert message in str(error.value)
