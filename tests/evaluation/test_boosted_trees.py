import lightgbm
import numpy as np
import pytest
from helpers import make_inputs, make_schema, make_table_sizes

from ctr_tf.data.prepared import PreparedData
from ctr_tf.evaluation import boosted_trees, dense_features
from ctr_tf.evaluation.baseline_data import labeled_batches
from ctr_tf.evaluation.boosted_trees import fit_boosted_trees
from ctr_tf.evaluation.dense_features import FOLDS, DenseFeatures
from ctr_tf.evaluation.metrics import Metrics, hash_ids
from ctr_tf.evaluation.predictions import sigmoid
from ctr_tf.evaluation.stored_rows import StoredRows
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)

SCHEMA = make_schema(history_length=8)
ITEMS = 400  # more than are categories
VOCABULARIES = random_vocabularies(SCHEMA, ITEMS)


def write_data(folder, probability, sizes=(1_200, 400, 600)):
    """A data set whose clicks have a probability by the sample."""
    random = np.random.default_rng(0)
    splits = {}
    for split, size in zip(("train", "validation", "test"), sizes, strict=True):
        splits[split] = []
        for _ in range(size):
            behaviors, candidates = random.integers(0, 9), random.integers(2, 8)
            sample = random_sample(SCHEMA, VOCABULARIES, random, behaviors, candidates)
            chance = np.broadcast_to(probability(sample), candidates)
            sample["label"] = (random.random(candidates) < chance).astype(np.float32)
            sample["true_probability"] = chance.astype(np.float32)
            splits[split].append(sample)
    write_prepared(folder, SCHEMA, VOCABULARIES, splits)
    return PreparedData.load(folder)


def by_item(effect):
    return lambda sample: sigmoid(effect[sample["candidate_item_id"]] - 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    effect = np.random.default_rng(3).normal(size=ITEMS + 2) * 2
    return write_data(tmp_path_factory.mktemp("trees") / "data", by_item(effect))


def auc_of(model, data, truth=False):
    metrics = Metrics()
    for inputs, labels, metadata in labeled_batches(data, "test"):
        ids = (metadata["request_id"], metadata["user_id"])
        scores = metadata["true_probability"] if truth else model(inputs)
        metrics.update(labels, scores, inputs["candidate_mask"], *ids)
    return metrics.result()["auc"]


def test_items_of_a_large_table_are_told_apart(data, tmp_path):
    found = auc_of(fit_boosted_trees(data, tmp_path), data)
    reachable = auc_of(None, data, truth=True)
    assert (found - 0.5) / (reachable - 0.5) > 0.7
    assert not list(tmp_path.iterdir())


def test_a_rows_own_click_has_no_part_in_its_rates(tmp_path):
    noise = write_data(tmp_path / "data", lambda _: 0.3, (1_200, 40, 40))
    sizes = VOCABULARIES.table_sizes(SCHEMA)
    features = DenseFeatures(SCHEMA, sizes, 0.3)
    for inputs, labels, metadata in labeled_batches(noise, "train"):
        fold = boosted_trees._folds(hash_ids(metadata["request_id"]))
        features.count(inputs, labels, fold)
    place = features.names.index("candidate_item_id_rate")
    leaking, honest = Metrics(), Metrics()
    for inputs, labels, metadata in labeled_batches(noise, "train"):
        mask = inputs["candidate_mask"]
        ids = (metadata["request_id"], metadata["user_id"])
        fold = boosted_trees._folds(hash_ids(metadata["request_id"]))
        for metrics, folds in ((leaking, None), (honest, fold)):
            scores = np.zeros(mask.shape)
            scores[mask] = features.rows(inputs, folds)[:, place]
            metrics.update(labels, scores, mask, *ids)
    assert leaking.result()["auc"] > 0.6
    assert honest.result()["auc"] == pytest.approx(0.5, abs=0.05)


def test_two_fits_are_one(data):
    (inputs, *_), *_ = labeled_batches(data, "test")
    one, other = (fit_boosted_trees(data)(inputs) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert one[inputs["candidate_mask"]].std() > 0
    assert not one[~inputs["candidate_mask"]].any()


def test_the_history_has_no_part(data):
    model = fit_boosted_trees(data)
    (inputs, *_), *_ = labeled_batches(data, "test")
    without = {
        key: np.zeros_like(value) if key.startswith("behavior_") else value
        for key, value in inputs.items()
    }
    np.testing.assert_array_equal(model(inputs), model(without))


def test_more_rows_than_are_held_are_drawn(data, monkeypatch, caplog):
    candidates = data.manifest.splits["train"].candidates
    monkeypatch.setattr(boosted_trees, "MAX_ROWS", candidates // 2)
    held = []

    def stored(batches, *arguments):
        held.append(StoredRows(batches, *arguments))
        return held[-1]

    monkeypatch.setattr(boosted_trees, "StoredRows", stored)
    with caplog.at_level("INFO"):
        model = fit_boosted_trees(data)
    assert [len(rows) for rows in held] == [
        pytest.approx(candidates / 2, rel=0.1),
        data.manifest.splits["validation"].candidates,
    ]
    assert "50.0 % of the requests of train, drawn" in caplog.text
    assert auc_of(model, data) > 0.6


def test_rows_are_those_of_a_slow_version(monkeypatch):
    monkeypatch.setattr(dense_features, "CATEGORIES", 20)
    sizes = make_table_sizes(SCHEMA)
    inputs = make_inputs(SCHEMA, batch=40, candidates=4)
    inputs["candidate_price"][0, 0] = np.nan
    random = np.random.default_rng(0)
    mask = inputs["candidate_mask"]
    labels = ((random.random(mask.shape) < 0.3) & mask).astype(np.float32)
    fold = random.integers(0, FOLDS, len(mask))
    features = DenseFeatures(SCHEMA, sizes, 0.25)
    features.count(inputs, labels, fold)
    candidates = list(zip(*np.nonzero(mask), strict=True))

    def rate(key, b, c, own_fold):
        def ids(row, column):
            values = inputs[key][row]
            return np.ravel(values[column] if key.startswith("candidate_") else values)

        rates = []
        for i in (i for i in ids(b, c) if i):
            seen = [
                labels[place]
                for place in candidates
                for j in ids(*place)
                if i == j and not (own_fold and fold[place[0]] == fold[b])
            ]
            rates.append((sum(seen) + 20 * 0.25) / (len(seen) + 20))
        return np.mean(rates) if rates else np.nan

    for own_fold in (True, False):
        rows, categories = [], []
        for b, c in candidates:
            row, categories = [], []
            for group in ("user", "context", "candidate"):
                for feature in SCHEMA.groups()[group]:
                    key = f"{group}_{feature.name}"
                    value = inputs[key][b]
                    value = np.ravel(value[c] if group == "candidate" else value)
                    if feature.length > 1:
                        row.append(np.count_nonzero(value))
                        categories.append(False)
                    is_category = False
                    if not feature.is_embedded:
                        row.append(value[0])
                    elif feature.length == 1 and feature.is_ordered:
                        row.append(value[0] if value[0] > 1 else np.nan)
                    elif feature.length == 1 and sizes[feature.table] <= 20:
                        row.append(value[0])
                        is_category = True
                    else:
                        row.append(rate(key, b, c, own_fold))
                    categories.append(is_category)
            rows.append(row)
        found = features.rows(inputs, fold if own_fold else None)
        np.testing.assert_allclose(found, rows, rtol=1e-6)
        np.testing.assert_array_equal(features.is_category, categories)
    assert found.dtype == np.float32
    assert 0 < sum(categories) < len(categories) == len(features.names)


def test_stored_rows_are_those_of_an_array(tmp_path):
    random = np.random.default_rng(0)
    rows = random.normal(size=(2_000, 5)).astype(np.float32)
    rows[:, 4] = random.integers(0, 9, 2_000)
    labels = (rows[:, 0] + (rows[:, 4] == 3) > 0.3).astype(np.float32)
    parts = zip(np.split(rows, 4), np.split(labels, 4), strict=True)
    stored = StoredRows(parts, 5, tmp_path)
    np.testing.assert_array_equal(stored[3], rows[3])
    np.testing.assert_array_equal(stored[700:1_200], rows[700:1_200])
    options = {"objective": "binary", "deterministic": True, "verbosity": -1}
    options |= {"num_threads": 1, "force_row_wise": True}
    found, expected = (
        lightgbm.train(
            options,
            lightgbm.Dataset(given, labels, categorical_feature=[4], params=options),
            20,
        ).predict(rows)
        for given in (stored, rows)
    )
    np.testing.assert_array_equal(found, expected)


def test_folds_go_by_the_request():
    ids = [b"r%d" % i for i in range(5_000)]
    folds = boosted_trees._folds(hash_ids(ids))
    np.testing.assert_array_equal(folds, boosted_trees._folds(hash_ids(ids)))
    np.testing.assert_allclose(np.bincount(folds), 1_000, rtol=0.12)
