"""ETA, SDIM and TWIN-V2 beside their formulas in NumPy."""

import dataclasses

import helpers
import keras
import numpy as np
import pytest
import reference_retrieval as reference
import tensorflow as tf

from ctr_tf.models import build_ranker
from ctr_tf.models.eta import ETAConfig
from ctr_tf.models.sdim import SDIMConfig
from ctr_tf.models.twin_v2 import TwinV2Config

SMALL = {
    "dim": 8,
    "num_heads": 2,
    "head_units": (6,),
    "recent": 3,
    "candidate_tower": (),
}
ETA = ETAConfig(**SMALL, top_k=4, num_bits=16)
SDIM = SDIMConfig(**SMALL, num_groups=4, num_bits=2)
TWIN_V2 = TwinV2Config(**SMALL, cluster_size=2, top_clusters=3)
LENGTHS = [16, 0, 2, 9]


def make(config, history_length: int = 16):
    keras.utils.set_random_seed(1)
    schema = helpers.make_schema(history_length)
    model = build_ranker(config, schema, helpers.make_table_sizes(schema))
    random = np.random.default_rng(2)
    for weight in model.trainable_weights:  # what begins near 0 would hide mistakes
        noise = random.normal(size=weight.shape) * 0.2
        weight.assign(np.asarray(weight) + noise)
    return model


def eta(model, target, item, history):
    planes = np.asarray(model.hash.planes)
    chosen = reference.nearest(item, history["items"], history["mask"], planes, 4)
    keys = history["behaviors"][chosen]
    return reference.target_attention(model.search, target, keys)


def sdim(model, target, item, history):
    planes = np.asarray(model.collisions.hash.planes)
    items, rows, mask = (history[key] for key in ("items", "behaviors", "mask"))
    return reference.collisions(item, items, rows, mask, planes, 2)


def twin_v2(model, target, item, history):
    members = reference.clusters(
        history["items"], history["mask"], model.clusters.start, 16, 2
    )
    members = [inside for inside in members if inside]
    rows, time = history["behaviors"], history["time"]
    mean = [rows[inside].mean(axis=0) for inside in members]
    when = [sum(int(t) for t in time[inside]) // len(inside) for inside in members]
    return reference.cluster_attention(
        model.cluster_attention,
        target,
        np.reshape(mean, (-1, 8)),
        history["request_time"] - np.array(when, np.int64),
        np.array([len(inside) for inside in members]),
    )


@pytest.mark.parametrize(
    ("config", "found"),
    [(ETA, eta), (SDIM, sdim), (TWIN_V2, twin_v2)],
    ids=["ETA", "SDIM", "TWIN-V2"],
)
def test_equals_the_formulas(config, found):
    model = make(config)
    inputs = helpers.make_inputs(model.schema, candidates=3, lengths=LENGTHS)
    expected = reference.logits(model, inputs, lambda *args: found(model, *args))
    assert np.std(expected) > 0.05
    np.testing.assert_allclose(helpers.scores(model, inputs), expected, atol=1e-4)


def test_eta_finds_the_candidate_itself_first():
    model = make(dataclasses.replace(ETA, top_k=1, num_bits=32))
    inputs = helpers.make_inputs(model.schema, lengths=LENGTHS)
    for name in ("item_id", "category"):
        inputs[f"candidate_{name}"][0, 2] = inputs[f"behavior_{name}"][0, 5]
    before = np.asarray(model(inputs))
    inputs["behavior_action"][0, 5] += 1
    changed = np.abs(np.asarray(model(inputs)) - before) > 1e-6
    assert changed[0, 2] and not changed[1:].any()


@pytest.mark.parametrize("config", [SDIM, TWIN_V2], ids=["SDIM", "TWIN-V2"])
def test_the_state_does_not_grow_with_the_batch_history(config):
    model = make(config, history_length=32)
    states = []
    for length in (8, 32):
        inputs = helpers.make_inputs(model.schema, history=length, lengths=[8] * 4)
        state = helpers.encode(model, inputs)
        states.append({key: tuple(value.shape) for key, value in state.items()})
    assert states[0] == states[1]


@pytest.mark.parametrize("config", [ETA, SDIM, TWIN_V2], ids=lambda c: c.name)
def test_the_number_of_candidates_may_be_open(config):
    model = make(config)
    inputs = helpers.make_inputs(model.schema, lengths=LENGTHS)
    signature = {
        key: tf.TensorSpec(
            (None, None, *value.shape[2:])
            if key.startswith("candidate_")
            else (None, *value.shape[1:]),
            value.dtype,
        )
        for key, value in inputs.items()
    }
    served = tf.function(model.call, input_signature=[signature], autograph=False)
    np.testing.assert_allclose(served(inputs), model(inputs), atol=1e-5)


def test_number_of_clusters():
    config = TwinV2Config(cluster_size=5)
    assert [config.num_clusters_for(n) for n in (1, 5, 6, 20, 21, 128)] == [
        *(2, 2, 4, 8, 16, 64)
    ]


@pytest.mark.parametrize(
    ("make_config", "message"),
    [
        (lambda: ETAConfig(num_bits=0), "Received: num_bits=0"),
        (lambda: ETAConfig(top_k=0), "Received: top_k=0"),
        (lambda: SDIMConfig(num_groups=-1), "Received: num_groups=-1"),
        (lambda: SDIMConfig(recent=0), "Received: recent=0"),
        (lambda: TwinV2Config(cluster_size=0), "Received: cluster_size=0"),
        (lambda: TwinV2Config(top_clusters=1.5), "Received: top_clusters=1.5"),
    ],
)
def test_mistakes(make_config, message):
    with pytest.raises(ValueError) as error:
        make_config()
    assert message in str(error.value)
