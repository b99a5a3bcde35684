"""Items that are read once: what is learned and measured is as if read in each step."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_language_model import BERT, tensors, write_weights
from texts_runs import (
    network,
    run_training,
    texts,
    write_data,
    write_language_model,
)

from ctr_tf import config as configs
from ctr_tf.compare.run import run_cost
from ctr_tf.data.config import DataConfig
from ctr_tf.data.dataset import dataset
from ctr_tf.data.prepared import PreparedData
from ctr_tf.data.text_inputs import ReadItems, TextInputs
from ctr_tf.evaluation.evaluate import evaluate_run
from ctr_tf.layers.feature_embedding import ITEM_VECTORS
from ctr_tf.models import build_ranker
from ctr_tf.models.choose import choose_model
from ctr_tf.models.texts_config import TextsConfig
from ctr_tf.text import item_vectors
from ctr_tf.training.run import load_run, read_config

pytestmark = pytest.mark.long

DIN = {"name": "din", "dim": 8, "num_heads": 2}
SGD = {"dense": "sgd", "learning_rate": 0.05}
STEPS = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("prepared") / "data")


@pytest.fixture
def language_model(tmp_path):
    return write_language_model(tmp_path / "bert")


def other_weights(folder):
    """What a folder of `write_language_model` held is gone."""
    sizes = {"vocab_size": 120, "max_position_embeddings": 40}
    write_weights(folder, tensors({**BERT, **sizes}, seed=1))


def section(name, folder, **keys):
    how = texts(folder, dropout=0.0, match=True, **keys)
    if name == "ctr_sink":
        return {"name": name, **how}
    return {"name": name, "ranker": DIN, "texts": how}


def make(name, folder, data, dtype="float32", **keys):
    model = section(name, folder, **keys)
    return build_ranker(
        configs.parse(choose_model(model), model),
        data.schema,
        data.vocabularies.table_sizes(data.schema),
        dtype,
        texts=data.vocabularies.texts,
    )


def batches(data, found, **options):
    config = DataConfig(batch_size=32, slate_sizes=(6,))
    options = {"num_chunks": 4, "training": False, "texts": found, **options}
    return [inputs for inputs, _, _ in dataset(data, "test", config, **options)]


@pytest.fixture
def in_each_step(monkeypatch):
    """Called, it makes models read items in each step, as those do that learn."""

    def switch():
        monkeypatch.setattr(TextsConfig, "reads_items_once", False)

    return switch


@pytest.mark.parametrize("name", ["ctr_sink", "with_texts"])
@pytest.mark.parametrize("keys", [("nothing", True), ("nothing", False), "upper"])
def test_vectors_score_like_tokens(data, language_model, name, keys):
    tune, split = ("upper", True) if keys == "upper" else keys
    data = PreparedData.load(data)
    keras.utils.set_random_seed(0)
    ranker = make(name, language_model, data, tune=tune, split=split)
    ranker.texts.heads[0].trainable_variables[0].assign_add(
        np.random.default_rng(0).normal(size=(16, 8))
    )
    found = item_vectors.text_inputs({ITEM_VECTORS: ranker}, data.vocabularies)
    by_tokens, by_vectors, by_rows = (
        batches(data, texts)
        for texts in (TextInputs.of_tokens(data.vocabularies.texts), found, None)
    )
    seen = set()
    for tokens, vectors, rows in zip(by_tokens, by_vectors, by_rows, strict=True):
        assert vectors[ITEM_VECTORS].shape == (*rows["candidate_title"].shape, 2, 16)
        np.testing.assert_array_equal(
            vectors["candidate_title"], rows["candidate_title"]
        )
        np.testing.assert_array_equal(
            vectors["behavior_title"], tokens["behavior_title"]
        )
        seen.update(rows["candidate_title"].numpy().ravel())
        expected = ranker(tokens, training=False).numpy()
        np.testing.assert_allclose(
            ranker(vectors, training=False), expected, 1e-5, 1e-5
        )
        assert expected[np.asarray(rows["candidate_mask"])].std() > 1e-3
    assert {0, 1} < seen  # padding, and items that the table lacks


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("mixed_float16", 1e-2), ("mixed_bfloat16", 5e-2)]
)
def test_vectors_are_of_the_compute_dtype(data, language_model, dtype, tolerance):
    data = PreparedData.load(data)
    keras.utils.set_random_seed(0)
    ranker = make("ctr_sink", language_model, data, dtype, tune="upper")
    found = item_vectors.text_inputs({ITEM_VECTORS: ranker}, data.vocabularies)
    (tokens,), (vectors,) = (
        batches(data, texts)
        for texts in (TextInputs.of_tokens(data.vocabularies.texts), found)
    )
    assert vectors[ITEM_VECTORS].dtype == ranker.compute_dtype
    one, other = (
        ranker(inputs, training=False).numpy() for inputs in (tokens, vectors)
    )
    np.testing.assert_allclose(one, other, 0, tolerance)


def test_each_text_is_found_by_its_own_row():
    table = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    rows = {
        "candidate_hat": np.array([[4, 0, 1], [2, 2, 0]]),
        "candidate_shoe": np.array([[3, 1, 1], [0, 4, 0]]),
    }
    items = ReadItems(("hat", "shoe"), table)
    inputs = {key: tf.constant(value) for key, value in rows.items()}
    found = TextInputs({}, {"read": items}).of_rows(inputs)["read"].numpy()
    for b, c in np.ndindex(2, 3):
        for v, key in enumerate(rows):
            np.testing.assert_array_equal(found[b, c, v], table[rows[key][b, c], v])


@pytest.mark.parametrize("keys", [{"tune": "layers"}, {"tune": "upper", "split": 0}])
def test_who_learns_to_read_items_takes_no_vectors(data, language_model, keys):
    data = PreparedData.load(data)
    keys = {**keys, "split": bool(keys.get("split", True)), "inter_sink": 0}
    ranker = make("ctr_sink", language_model, data, **keys)
    found = item_vectors.text_inputs({ITEM_VECTORS: ranker}, data.vocabularies)
    assert not found.vectors and "candidate_title" in found.tokens
    (inputs,) = batches(data, found)
    inputs[ITEM_VECTORS] = tf.zeros((32, 6, 2, 16))
    with pytest.raises(ValueError, match="takes their tokens, no vectors. Received"):
        ranker(inputs)


@pytest.mark.study
@pytest.mark.parametrize(("name", "tune"), [("with_texts", "nothing")])
def test_a_training_is_the_same(
    data, language_model, tmp_path, in_each_step, name, tune
):
    runs = [tmp_path / "once", tmp_path / "each"]
    metrics, evaluations = [], []
    for run in runs:
        model = section(name, language_model, tune=tune)
        metrics.append(run_training(data, run, model, SGD)["validation"])
        evaluations.append(evaluate_run(run, "test"))
        if run is runs[0]:
            costs = [run_cost(load_run(run), 4)["flops"]]
            in_each_step()
    once, each = (network(run, STEPS) for run in runs)
    first = network(runs[0], 2)
    assert any("head" in n and not np.array_equal(first[n], once[n]) for n in once)
    assert once.keys() == each.keys()
    for key, value in once.items():
        np.testing.assert_allclose(value, each[key], 1e-4, 1e-5, err_msg=key)
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-4)
    one, other = evaluations
    for key in ("auc", "log_loss", "gauc_request"):
        assert one[key] == pytest.approx(other[key], abs=1e-4)
    costs.append(run_cost(load_run(runs[1]), 4)["flops"])
    assert costs[0] < costs[1]  # each candidate's texts are read there


@pytest.mark.study
def test_a_resumed_training_reads_by_its_own_weights(data, language_model, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    run_training(data, whole, section("ctr_sink", language_model, tune="upper"))
    shutil.copytree(whole, run)
    (run / "metrics.json").unlink()
    for path in (run / "checkpoints").iterdir():
        if int(path.name.partition("-")[2]) > 4:
            shutil.rmtree(path)
    other_weights(language_model)
    model = configs.to_mapping(read_config(run).model)
    assert run_training(data, run, model)["steps"] == STEPS
    expected, found = (network(folder, STEPS) for folder in (whole, run))
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


@pytest.mark.study
def test_a_start_from_a_run_reads_by_its_weights(
    data, language_model, tmp_path, monkeypatch
):
    model = section("ctr_sink", language_model, tune="upper")
    run_training(data, tmp_path / "run", model, max_steps=2)
    other_weights(language_model)
    data = write_data(tmp_path / "data", 30)  # other vocabularies
    tables, read = [], item_vectors.read_items

    def noted(ranker, texts):
        tables.append(read(ranker, texts))
        return tables[-1]

    monkeypatch.setattr(item_vectors, "read_items", noted)
    folder = str(tmp_path / "run")
    run_training(data, tmp_path / "next", model, max_steps=2, start_from=folder)
    (table,) = tables  # once for training and validation
    known = PreparedData.load(data).vocabularies.known_texts
    for run in ("run", "next"):
        own = read(load_run(tmp_path / run).ranker, known)
        np.testing.assert_array_equal(table, own)
    assert np.ptp(table, axis=0).min() > 1e-3


@pytest.mark.study
def test_student_and_teacher_have_each_their_own(
    data, language_model, tmp_path, in_each_step
):
    teacher = section("ctr_sink", language_model, tune="layers")
    teacher |= {"candidate": ["topic"], "max_behaviors": 4}
    runs = [tmp_path / "once", tmp_path / "each"]
    for run in runs:
        sections = {"distillation": {"teacher": teacher, "warmup_share": 0.0}}
        model = section("ctr_sink", language_model, tune="upper")
        run_training(data, run, model, SGD, sections, max_steps=4)
        in_each_step()
    once, each = (network(run, 4) for run in runs)
    assert any(key.startswith("main_teacher") for key in once)
    for key, value in once.items():
        np.testing.assert_allclose(value, each[key], 1e-4, 1e-5, err_msg=key)
