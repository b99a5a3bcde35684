"""The layout that fuxictr reads, and its DIN in its own environment where there is one.

`CTR_TF_FUXICTR_PYTHON` names the interpreter of that environment.
"""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import make_schema

from benchmarks import fuxictr
from benchmarks.fuxictr_export import UNIT, Exporter
from ctr_tf.config import load
from ctr_tf.data.config import DataConfig
from ctr_tf.data.prepared import PreparedData
from ctr_tf.recipes.find import find_recipe
from ctr_tf.schema import Categorical, Numeric, Schema
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from ctr_tf.training.config import Config

HISTORY = 4  # behaviors that reach a model; samples have up to 8
LENGTHS = (8, 0, 3, 5, 1, 4, 2, 7)


def _schema() -> Schema:
    base = make_schema(history_length=8)
    single = ("genres", "price")  # several values, and one of the numbers below
    declared = [f for f in base.features if not (f.computed or f.name in single)]
    numbers = (
        Numeric("price", "item"),
        Numeric("income", "user"),
        Categorical("last_seen", "user", dtype="int64", vocabulary="item_id"),
    )
    return Schema("toy", (*declared, *numbers), history_length=8, num_chunks=4)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder, schema = tmp_path_factory.mktemp("prepared") / "data", _schema()
    vocabularies = random_vocabularies(schema, 20)
    random = np.random.default_rng(0)
    splits = {
        split: [
            random_sample(schema, vocabularies, random, LENGTHS[i % 8], 2 + i % 3)
            for i in range(count)
        ]
        for split, count in (("train", 48), ("validation", 16), ("test", 16))
    }
    write_prepared(folder, schema, vocabularies, splits, shards=1)
    return folder, schema, splits


@pytest.fixture(scope="module")
def exported(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "layout"
    config = DataConfig(str(prepared[0]), 7, history_lengths=(HISTORY,))
    counts = Exporter(PreparedData.load(prepared[0]), config, 8).write(folder)
    return folder, counts


def _read(folder, name: str) -> dict[str, list]:
    return pq.read_table(folder / f"{name}.parquet").to_pydict()


def _standardized(values, of_training):
    of_training = np.concatenate(of_training).astype(np.float64)
    values = (values - np.nanmean(of_training)) / np.nanstd(of_training)
    return np.nan_to_num(values)  # missing: the mean


def test_rows_are_the_samples_candidates(prepared, exported):
    _, _, splits = prepared
    folder, counts = exported
    items = _read(folder, "item_info")
    assert items["item_index"] == list(range(len(items["item_index"])))
    for split, name in (("train", "train"), ("validation", "valid"), ("test", "test")):
        samples = splits[split]
        expected = [(s, c) for s in samples for c in range(len(s["label"]))]
        rows = _read(folder, name)
        assert counts[split] == len(rows["label"]) == len(expected)
        for row, (sample, candidate) in enumerate(expected):
            assert rows["label"][row] == sample["label"][candidate]
            assert rows["user_last_seen"][row] == sample["user_last_seen"][0]
            assert rows["context_hour"][row] == sample["context_hour"][0] + 2
            position = sample["candidate_position"][candidate]
            assert rows["candidate_position"][row] == position + 2
            tags = sample["user_tags"]
            assert rows["user_tags"][row] == [*tags, *[0] * (3 - len(tags))]
            item = rows["item_index"][row]
            for key in ("candidate_item_id", "candidate_category"):
                assert items[key][item] == sample[key][candidate]
            for key in ("behavior_action", "behavior_hour", "behavior_weekend"):
                assert items[key][item] == 0, "a candidate has no action yet"


def test_histories_are_the_latest_behaviors(prepared, exported):
    _, _, splits = prepared
    folder, _ = exported
    items, histories = _read(folder, "item_info"), _read(folder, "user_info")
    samples = [sample for split in splits.values() for sample in split]
    assert len(histories["full_item_seq"]) == len(samples)
    for history, sample in zip(histories["full_item_seq"], samples, strict=True):
        length = min(len(sample["behavior_time"]), HISTORY)
        assert len(history) == max(length, 1)
        if not length:
            assert history == [0]
            continue
        for column, key in (
            ("candidate_item_id", "behavior_item_id"),
            ("candidate_category", "behavior_category"),
            ("behavior_action", "behavior_action"),
        ):
            found = [items[column][place] for place in history]
            assert found == list(sample[key][-length:]), key
    rows = _read(folder, "train")
    used = [len(histories["full_item_seq"][user]) for user in rows["user_index"]]
    assert rows["seq_len"] == used
    assert all(items[key][0] == 0 for key in items)


def test_numbers_are_standardized_over_the_training_split(prepared, exported):
    _, _, splits = prepared
    folder, _ = exported
    items, rows = _read(folder, "item_info"), _read(folder, "test")
    income = [s["user_income"] for s in splits["train"]]
    price = [s["candidate_price"] for s in splits["train"]]
    row = 0
    for sample in splits["test"]:
        for candidate in range(len(sample["label"])):
            found = rows["user_income"][row] * UNIT
            expected = _standardized(sample["user_income"][0], income)
            assert found == pytest.approx(expected, rel=1e-4, abs=UNIT)
            found = items["candidate_price"][rows["item_index"][row]]
            expected = _standardized(sample["candidate_price"][candidate], price)
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
            row += 1


def test_every_column_is_declared(prepared, exported):
    _, schema, _ = prepared
    folder, _ = exported
    declared = json.loads((folder / "feature_map.json").read_text("utf-8"))
    specs = {k: v for spec in declared["features"] for k, v in spec.items()}
    items, rows = _read(folder, "item_info"), _read(folder, "train")
    of_items = {key for key, spec in specs.items() if spec["source"] == "item"}
    assert of_items == set(items) - {"item_index"}
    assert set(specs) - of_items == set(rows) - {"label"}
    for key, values in (items | rows).items():
        if specs.get(key, {}).get("type") in ("categorical", "sequence"):
            assert np.max(values) < specs[key]["vocab_size"], key
    shared = {
        k: s["share_embedding"] for k, s in specs.items() if "share_embedding" in s
    }
    assert shared == {
        "candidate_item_id": "user_last_seen",
        "behavior_hour": "context_hour",
        "behavior_weekend": "context_weekend",
    }
    inputs = sum(len(features) for features in schema.groups().values())
    assert len(specs) == inputs - len(schema.of("item")) + 3


def test_mistakes_are_told(prepared, tmp_path, monkeypatch):
    monkeypatch.delenv(fuxictr.PYTHON, raising=False)
    words = ["--data", str(prepared[0]), "--output", str(tmp_path / "new")]
    with pytest.raises(ValueError, match="`--python` must be .* Received: None"):
        fuxictr.main(words)
    words += ["--python", sys.executable]
    with pytest.raises(ValueError, match="recipe of a DIN. Received: 'sparsectr'"):
        fuxictr.main([*words, "--config", "sparsectr_synthetic"])
    with pytest.raises(ValueError, match="must be positive. Received: 0"):
        fuxictr.main([*words, "--seeds", "0"])
    with pytest.raises(ValueError, match="must be a new folder"):
        fuxictr.main([*words, "--output", str(tmp_path)])


def test_budget_is_the_same_for_both(tmp_path):
    words = ["data.path=x", "data.history_lengths=[8, 16]", "model.embedding_dim=4"]
    recipe = load(Config, find_recipe("din_synthetic"), words)
    ours = fuxictr.aligned(recipe, tmp_path / "run", 3)
    assert ours.optimizer.schedule == "constant" and not ours.optimizer.warmup_steps
    assert ours.optimizer.table_learning_rate is None
    theirs = fuxictr.peer_settings(ours, 640, None)
    assert ours.model.embedding_dim == theirs["model"]["embedding_dim"] == 4
    assert theirs["model"]["learning_rate"] == ours.optimizer.learning_rate == 2e-3
    assert theirs["history_length"] == 16 and theirs["batch_size"] == 640
    assert theirs["epochs"] == ours.training.epochs == 2
    assert theirs["seed"] == ours.training.seed == 3
    assert theirs["max_gradient_norm"] == 1


def test_beside_the_real_one(prepared, tmp_path):
    python = os.environ.get(fuxictr.PYTHON)
    if not python:
        pytest.skip(f"{fuxictr.PYTHON} names no interpreter that has fuxictr")
    output = tmp_path / "run"
    command = [sys.executable, "-m", "ctr_tf", "bench", "fuxictr", "--json"]
    command += ["--data", str(prepared[0]), "--python", python, "--seeds", "1"]
    command += ["--output", str(output), "data.batch_size=8", "training.epochs=2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    ours, theirs = (report["runs"][name][0] for name in (fuxictr.OURS, fuxictr.THEIRS))
    assert theirs["steps"] == ours["steps"] == 12
    for run in (ours, theirs):
        assert 0 < run["auc"] < 1 and run["candidates_per_second"] > 0
    log = (output / "theirs-0" / "log.txt").read_text("utf-8")
    best = re.findall(r"AUC: (\d\.\d+)", log)
    assert theirs["validation_auc"] == pytest.approx(max(map(float, best)), abs=1e-5)
    assert report["speed_ratios"] == [report["speed_ratio"]]
