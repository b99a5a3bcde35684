"""FLOPs of graphs, against counts by hand."""

import keras
import pytest
import tensorflow as tf
from helpers import make_inputs, make_schema, make_table_sizes

from ctr_tf.evaluation.flops import graph_flops, request_graph
from ctr_tf.models import build_ranker
from ctr_tf.models.din import DINConfig


def flops(function, *shapes):
    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    return graph_flops(tf.function(function, specs).get_concrete_function().graph)


def test_a_dense_model_by_hand():
    model = keras.Sequential(
        [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)]
    )
    model.build((5, 7, 8))
    first = 5 * 7 * 16 * (2 * 8 + 1 + 1)  # product, bias, relu
    assert flops(model, (5, 7, 8)) == first + 5 * 7 * 3 * (2 * 16 + 1)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda a, b: tf.matmul(a, b, transpose_b=True), 2 * 4 * 2 * 6 * 3),
        (lambda a, b: tf.matmul(tf.transpose(a, (0, 2, 1)), b, True, True), 288),
        (lambda a, b: tf.linalg.matmul(a, a, adjoint_a=True), 2 * 4 * 3 * 3 * 2),
        (lambda a, b: tf.einsum("bik,bjk->bij", a, b), 2 * 4 * 2 * 6 * 3),
        (lambda a, b: tf.nn.softmax(a) - 1.0, 6 * 24),
        (lambda a, b: tf.sigmoid(tf.reduce_sum(a, -1)), 24 + 8),
        (lambda a, b: tf.reshape(tf.gather(a, [0, 1]), (-1, 1)), 0),
    ],
)
def test_operations_by_hand(function, expected):
    assert flops(function, (4, 2, 3), (4, 6, 3)) == expected


def test_what_is_not_counted_is_refused():
    with pytest.raises(ValueError, match="known shapes. .* of shape"):
        flops(lambda a: a + 1.0, (None, 3))
    with pytest.raises(ValueError, match="Received: operation '.*' of type Partit"):
        inner = tf.function(lambda a: a * 2.0)
        flops(lambda a: inner(a), (2, 3))


def ranker_flops(config, history, candidates=5):
    schema = make_schema(history_length=history)
    ranker = build_ranker(config, schema, make_table_sizes(schema))
    inputs = make_inputs(schema, batch=1, candidates=candidates)
    inputs = {key: tf.constant(value) for key, value in inputs.items()}
    return graph_flops(request_graph(ranker, inputs).graph)


def test_target_attention_is_linear_in_the_history():
    short, middle, long = (ranker_flops(DINConfig(), size) for size in (16, 32, 48))
    assert middle - short == long - middle > 0
