"""What the history is worth: of models whose answer is known."""

import json

import numpy as np
import pytest
from helpers import make_schema
from keras import ops
from small_run import train_two_steps, without_behaviors

from ctr_tf.commands import main as cli
from ctr_tf.data.config import DataConfig
from ctr_tf.data.dataset import dataset, empty_history
from ctr_tf.data.prepared import PreparedData
from ctr_tf.evaluation import bootstrap, withheld
from ctr_tf.evaluation.bootstrap import draw_users, replicate_log_loss
from ctr_tf.evaluation.evaluate import evaluate_predictions
from ctr_tf.evaluation.metrics import hash_ids
from ctr_tf.evaluation.predictions import predictions
from ctr_tf.evaluation.scorer import Scorer, WithoutHistory
from ctr_tf.evaluation.scores import Scores
from ctr_tf.models.ranker import Ranker
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from ctr_tf.training.run import load_run

SCHEMA = make_schema(history_length=16)
VOCABULARIES = random_vocabularies(SCHEMA, 20)


class Reader(Ranker):
    """Adds up how often a candidate's category is in the history, and its embedding."""

    config_class = SparseCTRConfig

    def __init__(self, reads_history, **kwargs):
        super().__init__(
            SCHEMA, VOCABULARIES.table_sizes(SCHEMA), SparseCTRConfig(), **kwargs
        )
        self.reads_history = reads_history

    def build_parts(self):
        """Nothing to build."""

    def encode(self, user, behaviors, context, training=False):
        return {"category": behaviors["ids"]["category"]}

    def score(self, state, candidates, training=False):
        if not self.reads_history:
            return ops.sum(candidates["embedding"], -1, keepdims=True)
        category = candidates["ids"]["category"]
        same = category[:, :, None] == state["category"][:, None]
        return ops.cast(ops.sum(ops.cast(same, "int32"), -1)[..., None], "float32") - 2


def planted(random):
    """Clicked are the candidates whose category the history has twice at least."""
    sample = random_sample(SCHEMA, VOCABULARIES, random, 16, 6)
    sample["behavior_category"] = random.integers(2, 10, 16)
    sample["candidate_category"] = random.integers(2, 10, 6)
    seen = sample["behavior_category"] == sample["candidate_category"][:, None]
    sample["label"] = (seen.sum(1) >= 2).astype(np.float32)
    return sample


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    random = np.random.default_rng(0)
    samples = [planted(random) for _ in range(150)]
    folder = tmp_path_factory.mktemp("planted") / "data"
    write_prepared(folder, SCHEMA, VOCABULARIES, {"train": [], "test": samples})
    return PreparedData.load(folder)


def scored(data, ranker, config=None):
    config = config or DataConfig(batch_size=32)
    batches = dataset(
        data,
        "test",
        config,
        num_chunks=ranker.num_chunks,
        training=False,
        metadata=True,
    )
    history = empty_history(data, config, num_chunks=ranker.num_chunks)
    scorer = Scorer(ranker)
    return list(predictions(batches, scorer, WithoutHistory(scorer, history)))


def test_a_model_that_reads_no_history_loses_nothing(data, tmp_path):
    config = DataConfig(batch_size=32, history_lengths=(4, 16))
    batches = scored(data, Reader(reads_history=False), config)
    for batch in batches:
        np.testing.assert_array_equal(batch.withheld, batch.probabilities)
    result = evaluate_predictions(batches, tmp_path, name="run")
    assert result["auc"] != 0.5
    for key in ("auc", "gauc_user", "log_loss"):
        assert result["withheld"][key] == result[key]
        ends = result["withheld"]["difference"][key]
        assert ends == {"mean": 0, "low": 0, "high": 0}


def test_where_the_history_decides_nothing_is_left_without(data, tmp_path):
    batches = scored(data, Reader(reads_history=True))
    result = evaluate_predictions(batches, tmp_path, name="run")
    assert result["auc"] == result["gauc_user"] == 1
    assert result["withheld"]["auc"] == result["withheld"]["gauc_user"] == 0.5
    assert result["withheld"]["replicates"] == 1_000
    auc, loss = (result["withheld"]["difference"][key] for key in ("auc", "log_loss"))
    assert auc == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert loss["low"] < loss["mean"] < loss["high"] < 0
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["withheld"] == result["withheld"]
    page = (tmp_path / "report.html").read_text()
    assert "What the history is worth" in page
    cells = ("1.0000", "0.5000", "+0.5000", "+0.5000 to +0.5000")
    assert "".join(f"<td>{cell}</td>" for cell in cells) in page
    plain = [b for b in batches]
    for batch in plain:
        batch.withheld = None
    assert "withheld" not in evaluate_predictions(plain, tmp_path, name="run")
    assert "history is worth" not in (tmp_path / "report.html").read_text()


def test_the_interval_is_that_of_resampled_users(data, tmp_path):
    """Log loss, whose replicates are means of users' rows."""
    batches = scored(data, Reader(reads_history=True))
    result = evaluate_predictions(batches, tmp_path, name="run")
    rows = [
        (hash_ids(b.user_id)[:, None] + np.zeros_like(b.labels, np.uint64), b)
        for b in batches
    ]
    user = np.concatenate([u[b.mask] for u, b in rows])
    label = np.concatenate([b.labels[b.mask] for _, b in rows])
    lost = {}
    for name in ("probabilities", "withheld"):
        score = np.concatenate([getattr(b, name)[b.mask] for _, b in rows])
        lost[name] = -np.log(np.where(label > 0, score, 1 - score))
    gained = lost["probabilities"] - lost["withheld"]
    users = np.unique(user)
    random, means = np.random.default_rng(9), []
    for _ in range(1_000):
        drawn = random.choice(users, len(users))
        means.append(np.concatenate([gained[user == u] for u in drawn]).mean())
    found = result["withheld"]["difference"]["log_loss"]
    assert found["mean"] == pytest.approx(gained.mean(), abs=1e-9)
    spread = np.std(means)
    for end, quantile in (("low", 0.025), ("high", 0.975)):
        expected = np.quantile(means, quantile)
        assert found[end] == pytest.approx(expected, abs=0.4 * spread)


def test_log_loss_of_replicates():
    random = np.random.default_rng(0)
    user = np.sort(random.integers(0, 9, 80)).astype(np.uint64)
    label, score = random.integers(0, 2, 80), random.random(80)
    scores = Scores(user, np.zeros_like(user), label, score)
    draws = draw_users(len(np.unique(user)), 3)
    loss = -np.log(np.where(label > 0, score, 1 - score))
    expected = [loss.mean()]
    place = np.unique(user, return_inverse=True)[1]
    expected += [np.average(loss, weights=weights[place]) for weights in draws]
    found = replicate_log_loss(scores, draws)
    np.testing.assert_allclose(found, expected)


def test_a_large_split_has_no_interval(data, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(bootstrap, "MAX_CANDIDATES", 500)
    with caplog.at_level("INFO"):
        result = evaluate_predictions(
            scored(data, Reader(reads_history=True)), tmp_path, name="run"
        )
    assert "without an interval: the split has 900 candidates" in caplog.text
    assert result["withheld"]["auc"] == 0.5
    ends = result["withheld"]["difference"]["auc"]
    assert ends == {"mean": 0.5, "low": None, "high": None}
    assert withheld.table(result)[1][-1] == "–"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    model = SparseCTRConfig(dim=8, num_heads=2, num_blocks=1, num_chunks=3)
    return train_two_steps(tmp_path_factory.mktemp("run"), SCHEMA, model)


def test_withheld_is_what_users_without_behaviors_are_given(run, tmp_path):
    loaded = load_run(run)
    random = np.random.default_rng(4)
    samples = [planted(random) for _ in range(40)]
    bare = [without_behaviors(sample, SCHEMA) for sample in samples]
    found, expected = [], []
    for name, of_name, scores in (("x", samples, found), ("y", bare, expected)):
        splits = {"train": [], "test": of_name}
        write_prepared(tmp_path / name, SCHEMA, VOCABULARIES, splits)
        scores += scored(PreparedData.load(tmp_path / name), loaded.ranker)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.request_id, other.request_id)
        assert not other.history_length.any()
        np.testing.assert_allclose(one.withheld, other.probabilities, atol=1e-7)
        np.testing.assert_array_equal(other.withheld, other.probabilities)
        assert np.abs(one.withheld - one.probabilities).max() > 1e-4


def test_the_command_tells_it_unless_asked_not_to(run, capsys):
    assert cli.main(["evaluate", "--run", str(run)]) == 0
    shown = capsys.readouterr().out
    metrics = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    row = next(line for line in shown.splitlines() if line.startswith("AUC   "))
    assert f"{metrics['auc']:.4f}" in row
    table = shown[shown.index("history ") :].splitlines()
    assert table[0].split() == "history read withheld difference 95 % interval".split()
    difference = metrics["withheld"]["difference"]["auc"]
    assert table[1].split() == [
        "AUC",
        f"{metrics['auc']:.4f}",
        f"{metrics['withheld']['auc']:.4f}",
        f"{difference['mean']:+.4f}",
        f"{difference['low']:+.4f}",
        "to",
        f"{difference['high']:+.4f}",
    ]
    assert cli.main(["evaluate", "--run", str(run), "--no_withheld"]) == 0
    assert "interval" not in capsys.readouterr().out
    metrics = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    assert "withheld" not in metrics
