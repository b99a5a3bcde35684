"""FLOPs of graphs, against counts by hand."""

import keras
import pytest
import tensorflow as tf
from helpers import make_inputs, make_schema, make_table_sizes

from ctr_tf.evaluation.flops import graph_flops, product_flops, request_graph
from ctr_tf.models import build_ranker
from ctr_tf.models.din import DINConfig
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig


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


def ranker_graph(config, history, candidates=5):
    schema = make_schema(history_length=history)
    ranker = build_ranker(config, schema, make_table_sizes(schema))
    inputs = make_inputs(
        schema, batch=1, candidates=candidates, num_chunks=ranker.num_chunks
    )
    inputs = {key: tf.constant(value) for key, value in inputs.items()}
    return ranker, request_graph(ranker, inputs).graph


def ranker_flops(config, history):
    return graph_flops(ranker_graph(config, history)[1])


def test_target_attention_is_linear_in_the_history():
    short, middle, long = (ranker_flops(DINConfig(), size) for size in (16, 32, 48))
    assert middle - short == long - middle > 0


def products_of_sparse_ctr(widths, d, L, H, N, C, P, m, w, hidden, ffn):
    """Multiplications of all matrix products of a request, by the paper's equations.

    A local window of the behaviors is no product: it is multiplied and added by
    shifted slices.
    """
    user, behavior, candidate, context = widths
    keys = P + m * P + (w + 1)  # that a candidate sees: eq. 5, 8 and 10
    relations = 3 + 1  # of RelTemporal, eq. 12 to 14, and what is hidden
    once = N * behavior * d + C * (candidate + context) * d  # tokens
    once += user * d + d * d  # the user's token, W1 and W2
    head = C * d * d + user * d  # W4 and W5 of eq. 17
    head += C * (d * hidden + hidden)  # its MLP
    kept = 2 * N * d * d + 2 * d * d  # keys, values; of the user, too
    kept += 2 * P * N * d + 2 * 2 * P * d * d  # pooled chunks, their MLPs
    behaviors = N * d * d  # queries
    behaviors += relations * H * N * keys  # biases of all three branches
    behaviors += 2 * N * (P + m * P) * d  # logits, sums: chunks and transitions
    behaviors += N * 3 * d * 3 + N * d * d  # gate of three branches, W_O
    behaviors += 3 * N * d * ffn  # SwiGLU, eq. 2
    candidates = C * d * d + relations * H * keys + 2 * C * keys * d
    candidates += C * 3 * d * 3 + C * d * d + 3 * C * d * ffn
    return once + head + L * (kept + candidates) + (L - 1) * behaviors


@pytest.mark.parametrize(
    ("sizes", "history"),
    [
        ({"dim": 12, "num_blocks": 3, "num_heads": 3, "num_chunks": 5}, 24),
        ({"dim": 4, "num_blocks": 1, "num_heads": 1, "num_chunks": 2}, 8),
    ],
)
def test_all_products_of_sparse_ctr_by_hand(sizes, history):
    config = SparseCTRConfig(
        **sizes,
        transition=3,
        window=4,
        ffn_factor=2.5,
        head_units=(7,),
        candidate_tower=(),
    )
    ranker, graph = ranker_graph(config, history, candidates=6)
    groups = ("user", "behavior", "candidate", "context")
    by_hand = products_of_sparse_ctr(
        [ranker.embedding.width(group) for group in groups],
        d=config.dim, L=config.num_blocks, H=config.num_heads, N=history, C=6,
        P=config.num_chunks, m=3, w=4, hidden=7, ffn=int(2.5 * config.dim),
    )  # fmt: skip
    assert product_flops(graph) == 2 * by_hand
    assert graph_flops(graph) > product_flops(graph)
