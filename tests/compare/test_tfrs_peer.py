"""The peer built with tensorflow-recommenders, in a process of its own."""

import json
import subprocess
import sys

import numpy as np
import pytest
from helpers import make_schema
from sklearn.metrics import roc_auc_score

from ctr_tf.evaluation.scores import load_scores
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)

pytestmark = [pytest.mark.long, pytest.mark.study]


def test_it_trains_from_the_same_records(tmp_path):
    schema = make_schema(history_length=8)
    vocabularies = random_vocabularies(schema, 20)
    random = np.random.default_rng(0)
    samples = [random_sample(schema, vocabularies, random, 6, 4) for _ in range(48)]
    splits = {"train": samples, "validation": [], "test": samples}
    write_prepared(tmp_path / "data", schema, vocabularies, splits)
    command = [sys.executable, "-m", "ctr_tf", "bench", "tfrs", "--json"]
    command += ["--data", str(tmp_path / "data"), "--output", str(tmp_path / "run")]
    command += ["--epochs", "30", "--batch_size", "16", "--learning_rate", "0.01"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert report["steps"] == 90 and report["examples_per_second"] > 0
    assert report["auc"] > 0.9, "it cannot even learn its samples by heart"
    scores = load_scores(tmp_path / "run" / "evaluation" / "test" / "scores.npz")
    assert report["auc"] == pytest.approx(roc_auc_score(scores.label, scores.score))
    features = [f for f in schema.features if f.is_embedded]
    tables = {f.table: vocabularies.table_sizes(schema)[f.table] for f in features}
    assert report["parameters"]["tables"] == 8 * sum(tables.values())
    assert report["parameters"]["network"] > 3 * 50**2  # of the cross layers
    for name in ("metrics.json", "cost.json"):
        assert (tmp_path / "run" / name).is_file()
