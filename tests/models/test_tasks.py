"""Models of several tasks, a head each: loss, batches, training, evaluation."""

import dataclasses
import json

import helpers
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss, roc_auc_score
from small_run import train_two_steps

from ctr_tf.commands import main as cli
from ctr_tf.data.batches import BatchReader
from ctr_tf.data.config import DataConfig
from ctr_tf.data.dataset import dataset
from ctr_tf.data.writing import serialize
from ctr_tf.evaluation.predictions import sigmoid
from ctr_tf.models import build_ranker
from ctr_tf.models.gap import GAPConfig
from ctr_tf.models.hstu import HSTUConfig
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
from ctr_tf.models.suan import SUANConfig
from ctr_tf.synthetic.random_samples import random_sample, random_vocabularies
from ctr_tf.training.run import load_run
from serving.signatures import ServingModule

LABELS = ("click", "cart", "purchase")
SCHEMA = dataclasses.replace(helpers.make_schema(), labels=LABELS)
CONFIG = GAPConfig(dim=8, num_heads=2, head_units=(8,), tasks=("purchase",))
SPARSE_CTR = SparseCTRConfig(dim=8, num_heads=2, num_blocks=1, num_chunks=4)


def make(tasks, config=CONFIG):
    config = dataclasses.replace(config, tasks=tasks)
    return build_ranker(config, SCHEMA, helpers.make_table_sizes(SCHEMA))


def test_loss_and_metrics_equal_scikit_learn():
    inputs = helpers.make_inputs(SCHEMA, batch=24)
    click, weights = helpers.make_labels(inputs)
    purchase, _ = helpers.make_labels(inputs, seed=1)
    labels, real = np.concatenate([click, purchase], axis=-1), weights > 0
    ranker = make(("purchase",))
    values = helpers.make_trainer(ranker).evaluate(
        tf.data.Dataset.from_tensors((inputs, labels, weights)),
        verbose=0,
        return_dict=True,
    )
    scores = sigmoid(ranker(inputs))
    assert scores.shape == labels.shape
    losses = [log_loss(labels[real][:, t], scores[real][:, t]) for t in range(2)]
    assert values["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    for t, name in enumerate(("auc", "auc_purchase")):
        auc = roc_auc_score(labels[real][:, t], scores[real][:, t])
        assert values[name] == pytest.approx(auc, abs=0.01)


@pytest.mark.parametrize(
    "config", [CONFIG, SPARSE_CTR, HSTUConfig(dim=8), SUANConfig(dim=8)]
)
def test_a_further_head_leaves_the_first_alone(config):
    one, two = make((), config), make(("cart", "purchase"), config)
    weights = helpers.weights_by_path(two)
    for path, weight in helpers.weights_by_path(one).items():
        weight.assign(weights[path])
    inputs = helpers.make_inputs(SCHEMA)
    logits = np.asarray(two(inputs))
    assert logits.shape == (4, 5, 3)
    np.testing.assert_allclose(one(inputs), logits[..., :1], atol=1e-6)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train_two_steps(tmp_path_factory.mktemp("tasks"), SCHEMA, CONFIG)


def test_each_task_is_trained_and_evaluated(run):
    loaded = load_run(run)
    assert loaded.ranker.tasks == ("purchase",)
    validation = json.loads((run / "metrics.json").read_text())["validation"]
    assert {"auc", "auc_purchase"} <= validation.keys()
    (batch,) = dataset(
        loaded.config.data.path,
        "test",
        DataConfig(batch_size=35),
        num_chunks=loaded.ranker.num_chunks,
        training=False,
        tasks=("purchase",),
    )
    inputs, labels, _ = batch
    scores = sigmoid(loaded.ranker(inputs))
    folder = run / "evaluation" / "test"
    for t, (words, path) in enumerate(
        [([], folder), (["--task", "purchase"], folder / "purchase")]
    ):
        assert cli.main(["evaluate", "--run", str(run), *words]) == 0
        metrics = json.loads((path / "metrics.json").read_text())
        label, score = labels[..., t].numpy().ravel(), scores[..., t].ravel()
        assert metrics["clicks"] == label.sum()
        assert metrics["log_loss"] == pytest.approx(log_loss(label, score), rel=1e-4)
        # Only of clicks do the data know the true probability.
        assert ("reachable" in metrics) == (t == 0)


@pytest.mark.parametrize(
    "config", [CONFIG, dataclasses.replace(SPARSE_CTR, tasks=("purchase",))]
)
def test_an_export_scores_each_task(config, tmp_path):
    vocabularies = random_vocabularies(SCHEMA, 20)
    vocabularies.save(tmp_path)
    ranker = build_ranker(config, SCHEMA, vocabularies.table_sizes(SCHEMA))
    random = np.random.default_rng(0)
    examples = tf.constant(
        [serialize(random_sample(SCHEMA, vocabularies, random, n, 5)) for n in (0, 16)]
    )
    reader = BatchReader(SCHEMA, ranker.num_chunks, 16, with_labels=False)
    logits = np.asarray(ranker(*reader.read(examples)))
    outputs = ServingModule(ranker, tmp_path, (16,), (5,)).score_examples(
        examples=examples
    )
    for t, suffix in enumerate(("", "_purchase")):
        found = [outputs.pop(f"{name}{suffix}") for name in ("logit", "probability")]
        np.testing.assert_allclose(found[0], logits[..., t], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found[1], sigmoid(logits[..., t]), atol=1e-5)
    assert not outputs


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "--task", "cart"], "Unknown task 'cart'. Known: purchase."),
        (["train", "model.tasks=[buy]"], "Unknown label in `tasks` 'buy'."),
        (["train", "model.tasks=[cart,cart]"], "`tasks` must differ."),
        (["train", "data.label=purchase"], "`data.label`, the first one of the schema"),
    ],
)
def test_mistakes(run, words, message, tmp_path, capsys):
    verb, *rest = words
    if verb == "train":
        options = ["--config", str(run / "config.yaml"), f"run={tmp_path / 'run'}"]
    else:
        options = ["--run", str(run)]
    assert cli.main([verb, *options, *rest]) == 2
    assert message in capsys.readouterr().err
