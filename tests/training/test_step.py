"""The training step: loss over real candidates, sparse updates, every precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import make_inputs, make_labels, make_schema, make_table_sizes
from sklearn.metrics import log_loss, roc_auc_score

from ctr_tf.models import SparseCTRConfig, build_ranker
from ctr_tf.training.optimizers import OptimizerConfig, make_optimizer
from ctr_tf.training.step import cross_entropy, request_auc

SCHEMA = make_schema()
CONFIG = SparseCTRConfig(dim=8, num_heads=2, num_blocks=1, num_chunks=4)


def make_ranker(precision="float32", jit_compile=False, **optimizer):
    keras.utils.set_random_seed(0)
    ranker = build_ranker(CONFIG, SCHEMA, make_table_sizes(SCHEMA), dtype=precision)
    scaling = precision == "mixed_float16"
    options = OptimizerConfig(learning_rate=0.01, **optimizer)
    ranker.compile(
        make_optimizer(options, loss_scaling=scaling), jit_compile=jit_compile
    )
    return ranker


@pytest.fixture(scope="module")
def batch():
    inputs = make_inputs(SCHEMA, batch=16)
    return inputs, *make_labels(inputs)


def test_cross_entropy_leaves_padding_out():
    labels = np.array([[1.0, 0.0, 0.0]], "float32")
    logits = np.array([[0.5, -1.0, np.nan]], "float32")
    weights = np.array([[1.0, 1.0, 0.0]], "float32")
    losses = cross_entropy(labels, logits, weights).numpy()
    expected = [np.log1p(np.exp(-0.5)), np.log1p(np.exp(-1.0)), 0]
    np.testing.assert_allclose(losses[0], expected, rtol=1e-6)


def test_request_auc_equals_scikit_learn():
    random = np.random.default_rng(0)
    labels = (random.random((40, 9)) < 0.3).astype("float32")
    logits = random.integers(-3, 4, (40, 9)).astype("float32")  # with ties
    weights = (np.arange(9) < random.integers(1, 10, (40, 1))).astype("float32")
    auc, weight = (x.numpy() for x in request_auc(labels, logits, weights))
    for row in range(40):
        real = weights[row] > 0
        if len(set(labels[row][real])) < 2:
            assert weight[row] == 0
        else:
            expected = roc_auc_score(labels[row][real], logits[row][real])
            np.testing.assert_allclose(auc[row], expected, rtol=1e-6)
            assert weight[row] == real.sum()


def test_metrics_equal_scikit_learn_over_real_candidates(batch):
    inputs, labels, weights = batch
    ranker = make_ranker()
    dataset = tf.data.Dataset.from_tensor_slices(batch).batch(6)
    values = ranker.evaluate(dataset, steps=3, verbose=0, return_dict=True)
    real = weights > 0
    scores = 1 / (1 + np.exp(-ranker(inputs).numpy()[real]))
    np.testing.assert_allclose(
        values["loss"], log_loss(labels[real], scores), rtol=1e-5
    )
    np.testing.assert_allclose(
        values["auc"], roc_auc_score(labels[real], scores), atol=0.01
    )


def test_a_step_equals_plain_keras_with_dense_adagrad(batch):
    ranker, plain = make_ranker(tables="adagrad"), make_ranker()
    inputs, labels, weights = (tf.nest.map_structure(tf.constant, x) for x in batch)
    optimizers = keras.optimizers.Adam(0.01), keras.optimizers.Adagrad(0.01)
    for _ in range(3):
        ranker.fit(tf.data.Dataset.from_tensors(batch), shuffle=False, verbose=0)
        variables = plain.trainable_variables
        with tf.GradientTape() as tape:
            logits = plain(inputs, training=True)
            losses = cross_entropy(labels, logits, weights)
            loss = tf.reduce_sum(losses) / tf.reduce_sum(weights)
        gradients = tape.gradient(loss, [v.value for v in variables])
        for optimizer, tables in zip(optimizers, (False, True), strict=True):
            chosen = [
                (tf.convert_to_tensor(g), v)
                for g, v in zip(gradients, variables, strict=True)
                if hasattr(v, "row_wise") == tables and g is not None
            ]
            optimizer.apply(*zip(*chosen, strict=True))
    for one, other in zip(ranker.variables, plain.variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_the_loss_falls(batch, precision):
    ranker = make_ranker(precision, global_clipnorm=1.0)
    dataset = tf.data.Dataset.from_tensors(batch).repeat()
    history = ranker.fit(
        dataset, steps_per_epoch=15, epochs=2, shuffle=False, verbose=0
    ).history
    assert history["loss"][1] < 0.8 * history["loss"][0]


def test_xla_computes_the_same(batch):
    dataset = tf.data.Dataset.from_tensors(batch).repeat(2)
    plain, compiled = make_ranker(), make_ranker(jit_compile=True)
    losses = [
        r.fit(dataset, shuffle=False, verbose=0, steps_per_epoch=2).history["loss"][0]
        for r in (plain, compiled)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_only_rows_of_the_batch_change(batch):
    ranker = make_ranker()
    table = ranker.embedding.tables["item_id"].table
    before = table.numpy()
    ranker.fit(tf.data.Dataset.from_tensors(batch), shuffle=False, verbose=0)
    seen = {*batch[0]["behavior_item_id"].flat, *batch[0]["candidate_item_id"].flat}
    changed = set(np.flatnonzero((table.numpy() != before).any(axis=1)))
    assert changed and changed <= seen


def test_no_operation_makes_a_table_dense(batch):
    ranker = make_ranker()
    graph = tf.function(ranker.train_step).get_concrete_function(
        tf.nest.map_structure(tf.constant, batch)
    )
    tables = {
        id(graph.graph.capture(v.value.handle))
        for v in ranker.trainable_variables
        if hasattr(v, "row_wise")
    }
    users = {
        operation.type
        for operation in graph.graph.get_operations()
        for tensor in operation.inputs
        if id(tensor) in tables
    }
    assert users == {"ResourceGather", "ResourceScatterSub"}
