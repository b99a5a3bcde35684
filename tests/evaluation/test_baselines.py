import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from helpers import make_inputs, make_labels, make_schema, make_table_sizes
from scipy import sparse
from sklearn import linear_model

from ctr_tf.commands import baselines as command
from ctr_tf.data.prepared import PreparedData
from ctr_tf.evaluation import baselines, logistic_regression
from ctr_tf.evaluation.linear_baseline import auc_of, sparse_batches
from ctr_tf.evaluation.logistic_regression import BatchStore, LogisticRegression
from ctr_tf.evaluation.popularity import Popularity, fit_popularity
from ctr_tf.evaluation.predictions import sigmoid
from ctr_tf.evaluation.sparse_features import SparseBatch, SparseFeatures
from ctr_tf.evaluation.tower_baseline import RUN
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)

SCHEMA = make_schema(history_length=8)
VOCABULARIES = random_vocabularies(SCHEMA, 20)
CLICK_BIAS = -1.0


def planted(random, item_effect):
    """A sample whose clicks follow its items, and whose counters follow those."""
    behaviors, candidates = random.integers(0, 9), random.integers(2, 8)
    sample = random_sample(SCHEMA, VOCABULARIES, random, behaviors, candidates)
    probability = sigmoid(item_effect[sample["candidate_item_id"]] + CLICK_BIAS)
    shown = random.integers(0, 200, candidates)
    clicked = (random.random(candidates) < probability).astype(np.float32)
    return sample | {
        "candidate_impressions_1d": shown,
        "candidate_clicks_1d": random.binomial(shown, probability),
        "label": clicked,
        "true_probability": probability.astype(np.float32),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    random = np.random.default_rng(0)
    effect = random.normal(size=40)
    splits = {"train": 600, "validation": 200, "test": 300}
    samples = {
        split: [planted(random, effect) for _ in range(size)]
        for split, size in splits.items()
    }
    folder = tmp_path_factory.mktemp("prepared") / "toy"
    write_prepared(folder, SCHEMA, VOCABULARIES, samples)
    return folder


@pytest.fixture(scope="module")
def evaluated(folder, tmp_path_factory):
    """Output folder, metrics by baseline, and what the command printed."""
    output = tmp_path_factory.mktemp("baselines")
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        command.main(["--data", str(folder), "--output", str(output)])
    metrics = {
        name: json.loads((output / name / "metrics.json").read_text())
        for name in baselines.BASELINES
    }
    return output, metrics, shown.getvalue()


@pytest.mark.long
@pytest.mark.study
def test_all_find_what_was_planted(evaluated):
    for name, metrics in evaluated[1].items():
        assert metrics["samples"] == 300
        least = 0.75 if name == "tower" else 0.85  # a network on a few hundred slates
        assert metrics["reachable"]["share"]["auc"] > least
        assert metrics["calibration"]["ratio"] == pytest.approx(1, abs=0.15)


@pytest.mark.long
@pytest.mark.study
def test_reports_are_written_and_the_run_of_the_tower(evaluated):
    output, metrics, _ = evaluated
    assert sorted(p.name for p in output.iterdir()) == sorted([*metrics, RUN])
    for name in metrics:
        assert (output / name / "report.html").is_file()


@pytest.mark.long
@pytest.mark.study
def test_the_command_shows_what_it_found(evaluated):
    _, metrics, shown = evaluated
    assert "gradient-boosted trees" in shown
    for name in metrics:
        assert baselines.shown(name) in shown
        assert f"{metrics[name]['auc']:.4f}" in shown
        assert f"{metrics[name]['log_loss']:.4f}" in shown


def test_shuffled_clicks_teach_nothing(folder, tmp_path):
    random = np.random.default_rng(1)
    data = PreparedData.load(folder)
    features = SparseFeatures(SCHEMA, VOCABULARIES.table_sizes(SCHEMA))

    def shuffled(split):
        for batch in sparse_batches(data, split, features):
            batch.labels = random.permutation(batch.labels)
            yield batch

    model = LogisticRegression(features.is_number, features.num_request_columns)
    train = BatchStore(shuffled("train"), tmp_path)
    model.prepare(train)
    model.fit(train, 1e-2)
    found = auc_of(model, BatchStore(shuffled("test")))
    assert found == pytest.approx(0.5, abs=0.05)


def test_popularity_is_the_smoothed_rate():
    counts = {"clicks": [[0, 3, 9]], "impressions": [[0, 10, 4]]}
    inputs = {
        f"candidate_{name}_1d": np.log1p(np.array(value, np.float32))
        for name, value in counts.items()
    }
    found = Popularity("1d", prior=0.2, prior_impressions=10)(inputs)
    np.testing.assert_allclose(found, [[2 / 10, 5 / 20, 11 / 14]])
    sure = Popularity("1d", prior=0.2, prior_impressions=1)(inputs)
    assert sure.max() == 1


def dense(batch: SparseBatch) -> np.ndarray:
    requests = batch.requests.toarray()[batch.request]
    return np.concatenate([requests, batch.candidates.toarray()], axis=1)


def test_sparse_rows_are_those_of_a_slow_version():
    inputs = make_inputs(SCHEMA, batch=6, candidates=4)
    labels, _ = make_labels(inputs)
    sizes = make_table_sizes(SCHEMA)
    features = SparseFeatures(SCHEMA, sizes)
    batch = features.batch(inputs, labels)
    rows = []
    for b, c in zip(*np.nonzero(inputs["candidate_mask"]), strict=True):
        row = []
        for group, members in SCHEMA.groups().items():
            for feature in members:
                value = inputs[f"{group}_{feature.name}"][b]
                if group == "candidate":
                    value = value[c : c + 1]
                value = value.ravel()
                if feature.is_embedded:
                    ids = [i for i in value if i]
                    columns = np.zeros(sizes[feature.table])
                    for i in ids:
                        columns[i] += 1 / np.sqrt(len(ids))
                    row.extend(columns)
                else:
                    real = inputs["behavior_time"][b] > 0
                    value = value[real] if group == "behavior" else value
                    row.append(value.mean() if len(value) else 0)
        rows.append(row)
    np.testing.assert_allclose(dense(batch), rows, rtol=1e-6)
    np.testing.assert_array_equal(batch.labels, labels[inputs["candidate_mask"]])
    numbers = [
        feature.kind == "numeric"
        for members in SCHEMA.groups().values()
        for feature in members
        for _ in range(sizes[feature.table] if feature.is_embedded else 1)
    ]
    np.testing.assert_array_equal(features.is_number, numbers)


@pytest.mark.parametrize("l2", [1e-1, 1e-3])
def test_the_optimum_is_that_of_scikit_learn(l2, monkeypatch):
    monkeypatch.setattr(logistic_regression, "_TOLERANCE", 1e-13)
    random = np.random.default_rng(0)
    is_number = np.arange(12) % 4 == 3
    truth = random.normal(size=12)
    batches = []
    for _ in range(5):
        requests = sparse.random(30, 7, 0.4, random_state=random, format="csr")
        candidates = sparse.random(90, 5, 0.6, random_state=random, format="csr")
        request = np.sort(random.integers(0, 30, 90))
        batch = SparseBatch(requests, candidates, request, np.zeros(90))
        rows = dense(batch)
        rows[:, is_number] = rows[:, is_number] * 9 + 3
        batch.requests = sparse.csr_matrix(
            requests.toarray() * np.where(is_number[:7], 9, 1)
        )
        batch.candidates = sparse.csr_matrix(rows[:, 7:])
        batch.labels = (random.random(90) < sigmoid(dense(batch) @ truth)) * 1.0
        batches.append(batch)
    model = LogisticRegression(is_number, 7)
    store = BatchStore(batches)
    model.prepare(store)
    model.fit(store, l2)
    rows = np.concatenate([dense(batch) for batch in batches])
    labels = np.concatenate([batch.labels for batch in batches])
    rows[:, is_number] -= rows[:, is_number].mean(0)
    rows[:, is_number] /= rows[:, is_number].std(0)
    expected = linear_model.LogisticRegression(
        C=1 / (l2 * len(rows)), tol=1e-10, max_iter=10_000
    ).fit(rows, labels)
    np.testing.assert_allclose(model.weights, expected.coef_[0], atol=1e-5)
    found = np.concatenate([model.logits(batch) for batch in batches])
    np.testing.assert_allclose(found, expected.decision_function(rows), atol=1e-5)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            {"train": 0.0, "validation": None, "test": None},
            "train .* 0 clicks",
        ),
        ({"train": None, "validation": 0.0, "test": None}, "validation split of"),
        ({"train": None, "validation": None, "test": 0.0}, "test split of .* 0 clicks"),
        ({"train": None, "validation": [], "test": None}, "'validation' .* no samples"),
    ],
)
def test_what_cannot_be_fitted(tmp_path, splits, message):
    random = np.random.default_rng(0)
    samples = {}
    for split, label in splits.items():
        samples[split] = [planted(random, np.zeros(40)) for _ in range(20)]
        if label == []:
            samples[split] = []
        elif label is not None:
            for sample in samples[split]:
                sample["label"][:] = label
    write_prepared(tmp_path / "data", SCHEMA, VOCABULARIES, samples)
    with pytest.raises(ValueError, match=message):
        baselines.evaluate_baselines(tmp_path / "data", "test", tmp_path / "out")


def test_without_counters_there_is_no_popularity(tmp_path):
    data = PreparedData(Path("x"), make_schema(), VOCABULARIES, {})
    object.__setattr__(data.schema, "counter_windows", ())
    with pytest.raises(ValueError, match="Popularity needs counters, and schema 'toy'"):
        fit_popularity(data)
