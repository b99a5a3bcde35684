"""`ctr-tf evaluate` on a run that was really trained, for two steps."""

import json
import shutil

import numpy as np
import pytest
from helpers import make_schema
from small_run import make_splits, reordered, train_two_steps

from ctr_tf.commands import main as cli
from ctr_tf.data.config import DataConfig
from ctr_tf.data.dataset import dataset
from ctr_tf.evaluation.predictions import sigmoid
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
from ctr_tf.synthetic.random_samples import random_vocabularies, write_prepared
from ctr_tf.training.run import load_run
from serving.exported import EXPORT


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    model = SparseCTRConfig(dim=8, num_heads=2, num_blocks=1, num_chunks=4)
    folder = tmp_path_factory.mktemp("evaluated")
    return train_two_steps(folder, make_schema(history_length=16), model)


def test_metrics_are_those_of_the_ranker(run, capsys):
    assert cli.main(["evaluate", "--run", str(run), "--batch_size", "8"]) == 0
    shown = capsys.readouterr().out
    metrics = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    assert metrics["samples"] == 35
    assert metrics["candidates"] == 175
    assert f"{metrics['auc']:.4f}" in shown
    assert "report.html" in shown
    loaded = load_run(run)
    losses, reached = [], []
    config = DataConfig(loaded.config.data.path, batch_size=35)
    (batch,) = dataset(
        loaded.config.data.path,
        "test",
        config,
        num_chunks=loaded.ranker.num_chunks,
        training=False,
        metadata=True,
    )
    inputs, labels, _, metadata = batch
    y = labels.numpy()[..., 0]
    p = sigmoid(loaded.ranker(inputs).numpy()[..., 0])
    truth = metadata["true_probability"].numpy()
    for scores, found in ((p, losses), (truth, reached)):
        found.append(-np.mean(y * np.log(scores) + (1 - y) * np.log(1 - scores)))
    assert metrics["log_loss"] == pytest.approx(losses[0], rel=1e-4)
    assert metrics["reachable"]["log_loss"] == pytest.approx(reached[0], rel=1e-4)


def test_a_run_as_its_own_base(run, tmp_path):
    words = ["evaluate", "--run", str(run), "--output", str(tmp_path / "first")]
    assert cli.main(words) == 0
    words = ["evaluate", "--run", str(run), "--against", str(tmp_path / "first")]
    assert cli.main([*words, "--output", str(tmp_path / "second")]) == 0
    metrics = json.loads((tmp_path / "second" / "metrics.json").read_text())
    assert metrics["rela_impr"]["auc"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run", "nowhere"], "'nowhere' is not the folder of a run"),
        (["--split", "tests"], "Unknown split 'tests'. Did you mean 'test'?"),
        (["--against", "nowhere"], "There is no metrics file of a base at 'nowhere'"),
        (["--batch_size", "0"], "`data.batch_size` must be a positive integer"),
    ],
)
def test_what_a_user_sees(run, words, message, capsys):
    assert cli.main(["evaluate", "--run", str(run), *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.long
def test_data_prepared_anew_are_read_by_the_runs_vocabularies(tmp_path, caplog):
    schema = make_schema(history_length=16)
    model = SparseCTRConfig(dim=8, num_heads=2, num_blocks=1, num_chunks=4)
    run = train_two_steps(tmp_path, schema, model)
    splits, vocabularies = make_splits(schema), random_vocabularies(schema, 20)

    def measured():
        assert cli.main(["evaluate", "--run", str(run)]) == 0
        path = run / "evaluation" / "test" / "metrics.json"
        return json.loads(path.read_text())

    def exported():
        assert cli.main(["export", "--run", str(run), "--verify"]) == 0
        folder = max((run / "export").iterdir()) / "assets.extra"
        return [json.loads((folder / n).read_text()) for n in ("golden.json", EXPORT)]

    before, (golden, export) = measured(), exported()
    shutil.rmtree(tmp_path / "data")
    changed = {}
    for split, samples in splits.items():
        changed[split], others = reordered(samples, schema, vocabularies)
    write_prepared(tmp_path / "data", schema, others, changed)
    with caplog.at_level("INFO"):
        after = measured()
    assert "item_id 1 of 21" in caplog.text
    for key in ("auc", "gauc_user", "log_loss"):
        assert after[key] == pytest.approx(before[key], abs=1e-9)
    golden_after, export_after = exported()
    assert golden_after == golden
    assert export_after["content_hash"] == export["content_hash"]
    recipe = str(run / "config.yaml")
    assert cli.main(["train", "--config", recipe]) == 2


def test_data_of_another_schema_are_refused(tmp_path, run, capsys):
    schema = make_schema(history_length=15)
    path = tmp_path / "data"
    vocabularies = random_vocabularies(schema, 20)
    write_prepared(path, schema, vocabularies, {"train": [], "test": []})
    words = ["export", "--run", str(run), "--data", str(path)]
    assert cli.main(words) == 2
    assert "schema must be that of the model" in capsys.readouterr().err
