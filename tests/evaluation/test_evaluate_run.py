"""`ctr-tf evaluate` on a run that was really trained, for two steps."""

import contextlib
import io
import json
import shutil

import numpy as np
import pytest
from helpers import make_schema
from small_run import make_splits, reordered, train_two_steps

from ctr_tf.commands import main as cli
from ctr_tf.data.config import DataConfig
from ctr_tf.data.dataset import dataset
from ctr_tf.data.prepared import PreparedData
from ctr_tf.evaluation.origin import origin_of_data
from ctr_tf.evaluation.predictions import sigmoid
from ctr_tf.models.sparse_ctr_config import SparseCTRConfig
from ctr_tf.synthetic.random_samples import random_vocabularies, write_prepared
from ctr_tf.training.run import fingerprint, load_run, read_config
from serving.exported import EXPORT


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    model = SparseCTRConfig(dim=8, num_heads=2, num_blocks=1, num_chunks=4)
    folder = tmp_path_factory.mktemp("evaluated")
    return train_two_steps(folder, make_schema(history_length=16), model)


def test_metrics_are_those_of_the_ranker(run, capsys, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)  # where no baselines lie
    assert cli.main(["evaluate", "--run", str(run), "--batch_size", "8"]) == 0
    shown = capsys.readouterr().out
    metrics = json.loads((run / "evaluation" / "test" / "metrics.json").read_text())
    assert metrics["samples"] == 35
    assert metrics["candidates"] == 175
    assert f"{metrics['auc']:.4f}" in shown
    assert "report.html" in shown
    page = (run / "evaluation" / "test" / "report.html").read_text("utf-8")
    data = read_config(run).data.path
    assert f"ctr-tf baselines --data {data} --split test" in page
    assert not {"sliced_by", "importance", "against"} & metrics.keys()
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
    caplog.set_level("INFO")
    told = f"the report in {run / 'evaluation' / 'test'} will be replaced"
    assert told not in caplog.messages
    again = ["evaluate", "--run", str(run), "--no_withheld"]
    assert cli.main(again) == 0 and told in caplog.messages


def test_a_run_as_its_own_base(run, tmp_path):
    words = ["evaluate", "--run", str(run), "--output", str(tmp_path / "first")]
    assert cli.main(words) == 0
    words = ["evaluate", "--run", str(run), "--against", str(tmp_path / "first")]
    assert cli.main([*words, "--output", str(tmp_path / "second")]) == 0
    metrics = json.loads((tmp_path / "second" / "metrics.json").read_text())
    assert metrics["rela_impr"]["auc"] == 0


@pytest.fixture(scope="module")
def everything(run, tmp_path_factory):
    """All that can be asked for, of the run and a copy of it: output, and told."""
    folder = tmp_path_factory.mktemp("everything")
    other, output = folder / "other", folder / "output"
    shutil.copytree(run, other)
    data = PreparedData.load(read_config(run).data.path)
    known = folder / "baselines" / "popularity"
    known.mkdir(parents=True)
    metrics = {
        "name": "popularity, test",
        **{"auc": 0.6125, "gauc_user": None, "gauc_request": 0.5, "log_loss": 0.5},
        "origin": origin_of_data(data, "test"),
    }
    (known / "metrics.json").write_text(json.dumps(metrics))
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        words = ["--run", str(run), "--output", str(output), "--no_withheld"]
        words += ["--slice_by", "category,age", "--importance", "--against"]
        words += [str(other), "--baselines", str(known.parent)]
        words += ["--importance_requests", "20"]
        assert cli.main(["evaluate", *words]) == 0
    return output, json.loads((output / "metrics.json").read_text()), told.getvalue()


def test_the_report_says_what_was_run(run, everything):
    output, metrics, _ = everything
    page = (output / "report.html").read_text("utf-8")
    trained = json.loads((run / "metrics.json").read_text())
    config = read_config(run)
    data = PreparedData.load(config.data.path)
    origin = metrics["origin"]
    assert origin["model"] == "sparsectr" and origin["run"] == str(run)
    assert origin["data"]["hash"] == fingerprint(data)
    assert origin["trained"]["date"] == trained["date"]
    assert origin["trained"]["steps"] == 2
    assert set(trained["versions"]) == {"ctr_tf", "tensorflow", "keras"}
    assert f"test of {config.data.path} ({fingerprint(data)[:12]})" in page
    assert f"keras {trained['versions']['keras']}" in page
    assert "2 steps" in page and "seed 0" in page and "num_heads: 2" in page
    assert page.index("<td>sparsectr</td>") < page.index("requests of")


def test_the_report_has_the_learning_curve_and_the_baselines(run, everything):
    output, metrics, _ = everything
    page = (output / "report.html").read_text("utf-8")
    rows = json.loads((run / "plots" / "learning_curve.json").read_text())
    assert any("validation_auc" in row for row in rows)
    assert page.count("alt='Learning curve") == 2
    assert set(metrics["baselines"]) == {"popularity"}
    assert "<th>popularity, test</th><td>0.6125</td><td>–</td>" in page


def test_slices_importance_and_the_other_run_are_told_and_kept(everything):
    output, metrics, told = everything
    page = (output / "report.html").read_text("utf-8")
    assert set(metrics["sliced_by"]) == {"category", "age"}
    for parts in metrics["sliced_by"].values():
        assert sum(part["samples"] for part in parts) >= 35
    assert sum(part["candidates"] for part in metrics["sliced_by"]["category"]) == 175
    assert metrics["importance"]["requests"] == 20
    names = {group["group"] for group in metrics["importance"]["groups"]}
    assert {"history", "counters", "user features"} < names
    differences = metrics["against"]["metrics"]
    assert {part["difference"] for part in differences.values()} == {0}
    assert differences["auc"]["p"] == 1
    assert metrics["rela_impr"]["auc"] == 0
    for text in ("AUC by category", "AUC by age", "Importance by permutation"):
        assert f"alt='{text}'" in page
    for text in ("20 of 35 requests", "permuted", "this run", "unknown or missing"):
        assert text in told and text in page
    for part in metrics["sliced_by"]["age"]:
        assert f"{part['log_loss']['value']:.4f}" in told


def test_runs_of_other_data_are_not_compared(run, tmp_path, capsys):
    schema = make_schema(history_length=16)
    other, data = tmp_path / "other", tmp_path / "data"
    shutil.copytree(run, other)
    splits = make_splits(schema)
    splits["test"] = splits["test"][:9]
    write_prepared(data, schema, random_vocabularies(schema, 20), splits)
    recipe = (other / "config.yaml").read_text()
    path = read_config(run).data.path
    (other / "config.yaml").write_text(recipe.replace(path, str(data)))
    words = ["evaluate", "--run", str(run), "--against", str(other)]
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert "was trained on others than" in error and "(`--data`)" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--slice_by", "categories"], "Did you mean 'category'?"),
        (["--importance_requests", "0", "--importance"], "at least 1. Received: 0"),
        (["--baselines", "nowhere"], "no report of a baseline in 'nowhere'"),
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
