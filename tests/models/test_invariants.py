"""What every ranking model must show, over all models and SparseCTR's variants."""

import dataclasses
import functools

import helpers
import keras
import numpy as np
import pytest
import small_language_model
import tensorflow as tf
from keras import ops

from ctr_tf.layers.state_spec import FLOAT, flatten
from ctr_tf.layers.text.low_rank import LoRA
from ctr_tf.models import MODELS, build_ranker
from ctr_tf.models.bst import BSTConfig
from ctr_tf.models.can import CANConfig
from ctr_tf.models.config_checks import without_effect
from ctr_tf.models.ctr_sink import CTRSinkConfig
from ctr_tf.models.din import DINConfig
from ctr_tf.models.eta import ETAConfig
from ctr_tf.models.eta_gap import ETAGAPConfig
from ctr_tf.models.gap import GAPConfig
from ctr_tf.models.hstu import HSTUConfig
from ctr_tf.models.light_suan import LightSUANConfig
from ctr_tf.models.longer import LONGERConfig
from ctr_tf.models.sdim import SDIMConfig
from ctr_tf.models.sdim_gap import SDIMGAPConfig
from ctr_tf.models.sim_hard import SIMHardConfig
from ctr_tf.models.sim_soft import SIMSoftConfig
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
from ctr_tf.models.suan import SUANConfig
from ctr_tf.models.texts_config import TextsConfig
from ctr_tf.models.tower import TowerConfig
from ctr_tf.models.twin_v2 import TwinV2Config
from ctr_tf.models.with_texts import WithTextsConfig
from ctr_tf.training.checkpoints import named
from ctr_tf.training.paired_optimizer import Adam

SMALL = {"dim": 16, "num_heads": 4}
TEXTS = {
    "pretrained": False,
    "dropout": 0.0,
    "history_tokens": 48,
    "candidate_tokens": 12,
    "history_prompt": "liked:",
    "candidate_prompts": ("the hat", ""),
    "signal_width": 8,
    "units": (16, 16, 8),
}
BERT = {**TEXTS, "language_model": small_language_model.folder("bert")}
QWEN3 = {**TEXTS, "language_model": small_language_model.folder("qwen3")}
CONFIGS = {
    "S2": SparseCTRConfig(**SMALL),
    "S1": SparseCTRConfig(**SMALL, sparsity="S1"),
    "S3": SparseCTRConfig(**SMALL, sparsity="S3"),
    "S4": SparseCTRConfig(**SMALL, sparsity="S4"),
    "A1": SparseCTRConfig(**SMALL, attention="full"),
    "A2": SparseCTRConfig(**SMALL, branches=("transition", "local")),
    "A3": SparseCTRConfig(**SMALL, branches=("global", "local")),
    "A4": SparseCTRConfig(**SMALL, branches=("global", "transition")),
    "B1": SparseCTRConfig(**SMALL, relations=()),
    "B2": SparseCTRConfig(**SMALL, relations=("hour", "weekend")),
    "B3": SparseCTRConfig(**SMALL, relations=("time", "weekend")),
    "B4": SparseCTRConfig(**SMALL, relations=("time", "hour")),
    "fixed chunks": SparseCTRConfig(**SMALL, chunking="fixed"),
    "similarity chunks": SparseCTRConfig(**SMALL, chunking="similarity"),
    "dilated": SparseCTRConfig(**SMALL, attention="dilated", window=3),
    "nsa": SparseCTRConfig(**SMALL, attention="nsa", num_chunks=3, window=2),
    "kernel": SparseCTRConfig(**SMALL, attention="kernel"),
    "HSTU's bias": SparseCTRConfig(**SMALL, relative_encoding="hstu"),
    "RoPE": SparseCTRConfig(**SMALL, relative_encoding="rope"),
    "DIN": DINConfig(**SMALL),
    "CAN": CANConfig(**SMALL),
    "SIM soft": SIMSoftConfig(**SMALL, top_k=6, recent=5),
    "SIM hard": SIMHardConfig(**SMALL, top_k=6, recent=5),
    "ETA": ETAConfig(**SMALL, top_k=3, recent=4),
    "SDIM": SDIMConfig(**SMALL, recent=4),
    "TWIN-V2": TwinV2Config(**SMALL, cluster_size=2, top_clusters=3, recent=4),
    "DIN GAP": GAPConfig(**SMALL),
    "ETA GAP": ETAGAPConfig(**SMALL, top_k=3, view_cut="count", view_limits=(3, 7)),
    "SDIM GAP": SDIMGAPConfig(**SMALL, view_cut="count", view_limits=(3, 7)),
    "BST": BSTConfig(**SMALL),
    "HSTU": HSTUConfig(**SMALL),
    "LONGER": LONGERConfig(**SMALL, merge=3, recent=2),
    "SUAN": SUANConfig(**SMALL),
    "LightSUAN": LightSUANConfig(**SMALL, window=3, dilation=5),
    "CTR-Sink": CTRSinkConfig(**BERT, inter_sink=2, match=True),
    "CTR-Sink of a decoder": CTRSinkConfig(
        **QWEN3, inter_sink=1, tune="lora", lora=LoRA(2), order="shuffled"
    ),
    "with texts": WithTextsConfig(
        ranker=SIMSoftConfig(**SMALL, top_k=6, recent=5),
        texts=TextsConfig(**BERT, tune="upper", signal="ordinal"),
    ),
    "tower": TowerConfig(),
    # The other ablations, and all of their mathematics: test_suan.py.
    "SUAN without target": SUANConfig(**SMALL, target_aware=False),
}
# Those of SparseCTR's variants that have layers which it has not.
OTHER_LAYERS = ("fixed chunks", "similarity chunks", "dilated", "nsa", "kernel", "RoPE")
OF_TEXTS = [key for key in CONFIGS if "Sink" in key or "texts" in key]
FIRST = {config.name: key for key, config in reversed(CONFIGS.items())}
all_models = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
HALF = "mixed_float16"  # of the two the one that overflows


def make(config, dtype=None):
    schema = helpers.make_schema(texts=True)
    sizes, texts = helpers.make_table_sizes(schema), helpers.make_texts(schema)
    return build_ranker(config, schema, sizes, dtype, texts=texts)


@functools.cache
def made(config, dtype=None):
    """One for all tests that leave its weights as they are."""
    return make(config, dtype)


def of_one_block(config):
    """Half as long to trace."""
    if any(field.name == "num_blocks" for field in dataclasses.fields(config)):
        return dataclasses.replace(config, num_blocks=1)
    return config


def batch(model, **options):
    return helpers.make_inputs(model.schema, num_chunks=model.num_chunks, **options)


def pad(value, before, after):
    """More places on the second axis, if there is one."""
    widths = ((0, 0), (before, after), *((0, 0),) * (value.ndim - 2))
    return np.pad(value, widths[: value.ndim])


def scores(model, inputs):
    return helpers.scores(model, inputs)


def test_every_model_is_here():
    assert {config.name for config in CONFIGS.values()} == set(MODELS)


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        (
            SparseCTRConfig(**SMALL, attention="full"),
            {"sparsity": "S3", "branches": ("global",), "chunking": "fixed"},
        ),
        (
            SparseCTRConfig(**SMALL, attention="kernel"),
            {"window": 3, "relative_encoding": "rope", "relations": ()},
        ),
        (SparseCTRConfig(**SMALL, relative_encoding="alibi"), {"relations": ()}),
        (GAPConfig(**SMALL, gates=("pafs",)), {"fusion_context": "full"}),
        (SUANConfig(**SMALL, fusion=False), {"dual_alignment": False}),
        (SUANConfig(**SMALL, swiglu=False), {"ffn_factor": 1.0}),
        (DINConfig(), {"dim": 8, "num_heads": 2}),
        (
            CTRSinkConfig(**{**BERT, "signal_width": 128}, sinks=False),
            {"signal": "ordinal", "signal_width": 8, "sink_scale": 2.0},
        ),
    ],
)
def test_keys_that_are_said_to_have_no_effect_have_none(config, keys):
    changed = dataclasses.replace(config, **keys)
    assert keys.keys() <= without_effect(changed).keys()
    found = []
    for one in (config, changed):
        keras.utils.set_random_seed(0)
        model = make(of_one_block(one))
        found.append(helpers.scores(model, batch(model)))
    np.testing.assert_array_equal(*found)
    assert not without_effect(type(config)())


def test_keys_without_effect_are_found_within_a_model_with_texts():
    config = WithTextsConfig(ranker=DINConfig(dim=8), texts=TextsConfig(**BERT))
    assert without_effect(config) == {"ranker.dim": 8}


@all_models
def test_a_batch_may_be_empty(config):
    model = made(config)
    none = {key: value[:0] for key, value in batch(model).items()}
    assert helpers.scores(model, none).shape[:2] == (0, 5)


@all_models
def test_candidates_are_isolated_and_padding_is_nothing(config):
    model = made(config)
    inputs = batch(model)
    before = scores(model, inputs)
    order = [3, 1, 2, 0, 4]
    candidates = {k: v for k, v in inputs.items() if k.startswith("candidate_")}

    swapped = {**inputs, **{key: v[:, order] for key, v in candidates.items()}}
    np.testing.assert_allclose(scores(model, swapped), before[:, order], atol=1e-5)

    # Each by itself: five times the batch, of one candidate each.
    five = {key: np.concatenate([value] * 5) for key, value in inputs.items()}
    five |= {k: np.concatenate(np.split(v, 5, axis=1)) for k, v in candidates.items()}
    alone = np.concatenate(np.split(scores(model, five), 5), axis=1)
    np.testing.assert_allclose(alone, before, atol=1e-5)

    behaviors = {k: v for k, v in inputs.items() if k.startswith("behavior_")}
    padded = {k: pad(v, 9, 0) for k, v in behaviors.items()}
    np.testing.assert_allclose(scores(model, {**inputs, **padded}), before, atol=1e-5)


@all_models
def test_the_state_is_as_declared(config):
    model = made(config, HALF)
    declared = flatten(model.state_spec())
    grown = set()
    for history in (5, 16):
        inputs = batch(model, history=history, lengths=[history] * 4)
        state = helpers.encode(model, inputs)
        assert list(state) == list(declared)
        for path, spec in declared.items():
            value = ops.convert_to_tensor(state[path])
            assert tuple(value.shape) == (4, *spec.at(history)), path
            expected = model.compute_dtype if spec.dtype == FLOAT else spec.dtype
            assert keras.backend.standardize_dtype(value.dtype) == expected, path
    for path, spec in declared.items():
        small, large = spec.at(5), spec.at(16)
        grown |= {path} if small != large else set()
        assert all(
            a == b or i in spec.grows
            for i, (a, b) in enumerate(zip(small, large, strict=True))
        )
    assert grown <= {path for path, spec in declared.items() if spec.grows}


@all_models
def test_padding_is_nothing_in_training_either(config):
    model = make(config)
    model.build()
    weights = model.get_weights()
    inputs = batch(model)
    more = {"behavior": (9, 0), "candidate": (0, 7)}
    padded = {
        key: pad(value, *more.get(key.split("_")[0], (0, 0)))
        for key, value in inputs.items()
    }
    seen = []
    for given in (inputs, padded):
        model.set_weights(weights)
        given = {key: tf.constant(value) for key, value in given.items()}
        logits = model.logits(given, model.lookup(given), training=True)
        recorded = [np.asarray(v) for v in model.non_trainable_variables]
        seen.append((np.asarray(logits)[:, :5], recorded))
    (logits, recorded), (of_padded, recorded_there) = seen
    real = inputs["candidate_mask"]
    np.testing.assert_allclose(of_padded[real], logits[real], atol=1e-5)
    for value, there in zip(recorded, recorded_there, strict=True):
        np.testing.assert_allclose(there, value, atol=1e-5)


@all_models
def test_weights_are_named_alike_in_every_process(config):
    """Checkpoints know them by their paths; Keras counts layers without a name."""
    names = [list(named(model)) for model in (made(config), make(config))]
    assert names[0] == names[1]
    assert len(set(names[0])) == len(made(config).network)


@pytest.mark.parametrize("name", [n for n in CONFIGS if n != "tower"])
def test_the_history_matters(name):
    model = made(CONFIGS[name])
    inputs = batch(model, lengths=[16, 16, 16, 16])
    other = {**inputs, "behavior_item_id": inputs["behavior_item_id"] % 40 + 3}
    other["behavior_title"] = np.flip(inputs["behavior_title"], 1)
    assert np.abs(scores(model, other) - scores(model, inputs)).max() > 1e-4


@all_models
def test_an_empty_history_is_finite(config):
    model = made(config, HALF)
    inputs = batch(model, batch=3, lengths=[0, 1, 16])
    inputs = {key: tf.constant(value) for key, value in inputs.items()}
    logits, gradient = gradients(model, inputs, model.lookup(inputs))
    check_finite(logits, gradient)


@pytest.mark.parametrize(
    "name",
    [
        *("S2", "LightSUAN"),
        pytest.param("SUAN", marks=pytest.mark.long),
        *(pytest.param(name, marks=pytest.mark.study) for name in OF_TEXTS),
    ],
)
def test_an_empty_history_is_finite_under_xla(name):
    model = make(of_one_block(CONFIGS[name]), HALF)
    inputs = batch(model, batch=3, lengths=[0, 1, 16])
    inputs = {key: tf.constant(value) for key, value in inputs.items()}
    rows = model.lookup(inputs)
    step = tf.function(functools.partial(gradients, model), jit_compile=True)
    logits, gradient = step(inputs, rows)
    check_finite(logits, gradient)
    plain = model.logits(inputs, rows, training=True)
    np.testing.assert_allclose(logits, plain, atol=0.02)


def check_finite(logits, gradient):
    assert logits.dtype == tf.float32
    for tensor in [logits, *tf.nest.flatten(gradient)]:
        if tensor is not None:
            assert np.all(np.isfinite(np.asarray(tensor, np.float32)))


def gradients(model, inputs, rows):
    weights = [weight.value for weight in dense_weights(model)]
    with tf.GradientTape() as tape:
        tape.watch(rows)
        logits = model.logits(inputs, rows, training=True)
        loss = tf.reduce_mean(logits**2)
    return logits, tape.gradient(loss, [weights, rows])


def dense_weights(model):
    return [weight for weight in model.network if weight.trainable]


@pytest.mark.parametrize("name", [*FIRST.values(), *OTHER_LAYERS])
def test_saved_and_loaded_scores_are_equal(name, tmp_path):
    model = made(CONFIGS[name])
    inputs = batch(model)
    before = scores(model, inputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(scores(loaded, inputs), before)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.long] if name == "CTR-Sink" else [])
        for name in ("A1", *FIRST.values())
    ],
)
def test_overfits_64_samples(name):
    reads = MODELS[CONFIGS[name].name].reads_texts
    keras.utils.set_random_seed(0)
    model = make(of_one_block(CONFIGS[name]))
    inputs = batch(model, batch=64)
    labels, weights = helpers.make_labels(inputs)
    inputs = {key: tf.constant(value) for key, value in inputs.items()}
    optimizer = Adam(3e-3 if reads else 0.01)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_sum(losses[..., 0] * weights) / tf.reduce_sum(weights)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        return loss

    first = float(step())
    for _ in range(400 if reads else 120):
        loss = float(step())
        if loss < 0.05:
            break
    assert first > 0.5 and loss < 0.05
