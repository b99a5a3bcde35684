"""DIN, CAN and SIM: their scores against NumPy, from features to the logit."""

import helpers
import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import make_inputs, make_labels, make_schema, make_table_sizes
from reference_target import (
    activation,
    attention,
    co_action,
    dense,
    randomize,
    sigmoid,
    tower,
)
from sklearn.metrics import log_loss

from ctr_tf.layers.feature_embedding import ExtraTable, FeatureEmbedding
from ctr_tf.models import build_ranker
from ctr_tf.models.can import CANConfig
from ctr_tf.models.din import DINConfig
from ctr_tf.models.sim_hard import SIMHardConfig
from ctr_tf.models.sim_soft import SIMSoftConfig
from ctr_tf.models.sizes import TowerSizes
from ctr_tf.training.objective import ObjectiveConfig
from ctr_tf.training.optimizers import OptimizerConfig

SCHEMA = make_schema()
SMALL = {
    "dim": 8,
    "num_heads": 2,
    "embedding_dim": 4,
    "head_units": (6,),
    "candidate_tower": (),
}
FEW = {"top_k": 3, "recent": 4}


def make(config):
    return build_ranker(config, SCHEMA, make_table_sizes(SCHEMA))


def train_step(trainer, *batch):
    """One step without tracing it."""
    tf.config.run_functions_eagerly(True)
    try:
        return trainer.train_step(tf.nest.map_structure(tf.constant, batch))
    finally:
        tf.config.run_functions_eagerly(False)


def gap_one_hot(model, inputs, b, index):
    gaps = inputs["request_time"][b] - inputs["behavior_time"][b][index]
    one_hot = np.zeros((len(index), 32))
    for row, gap in enumerate(gaps):
        one_hot[row, min(int(gap).bit_length() - 1, 31)] = 1
    return one_hot


def retrieved(model, inputs, b, index, target, behaviors, valid):
    """Attention over the behaviors at `index` with their gaps, and over the latest."""
    gaps = gap_one_hot(model, inputs, b, index)
    keys = np.concatenate([behaviors[index], gaps], axis=-1)
    recent = [n for n in valid if n >= len(behaviors) - model.config.recent]
    return np.concatenate(
        [
            attention(model.search, target, keys),
            attention(model.recent, target, behaviors[recent]),
        ]
    )


def din(model, inputs, b, c, target, behaviors, valid):
    weights = [activation(model.unit, target, behaviors[n]) for n in valid]
    return sum(
        (w * behaviors[n] for w, n in zip(weights, valid, strict=True)), 0 * target
    )


def can(model, inputs, b, c, target, behaviors, valid):
    tables = {k: np.asarray(t.table) for k, t in model.embedding.tables.items()}
    rows = tables["co_action_inputs"][inputs["behavior_item_id"][b][valid]]
    weights = tables["co_action_weights"][inputs["candidate_item_id"][b, c]]
    together = co_action((8, 4), 3, weights, rows)
    interest = din(model, inputs, b, c, target, behaviors, valid)
    return np.concatenate([interest, together])


def sim_soft(model, inputs, b, c, target, behaviors, valid):
    score = behaviors @ dense(model.similarity, target)
    best = sorted(valid, key=lambda n: -score[n])[: model.config.top_k]
    return retrieved(model, inputs, b, np.array(best, int), target, behaviors, valid)


def sim_hard(model, inputs, b, c, target, behaviors, valid):
    key = model.config.category or "category"
    wanted = inputs[f"candidate_{key}"][b, c]
    same = [n for n in valid if inputs[f"behavior_{key}"][b, n] == wanted > 1]
    index = np.array(same[::-1][: model.config.top_k], int)
    return retrieved(model, inputs, b, index, target, behaviors, valid)


CASES = {
    "din": (DINConfig(**SMALL, activation_units=(5, 3)), din),
    "can": (CANConfig(**SMALL), can),
    "sim_soft": (SIMSoftConfig(**SMALL, **FEW), sim_soft),
    "sim_hard": (SIMHardConfig(**SMALL, **FEW), sim_hard),
    "sim_hard_items": (SIMHardConfig(**SMALL, **FEW, category="item_id"), sim_hard),
}


@pytest.mark.parametrize("case", CASES)
def test_scores_equal_numpy(case):
    config, interest = CASES[case]
    model = randomize(make(config))
    inputs = make_inputs(SCHEMA, batch=3, candidates=4, lengths=[16, 2, 0])
    for group in ("behavior", "candidate"):  # few categories, some not known
        inputs[f"{group}_category"] = np.minimum(inputs[f"{group}_category"], 4) % 4
        inputs[f"{group}_item_id"] = np.minimum(inputs[f"{group}_item_id"], 12)
    groups = model.embedding.assemble(inputs, model.lookup(inputs))
    logits = helpers.scores(model, inputs)
    behaviors, targets, user, context = (
        np.asarray(groups[group]["embedding"], np.float64)
        for group in ("behaviors", "candidates", "user", "context")
    )
    if case in ("din", "can"):
        shown = targets  # items' rows come first in both groups
        targets = np.zeros((3, 4, behaviors.shape[-1]))
        shared = model.embedding.item_dim
        targets[..., :shared] = shown[..., :shared]
    else:
        behaviors = dense(model.behavior_projection, behaviors)
        shown = targets = dense(model.candidate_projection, targets)
    for b, c in np.ndindex(logits.shape):
        valid = np.flatnonzero(inputs["behavior_time"][b] > 0)
        found = interest(model, inputs, b, c, targets[b, c], behaviors[b], valid)
        known = np.concatenate([found, user[b], context[b], shown[b, c]])
        expected = tower(model.head.towers[0], known)
        np.testing.assert_allclose(logits[b, c], expected, rtol=1e-3, atol=1e-3)


def test_the_search_of_sim_soft_is_trained_by_a_loss_of_its_own():
    model = randomize(make(SIMSoftConfig(**SMALL, **FEW)), scale=0.1)
    inputs = make_inputs(SCHEMA, batch=8)
    labels, weights = make_labels(inputs)
    groups = model.embedding.assemble(inputs, model.lookup(inputs))
    before = helpers.scores(model, inputs)

    behaviors = dense(model.behavior_projection, groups["behaviors"]["embedding"])
    targets = dense(model.candidate_projection, groups["candidates"]["embedding"])
    valid = inputs["behavior_time"] > 0
    score = np.einsum("bcd,bnd->bcn", dense(model.similarity, targets), behaviors)
    found = np.einsum("bcn,bnd->bcd", score * valid[:, None], behaviors)
    expected = tower(model.search_tower, np.concatenate([found, targets], axis=-1))
    logits, auxiliary, *_ = model.outputs(inputs, model.lookup(inputs), training=True)
    np.testing.assert_allclose(logits[..., 0], before, atol=1e-5)
    np.testing.assert_allclose(
        auxiliary["search"][..., 0], expected, rtol=1e-3, atol=1e-3
    )

    real = weights > 0
    labels_BC = labels[..., 0]
    losses = [
        log_loss(labels_BC[real], sigmoid(values[real]))
        for values in (before, expected)
    ]
    old = {v.path: v.numpy() for v in model.trainable_variables}
    options = OptimizerConfig("sgd", learning_rate=1e-3)
    weighed = ObjectiveConfig(auxiliary=0.5)
    trainer = helpers.make_trainer(model, options, weighed)
    metrics = train_step(trainer, inputs, labels, weights)
    for name, value in (
        ("log_loss", losses[0]),
        ("auxiliary", losses[1]),
        ("loss", losses[0] + losses[1] / 2),
    ):
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4)
    for part in ("search/", "search_tower/", "behavior/", "table_item_id/"):
        moved = [
            np.abs(v.numpy() - old[v.path]).max()
            for v in model.trainable_variables
            if part in v.path
        ]
        assert moved and min(moved) > 0, part

    # One step of SGD lowers the loss by about rate * |gradient|^2.
    after, auxiliary, *_ = model.outputs(inputs, model.lookup(inputs))
    main, search = (
        log_loss(labels_BC[real], sigmoid(np.asarray(values)[..., 0][real]))
        for values in (after, auxiliary["search"])
    )
    assert main + search / 2 < losses[0] + losses[1] / 2


def test_extra_tables_train_their_own_rows_only():
    model = make(CANConfig(**SMALL))
    inputs = make_inputs(SCHEMA, batch=8)
    labels, weights = make_labels(inputs)
    tables = {k: t.table for k, t in model.embedding.tables.items()}
    old = {name: table.numpy() for name, table in tables.items()}
    trainer = helpers.make_trainer(model, OptimizerConfig(learning_rate=0.01))
    train_step(trainer, inputs, labels, weights)
    for name, key, width in (
        ("co_action_inputs", "behavior_item_id", 16),
        ("co_action_weights", "candidate_item_id", 16 * 8 + 8 * 4),
    ):
        assert tables[name].shape == (len(old["item_id"]), width)
        changed = (tables[name].numpy() != old[name]).any(axis=1)
        assert changed.any() and set(np.flatnonzero(changed)) <= set(inputs[key].flat)


def test_extra_tables_in_the_config_of_the_embedding():
    extra = ExtraTable("weights", "candidate_item_id", 5)
    layer = FeatureEmbedding(SCHEMA, make_table_sizes(SCHEMA), extra_tables=[extra])
    data = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(data)
    assert again.extra_tables == (extra,) and again.tables["weights"].width == 5
    with pytest.raises(ValueError, match="Received: name='item_id'"):
        taken = ExtraTable("item_id", "candidate_item_id", 5)
        FeatureEmbedding(SCHEMA, make_table_sizes(SCHEMA), extra_tables=[taken])


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: TowerSizes("x", dim=0), "positive integer. Received: dim=0"),
        (lambda: TowerSizes("x", num_heads=5), "divide `dim`=32. Received: nu"),
        (lambda: DINConfig(head_units=[8, -1]), "Received: head_units=(8, -1)"),
        (lambda: DINConfig(activation_units=(1.5,)), "activation_units=(1.5,)"),
        (lambda: CANConfig(co_action_dim=0), "Received: co_action_dim=0"),
        (lambda: SIMSoftConfig(top_k=0), "Received: top_k=0"),
        (
            lambda: make(SIMHardConfig(category="categories")),
            "Unknown item feature with one id 'categories'. Did you mean 'category'?",
        ),
    ],
)
def test_mistakes(make_it, message):
    with pytest.raises(ValueError) as error:
        make_it()
    assert message in str(error.value)
