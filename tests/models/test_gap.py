"""GAP-Net beside its formulas in NumPy; its switches change what they say."""

import dataclasses

import helpers
import keras
import numpy as np
import pytest
import reference_gap as reference

from ctr_tf.layers.history_views import VIEWS
from ctr_tf.models import build_ranker
from ctr_tf.models.eta_gap import ETAGAPConfig
from ctr_tf.models.gap import GATES, GAPConfig
from ctr_tf.models.sdim_gap import SDIMGAPConfig

SMALL = {
    "dim": 16,
    "head_units": (12,),
    "candidate_tower": (),
    "view_limits": (2_000, 200_000),
}
BY_COUNT = {"view_cut": "count", "view_limits": (3, 8)}
LENGTHS = [16, 0, 2, 9]  # without any behavior, and without some of the views
VARIANTS = {
    "DIN": GAPConfig(**SMALL),
    "baseline": GAPConfig(**{**SMALL, **BY_COUNT}, gates=()),
    "sigmoid": GAPConfig(**SMALL, attention="sigmoid", fusion_context="full"),
    "ETA": ETAGAPConfig(**{**SMALL, **BY_COUNT}, top_k=3),
    "ETA baseline": ETAGAPConfig(**SMALL, top_k=4, gates=()),
    "SDIM": SDIMGAPConfig(**SMALL, fusion_context="minimal"),
    "SDIM baseline": SDIMGAPConfig(**{**SMALL, **BY_COUNT}, gates=()),
}


def make(config):
    keras.utils.set_random_seed(1)
    schema = helpers.make_schema()
    model = build_ranker(config, schema, helpers.make_table_sizes(schema))
    random = np.random.default_rng(2)
    for weight in model.trainable_weights:  # biases begin at 0
        noise = random.normal(size=weight.shape) * 0.1
        weight.assign(np.asarray(weight) + noise)
    return schema, model


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_equals_the_formulas(config):
    schema, model = make(config)
    inputs = helpers.make_inputs(schema, candidates=3, lengths=LENGTHS)
    expected = reference.gap(model, inputs)
    np.testing.assert_allclose(
        helpers.scores(model, inputs), expected, rtol=1e-3, atol=1e-4
    )


def without(gate):
    return {"gates": tuple(other for other in GATES if other != gate)}


SWITCHES = {  # what to change, and the layers that go with it
    "pafs": (without("pafs"), {"target_sifting", "behavior_sifting"}),
    "qaog": (without("qaog"), {f"{view}/gate" for view in VIEWS}),
    "gcqc": (without("gcqc"), {"calibration"}),
    "cgdf": (without("cgdf"), {"fusion"}),
    "minimal context": ({"fusion_context": "minimal"}, {"fusion"}),
    "full context": ({"fusion_context": "full"}, {"fusion"}),
    "sigmoid": ({"attention": "sigmoid"}, set()),
    "by count": (BY_COUNT, set()),
}


@pytest.mark.parametrize(("change", "layers"), SWITCHES.values(), ids=SWITCHES)
def test_a_switch_changes_what_it_says(change, layers):
    base = VARIANTS["DIN"]
    schema, model = make(base)
    _, changed = make(dataclasses.replace(base, **change))
    weights, others = (helpers.weights_by_path(each) for each in (model, changed))
    differing = {
        path
        for path in weights.keys() | others.keys()
        if path not in weights
        or path not in others
        or weights[path].shape != others[path].shape
    }
    for path in differing:
        assert any(path.startswith(f"{layer}/") for layer in layers), path
    for layer in layers:
        assert any(path.startswith(f"{layer}/") for path in differing), layer
    for path in weights.keys() - differing:
        others[path].assign(weights[path])
    inputs = helpers.make_inputs(schema, lengths=[16] * 4)
    assert np.abs(np.asarray(model(inputs)) - changed(inputs)).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gates": ("pafs", "cgfd")}, "Unknown gate 'cgfd'. Did you mean 'cgdf'?"),
        ({"attention": "relu"}, "Unknown attention 'relu'."),
        ({"fusion_context": "none"}, "Unknown fusion context 'none'."),
        ({"view_cut": "time"}, "Unknown cut 'time'."),
        ({"view_limits": (5, 2)}, "Received: limits=(5, 2)"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ValueError) as error:
        GAPConfig(**options)
    assert message in str(error.value)
