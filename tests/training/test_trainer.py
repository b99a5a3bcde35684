"""The trainer: loss over real candidates, sparse updates, every precision."""

import dataclasses
import logging

import helpers
import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    make_inputs,
    make_labels,
    make_narrow_schema,
    make_table_sizes,
    scores,
)
from sklearn.metrics import log_loss, roc_auc_score

from ctr_tf.losses import LogLoss
from ctr_tf.losses.loss import MAIN
from ctr_tf.models import build_ranker
from ctr_tf.models.din import DINConfig
from ctr_tf.models.sdim import SDIMConfig
from ctr_tf.models.sim_soft import SIMSoftConfig
from ctr_tf.training.checkpoints import Checkpoints, Progress, load_weights
from ctr_tf.training.metrics import request_auc
from ctr_tf.training.objective import Objective, ObjectiveConfig, Term
from ctr_tf.training.optimizers import OptimizerConfig, make_optimizer
from ctr_tf.training.trainer import Trainer

SCHEMA = dataclasses.replace(make_narrow_schema(16), labels=("click", "cart"))
CONFIG = SDIMConfig(dim=8, candidate_tower=())  # quickly traced, without statistics


def make_trainer(precision="float32", jit_compile=False, objective=None, **optimizer):
    keras.utils.set_random_seed(0)
    ranker = build_ranker(CONFIG, SCHEMA, make_table_sizes(SCHEMA), dtype=precision)
    return helpers.make_trainer(
        ranker,
        OptimizerConfig(learning_rate=0.01, **optimizer),
        objective,
        loss_scaling=precision == "mixed_float16",
        jit_compile=jit_compile,
    )


@pytest.fixture(scope="module")
def batch():
    inputs = make_inputs(SCHEMA, batch=16)
    return inputs, *make_labels(inputs)


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


def test_each_further_graph_is_told_once(batch, caplog):
    inputs, labels, weights = batch
    count = labels.shape[1] - 1
    cut = {k: v[:, :count] if "candidate" in k else v for k, v in inputs.items()}
    shorter = (cut, labels[:, :count], weights[:, :count])
    trainer = make_trainer()
    with caplog.at_level(logging.INFO, "ctr_tf"):
        for given in (batch, shorter, shorter, batch):
            data = tf.data.Dataset.from_tensors(given)
            trainer.fit(data, shuffle=False, verbose=0)
    told = [line for line in caplog.messages if "its graph is made" in line]
    history = inputs["behavior_time"].shape[1]
    assert told == [
        f"first batch of slates of {count} and histories of {history}: "
        "its graph is made"
    ]


def test_weights_that_the_loss_does_not_depend_on_are_told_once(batch, caplog):
    ranker = build_ranker(
        SIMSoftConfig(dim=8, candidate_tower=()), SCHEMA, make_table_sizes(SCHEMA)
    )
    trainer = Trainer(Objective([Term("log_loss", LogLoss(MAIN))]), ranker)
    trainer.compile(make_optimizer(OptimizerConfig(), trainer.tables))
    before = {v.path: np.array(v) for v in ranker.network if v.trainable}
    data = tf.data.Dataset.from_tensors(batch)
    with caplog.at_level(logging.WARNING, "ctr_tf"):
        trainer.fit(data, epochs=2, shuffle=False, verbose=0)
    after = {v.path: np.array(v) for v in ranker.network if v.trainable}
    kept = [path for path in before if np.array_equal(before[path], after[path])]
    assert kept and all("search" in path for path in kept)
    (told,) = [line for line in caplog.messages if "does not depend" in line]
    assert f"on {len(kept)} of {len(before)} weights" in told
    assert all(path in told for path in kept)


def test_metrics_equal_scikit_learn_over_real_candidates(batch):
    inputs, labels, weights = batch
    trainer = make_trainer()
    dataset = tf.data.Dataset.from_tensor_slices(batch).batch(6)
    values = trainer.evaluate(dataset, steps=3, verbose=0, return_dict=True)
    assert "log_loss" not in values  # it would say what the loss says
    real = weights > 0
    label, logit = labels[..., 0][real], scores(trainer.ranker, inputs)[real]
    probability = 1 / (1 + np.exp(-logit))
    np.testing.assert_allclose(values["loss"], log_loss(label, probability), rtol=1e-5)
    np.testing.assert_allclose(
        values["auc"], roc_auc_score(label, probability), atol=0.01
    )


def test_a_step_equals_plain_keras_with_dense_adagrad(batch):
    trainer, plain = make_trainer(tables="adagrad"), make_trainer().ranker
    tables = {id(table.table) for table in plain.embedding.tables.values()}
    inputs, labels, weights = (tf.nest.map_structure(tf.constant, x) for x in batch)
    optimizers = keras.optimizers.Adam(0.01), keras.optimizers.Adagrad(0.01)
    for _ in range(3):
        trainer.fit(tf.data.Dataset.from_tensors(batch), shuffle=False, verbose=0)
        variables = plain.trainable_variables
        with tf.GradientTape() as tape:
            logits = plain(inputs, training=True)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)[..., 0]
            loss = tf.reduce_sum(losses * weights) / tf.reduce_sum(weights)
        gradients = tape.gradient(loss, [v.value for v in variables])
        for optimizer, of_tables in zip(optimizers, (False, True), strict=True):
            chosen = [
                (tf.convert_to_tensor(g), v)
                for g, v in zip(gradients, variables, strict=True)
                if (id(v) in tables) == of_tables and g is not None
            ]
            optimizer.apply(*zip(*chosen, strict=True))
    pairs = zip(trainer.ranker.variables, plain.variables, strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_the_loss_falls(batch, precision):
    trainer = make_trainer(precision, global_clipnorm=1.0)
    dataset = tf.data.Dataset.from_tensors(batch).repeat()
    history = trainer.fit(
        dataset, steps_per_epoch=15, epochs=2, shuffle=False, verbose=0
    ).history
    assert history["loss"][1] < 0.8 * history["loss"][0]


def test_xla_computes_the_same(batch):
    dataset = tf.data.Dataset.from_tensors(batch).repeat(2)
    plain, compiled = make_trainer(), make_trainer(jit_compile=True)
    losses = [
        r.fit(dataset, shuffle=False, verbose=0, steps_per_epoch=2).history["loss"][0]
        for r in (plain, compiled)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_only_rows_of_the_batch_change(batch):
    trainer = make_trainer()
    table = trainer.tables["item_id"].table
    before = table.numpy()
    trainer.fit(tf.data.Dataset.from_tensors(batch), shuffle=False, verbose=0)
    seen = {*batch[0]["behavior_item_id"].flat, *batch[0]["candidate_item_id"].flat}
    changed = set(np.flatnonzero((table.numpy() != before).any(axis=1)))
    assert changed and changed <= seen


def test_no_operation_makes_a_table_dense(batch):
    trainer = make_trainer()
    graph = tf.function(trainer.train_step).get_concrete_function(
        tf.nest.map_structure(tf.constant, batch)
    )
    tables = {
        id(graph.graph.capture(table.table.value.handle))
        for table in trainer.tables.values()
    }
    users = {
        operation.type
        for operation in graph.graph.get_operations()
        for tensor in operation.inputs
        if id(tensor) in tables
    }
    assert users == {"ResourceGather", "ResourceScatterSub"}


def test_two_rankers_learn_from_one_batch(batch):
    """Each as if it were alone, where no term looks at both."""
    sizes = make_table_sizes(SCHEMA)
    alone = [make_trainer(tables="adagrad", dense="sgd") for _ in range(2)]
    keras.utils.set_random_seed(0)
    rankers = {
        "student": build_ranker(CONFIG, SCHEMA, sizes),
        "teacher": build_ranker(DINConfig(dim=8, num_heads=2), SCHEMA, sizes),
    }
    alone[1] = helpers.make_trainer(
        build_ranker(DINConfig(dim=8, num_heads=2), SCHEMA, sizes),
        OptimizerConfig("sgd", "adagrad", learning_rate=0.01),
    )
    for trainer, ranker in zip(alone, rankers.values(), strict=True):
        ranker.set_weights(trainer.ranker.get_weights())
    objective = Objective([Term(name, LogLoss(name)) for name in rankers])
    both = Trainer(objective, rankers)
    options = OptimizerConfig("sgd", "adagrad", learning_rate=0.01)
    both.compile(make_optimizer(options, both.tables))
    assert {"item_id", "teacher/item_id"} <= set(both.tables)

    data = tf.data.Dataset.from_tensors(batch)
    logs = [t.fit(data, shuffle=False, verbose=0).history for t in (*alone, both)]
    assert logs[2]["student"] == pytest.approx(logs[0]["loss"], rel=1e-5)
    assert logs[2]["teacher"] == pytest.approx(logs[1]["loss"], rel=1e-5)
    assert logs[2]["loss"][0] == pytest.approx(
        logs[0]["loss"][0] + logs[1]["loss"][0], rel=1e-5
    )
    assert logs[2]["auc"] == logs[0]["auc"]
    for trainer, ranker in zip(alone, rankers.values(), strict=True):
        pairs = zip(trainer.ranker.variables, ranker.variables, strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(other.numpy(), one.numpy(), rtol=1e-4, atol=1e-6)


def two(**options):
    sizes = make_table_sizes(SCHEMA)
    rankers = {
        "student": build_ranker(CONFIG, SCHEMA, sizes),
        "teacher": build_ranker(
            DINConfig(dim=8, num_heads=2, **options), SCHEMA, sizes
        ),
    }
    objective = Objective([Term(name, LogLoss(name)) for name in rankers])
    return objective, rankers


def test_a_frozen_ranker_does_not_change(batch):
    objective, rankers = two()
    rankers["teacher"].trainable = False
    trainer = Trainer(objective, rankers)
    trainer.compile(make_optimizer(OptimizerConfig(), trainer.tables))
    before = {name: ranker.get_weights() for name, ranker in rankers.items()}
    trainer.fit(tf.data.Dataset.from_tensors(batch), shuffle=False, verbose=0)
    for one, other in zip(
        before["teacher"], rankers["teacher"].get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    pairs = zip(before["student"], rankers["student"].get_weights(), strict=True)
    assert any((one != other).any() for one, other in pairs)


def test_checkpoints_of_two_rankers(batch, tmp_path):
    objective, rankers = two()
    trainer = Trainer(objective, rankers)
    trainer.compile(make_optimizer(OptimizerConfig(), trainer.tables))
    data = tf.data.Dataset.from_tensors(batch)
    trainer.fit(data, shuffle=False, verbose=0)
    checkpoints = Checkpoints(tmp_path, trainer)
    checkpoints.save(Progress(step=1))
    checkpoints.save_best(1)
    student, inputs = rankers["student"], batch[0]
    expected = {name: np.asarray(ranker(inputs)) for name, ranker in rankers.items()}
    for weights in ("best", "last"):
        alone = build_ranker(CONFIG, SCHEMA, make_table_sizes(SCHEMA))
        load_weights(tmp_path, alone, weights)
        np.testing.assert_array_equal(alone(inputs), expected["student"])
    trainer.fit(data, shuffle=False, verbose=0)
    assert np.abs(np.asarray(student(inputs)) - expected["student"]).max() > 0
    assert checkpoints.restore().step == 1
    for name, ranker in rankers.items():
        np.testing.assert_array_equal(ranker(inputs), expected[name])


def test_a_loss_that_no_slate_tells_is_not_zero(batch):
    inputs, labels, weights = batch
    trainer = make_trainer(objective=ObjectiveConfig(log_loss=0.0, listwise=1.0))
    data = tf.data.Dataset.from_tensors((inputs, np.zeros_like(labels), weights))
    values = trainer.evaluate(data, verbose=0, return_dict=True)
    assert np.isnan(values["loss"]) and np.isnan(values["auc"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Trainer(two()[0], two(tasks=("cart",))[1]), "have equal `tasks`"),
        (
            lambda: Trainer(Objective([Term("a", LogLoss("techer"))]), two()[1]),
            "Unknown ranker of the term 'a' 'techer'. Did you mean 'teacher'?",
        ),
        (
            lambda: Trainer(Objective([Term("auc", LogLoss("teacher"))]), two()[1]),
            "that no metric has. Received: 'auc'",
        ),
        (
            lambda: Trainer(two()[0], {**two()[1], "main": two()[1]["teacher"]}),
            "Received: ['student', 'teacher', 'main']",
        ),
        (
            lambda: make_trainer(objective=ObjectiveConfig(auxiliary=0.5)),
            "`objective.auxiliary` has no effect: 'sdim' has no",
        ),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert message in str(error.value)


def test_metrics_are_those_of_the_first_whatever_its_name(batch):
    student, teacher = two()[1].values()
    rankers = {"zeta": student, "alpha": teacher}
    trainer = Trainer(Objective([Term(n, LogLoss(n)) for n in rankers]), rankers)
    trainer.compile(make_optimizer(OptimizerConfig(), trainer.tables))
    data = tf.data.Dataset.from_tensors(batch)
    found = trainer.evaluate(data, verbose=0, return_dict=True)
    alone = helpers.make_trainer(student).evaluate(data, verbose=0, return_dict=True)
    other = helpers.make_trainer(teacher).evaluate(data, verbose=0, return_dict=True)
    assert found["auc"] == alone["auc"] != other["auc"]
    assert found["zeta"] == pytest.approx(alone["loss"], rel=1e-6)
    trained = trainer.fit(data, shuffle=False, verbose=0).history
    assert trained["auc"] == [alone["auc"]]
