"""SUAN and LightSUAN beside the paper's sequence, and what is special about them."""

import dataclasses
import functools

import helpers
import keras
import numpy as np
import pytest
import reference_suan as reference
import tensorflow as tf
from backends import tensor

from ctr_tf.evaluation.flops import graph_flops, request_graph
from ctr_tf.layers.dilated_attention import DilatedAttention
from ctr_tf.layers.dilated_keys import DilatedKeys
from ctr_tf.layers.full_attention import FullAttention
from ctr_tf.layers.full_keys import FullKeys
from ctr_tf.layers.hstu_bias import HSTUBias
from ctr_tf.layers.profile_tokens import ProfileTokens
from ctr_tf.layers.rms_norm import RMSNorm
from ctr_tf.layers.tower import Tower
from ctr_tf.layers.unified_attention_block import UnifiedAttentionBlock
from ctr_tf.models import build_ranker
from ctr_tf.models.light_suan import LightSUANConfig
from ctr_tf.models.suan import SUAN, SUANConfig
from ctr_tf.schema import Numeric

SMALL = {"dim": 16, "num_heads": 2, "head_units": (6, 5), "candidate_tower": ()}
CONFIGS = {
    "suan": SUANConfig(**SMALL),
    "suan of three blocks": SUANConfig(**SMALL, num_blocks=3, ffn_factor=1.5),
    "light": LightSUANConfig(**SMALL, window=3, dilation=4),
    "light, all windows": LightSUANConfig(**SMALL, window=20, dilation=2),
    "light, no window": LightSUANConfig(**SMALL, window=1, dilation=20),
}
for _name, _keys in (SUAN.ablations | SUAN.alternatives).items():
    CONFIGS[f"suan {_name}"] = SUANConfig(**SMALL, **_keys)
    CONFIGS[f"light {_name}"] = LightSUANConfig(**SMALL, window=2, dilation=3, **_keys)
LENGTH = 13


def make(config, roles=(), length=LENGTH):
    """A small model whose weights are all far from their start."""
    keras.utils.set_random_seed(0)
    schema = helpers.make_schema(history_length=length)
    features = (*schema.features, Numeric("balance", "user", length=2))
    features = tuple(f for f in features if f.role not in roles)
    schema = dataclasses.replace(schema, features=features)
    model = build_ranker(config, schema, helpers.make_table_sizes(schema))
    random = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(np.asarray(weight) + 0.3 * random.normal(size=weight.shape))
    for dice in model.head.towers[0].dice:
        dice.mean.assign(random.normal(size=dice.mean.shape))
        dice.variance.assign(0.5 + random.random(size=dice.variance.shape))
    return model


def inputs_of(model, lengths=(LENGTH, 0, 1, 8), **options):
    return helpers.make_inputs(
        model.schema, batch=len(lengths), candidates=3, lengths=lengths, **options
    )


def check_against_reference(model, inputs):
    expected = reference.logits(model, inputs)
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(
        helpers.scores(model, inputs), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_equals_the_sequence_of_each_candidate(config):
    model = make(config)
    check_against_reference(model, inputs_of(model))


@pytest.mark.parametrize("name", ["suan", "light"])
def test_without_a_user_feature_the_profile_says_nothing(name):
    model = make(CONFIGS[name], roles=("user",))
    assert model.profile is None
    assert not any("profile_attention" in w.path for w in model.weights)
    check_against_reference(model, inputs_of(model))


@pytest.mark.parametrize(("name", "history"), [("suan", 6), ("light", 21)])
def test_other_lengths_than_the_schemas(name, history):
    model = make(CONFIGS[name])
    check_against_reference(model, inputs_of(model, (6, 2), history=history))


H, D, E, N, C = 2, 8, 5, 11, 3


@pytest.mark.parametrize("sparsity", [None, (3, 4)])
def test_a_block(sparsity):
    """All rows, the behaviors' too, of one block."""
    random = np.random.default_rng(3)

    def normal(*shape):
        return random.normal(size=shape).astype(np.float32)

    keys, attention = FullKeys(HSTUBias.relations), FullAttention(H, HSTUBias(N), True)
    if sparsity:
        keys = DilatedKeys(*sparsity, HSTUBias.relations)
        attention = DilatedAttention(H, *sparsity, HSTUBias(N), True)
    layer = UnifiedAttentionBlock(attention)
    layer.build((None, None, D), (None, 3, E))
    for weight in layer.weights:
        weight.assign(weight + 0.3 * normal(*weight.shape))
    time = helpers.make_times(random, 3, N, (N, 0, 5))
    request_time = np.full(3, helpers.REQUEST_TIME)
    behaviors, candidates, profile = normal(3, N, D), normal(3, C, D), normal(3, 3, E)
    plan, state = keys(tensor(time), tensor(time > 0))
    relations = keys.relations_to(state, tensor(request_time))
    rows, scored = layer(behaviors, candidates, time > 0, profile, plan, relations)
    for b in range(3):
        valid = time[b] > 0
        mask = reference.full_mask(valid)
        if sparsity:
            mask = reference.light_mask(valid, *sparsity)
        for c in range(C):
            expected = reference.block(
                layer,
                np.concatenate([behaviors[b], candidates[b, c : c + 1]]),
                reference.with_candidate(mask),
                [*time[b], request_time[b]],
                profile[b],
                valid,
            )
            np.testing.assert_allclose(rows[b], expected[:-1], rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(scored[b, c], expected[-1], rtol=1e-3, atol=1e-4)


def test_weights_of_a_block_and_of_the_bias_that_blocks_share():
    dim, row = 16, 8
    config = SUANConfig(dim=dim, embedding_dim=row, num_blocks=3)
    schema = helpers.make_schema(history_length=LENGTH)
    model = build_ranker(config, schema, helpers.make_table_sizes(schema))
    bias = [w for w in model.weights if "attention_bias" in w.path]
    assert [w.shape for w in bias] == [(LENGTH + 1,), (129,)]
    assert all(b.attention.encoding is model.attention_bias for b in model.blocks)
    # Self-attention, cross-attention, alignment, SwiGLU with biases, norms.
    expected = 4 * dim**2 + 2 * dim**2 + 2 * dim * row + 3 * dim**2 // 4
    expected += 9 * dim**2 + 7 * dim + 3 * dim
    for block in model.blocks:
        own = [w for w in block.trainable_weights if "attention_bias" not in w.path]
        assert sum(np.prod(w.shape) for w in own) == expected


@pytest.mark.parametrize("name", ["suan", "light"])
def test_nothing_of_a_candidate_is_in_the_state(name):
    model = make(CONFIGS[name])
    inputs = inputs_of(model)
    other = helpers.make_inputs(model.schema, batch=4, candidates=7, seed=1)
    other = inputs | {k: v for k, v in other.items() if k.startswith("candidate_")}
    assert np.any(other["candidate_item_id"][:, :3] != inputs["candidate_item_id"])
    before, after = helpers.encode(model, inputs), helpers.encode(model, other)
    assert {"blocks/0/gate", "blocks/1/key", "keys/mask"} <= set(before)
    for path, value in before.items():
        np.testing.assert_array_equal(after[path], value, err_msg=path)


@pytest.mark.parametrize("name", ["suan", "light"])
def test_the_gate_is_pooled_over_real_behaviors(name):
    model = make(CONFIGS[name])
    inputs = inputs_of(model)
    state = helpers.encode(model, inputs)
    for block in ("blocks/0/gate", "blocks/1/gate"):
        gate = np.asarray(state[block])
        np.testing.assert_array_equal(gate[1], 0.5)  # no behavior
        # Of a sample whose few hidden units are all off, it is one half as well.
        assert np.abs(gate[[0, 3]] - 0.5).max() > 0.05
    padding = inputs["behavior_time"] == 0
    other = {**inputs, "behavior_item_id": inputs["behavior_item_id"] + 3 * padding}
    for path, value in helpers.encode(model, other).items():
        if path.endswith("gate"):
            np.testing.assert_array_equal(value, state[path])


@pytest.mark.parametrize("kind", ["suan", "light"])
@pytest.mark.parametrize("aligned", [True, False])
def test_only_the_gate_tells_the_past_of_the_future(kind, aligned):
    """So that a state with gates cannot be appended to."""
    model = make(CONFIGS[kind if aligned else f"{kind} without_dual_alignment"])
    inputs = inputs_of(model, (LENGTH, 10))
    other = {**inputs, "behavior_item_id": inputs["behavior_item_id"].copy()}
    other["behavior_item_id"][:, -1] += 1
    before, after = helpers.encode(model, inputs), helpers.encode(model, other)
    for block in (0, 1):
        path = f"blocks/{block}/key"
        change = np.abs(np.asarray(after[path]) - before[path]).max(axis=(0, 2))
        old = change[:-1] if kind == "suan" else change[-3:-1]  # a window of 3
        if kind == "light" and not aligned:
            old = change[-2:-1]  # a window of 2
        assert change[-1] > 1e-4
        if aligned and block == 1:
            assert np.all(old > 1e-5)
        else:
            assert np.all(old < 1e-6)


@pytest.mark.parametrize(
    "name", ["suan", "light", "light, all windows", "suan without_target"]
)
def test_a_state_of_few_behaviors_fits_into_that_of_many(name):
    """Servers pad histories to several sizes, and states on the left to one."""
    model = make(CONFIGS[name])
    inputs = inputs_of(model, (5, 0, 3))
    helpers.assert_short_state_fits(model, inputs)


@pytest.mark.parametrize(("window", "reached"), [(16, 256), (8, 135), (4, 67)])
def test_which_behaviors_reach_a_candidate(window, reached):
    """By attention in two blocks; by the gate's mean, all of them anyway."""
    for aligned, expected in ((False, reached), (True, 256)):
        config = LightSUANConfig(
            **SMALL, window=window, dilation=16, dual_alignment=aligned
        )
        model = make(config, length=256)
        inputs = helpers.make_inputs(model.schema, 1, candidates=1, lengths=[256])
        inputs = {key: tf.constant(value) for key, value in inputs.items()}
        rows = model.lookup(inputs)
        with tf.GradientTape() as tape:
            tape.watch(rows)
            logit = tf.reduce_sum(model.logits(inputs, rows))
        gradient = tape.gradient(logit, rows["behavior_item_id"])
        assert np.count_nonzero(np.any(gradient[0] != 0, axis=-1)) == expected


def graph_of(config, length):
    schema = helpers.make_schema(history_length=length)
    model = build_ranker(config, schema, helpers.make_table_sizes(schema))
    inputs = helpers.make_inputs(schema, batch=1, candidates=5, lengths=[length])
    inputs = {key: tf.constant(value) for key, value in inputs.items()}
    return request_graph(model, inputs).graph


def test_light_suan_has_no_tensor_of_all_pairs():
    length = 701

    def pairs(config):
        return {
            output.name
            for operation in graph_of(config, length).get_operations()
            for output in operation.outputs
            if sum(size >= length for size in output.shape) > 1
        }

    assert not pairs(LightSUANConfig(**SMALL))
    assert pairs(SUANConfig(**SMALL))


def test_flops_of_light_suan_grow_as_its_keys():
    """``N (k + N / r)``: the window's part is linear in N, the rest quadratic."""

    block = {**SMALL, "num_blocks": 1}

    @functools.cache
    def flops(length, window, dilation):
        config = LightSUANConfig(**block, window=window, dilation=dilation)
        return graph_flops(graph_of(config, length))

    def curvature(dilation):
        at = [flops(n, 4, dilation) for n in (128, 256, 384)]
        return at[2] - 2 * at[1] + at[0]

    assert curvature(8) > 0
    assert curvature(8) / curvature(16) == pytest.approx(2, rel=0.1)
    a_key = (flops(256, 8, 16) - flops(256, 4, 16)) / 4
    assert (flops(256, 24, 16) - flops(256, 8, 16)) / 16 == pytest.approx(a_key, 0.01)
    at_double = (flops(512, 8, 16) - flops(512, 4, 16)) / 4
    assert at_double == pytest.approx(2 * a_key, rel=0.01)
    # With k = r = sqrt(N), 8 times for 4 times the history, and all pairs 16 times.
    root = [graph_flops(graph_of(LightSUANConfig(**block), n)) for n in (256, 1024)]
    full = [graph_flops(graph_of(SUANConfig(**block), n)) for n in (256, 1024)]
    assert root[1] / root[0] < 8
    assert full[1] / full[0] > 12


@pytest.mark.parametrize(
    ("length", "expected"), [(1024, (32, 32)), (128, (11, 11)), (9, (4, 4))]
)
def test_the_window_and_dilation_follow_the_schema(length, expected):
    assert LightSUANConfig().sparsity_for(length) == expected
    assert LightSUANConfig(window=2, dilation=7).sparsity_for(length) == (2, 7)


def test_rms_norm_and_its_slope_at_zero():
    layer = RMSNorm()
    layer.build((None, 4))
    layer.scale.assign([1.0, 2.0, -1.0, 0.5])
    rows = np.array([[3, -1, 0, 2], [1e-6, 0, 0, -1e-6], [0, 0, 0, 0]], np.float32)
    expected = reference.rms_norm(layer, rows.astype(np.float64))
    assert np.abs(expected[1]).max() < 0.7  # the epsilon is not inside the root
    np.testing.assert_allclose(layer(rows), expected, rtol=1e-5)
    rows = tf.constant(rows)
    with tf.GradientTape() as tape:
        tape.watch(rows)
        output = tf.reduce_sum(layer(rows) ** 2)
    assert np.all(np.isfinite(tape.gradient(output, rows)))


def test_profile_tokens_are_maps_of_the_features_channels():
    layer = ProfileTokens((2, 1, 3), 4)
    layer.build((None, 6))
    for weight in layer.weights:
        weight.assign(weight + 1)
    user = np.arange(12, dtype=np.float32).reshape(2, 6)
    for row, tokens in zip(user, np.asarray(layer(user)), strict=True):
        np.testing.assert_allclose(
            tokens, reference.profile_tokens(layer, row), rtol=1e-5
        )


def test_a_tower_with_dice_knows_real_candidates_only():
    random = np.random.default_rng(0)
    layer = Tower((4,), activation="dice")
    layer.build((None, None, 3))
    inputs = random.normal(size=(3, 5, 3)).astype(np.float32)
    mask = random.random((3, 5)) < 0.6
    logits = layer(inputs, mask, training=True)
    hidden = inputs @ np.asarray(layer.hidden[0].kernel)
    mean, variance = hidden[mask].mean(axis=0), hidden[mask].var(axis=0)
    np.testing.assert_allclose(layer.dice[0].mean, 0.01 * mean, rtol=1e-3, atol=1e-6)
    share = 1 / (1 + np.exp(-(hidden - mean) / np.sqrt(variance)))
    expected = (share * hidden) @ np.asarray(layer.logit.kernel)
    np.testing.assert_allclose(logits, expected[..., 0], rtol=1e-4, atol=1e-5)
    for row, found in zip(inputs, np.asarray(layer(inputs)), strict=True):
        expected = [reference.tower(layer, one) for one in row]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make_one", "message"),
    [
        (lambda: SUANConfig(ffn_factor=0), "Received: ffn_factor=0"),
        (lambda: SUANConfig(norm="lair"), "Did you mean 'layer'?"),
        (lambda: LightSUANConfig(window=0), "Received: window=0"),
        (lambda: LightSUANConfig(dilation=-1), "Received: dilation=-1"),
        (lambda: UnifiedAttentionBlock(FullAttention(2), 0), "Received: ffn_factor=0"),
        (lambda: UnifiedAttentionBlock(FullAttention(2), norm="x"), "Unknown norm"),
        (lambda: ProfileTokens((), 3), "Received: widths=()"),
        (lambda: ProfileTokens((2, 0), 3), "Received: widths=(2, 0)"),
        (lambda: Tower(activation="dise"), "Did you mean 'dice'?"),
    ],
)
def test_mistakes(make_one, message):
    with pytest.raises(ValueError) as error:
        make_one()
    assert message in str(error.value)
