"""Trainings of models that read texts: stages, what learns, what a run keeps."""

import json
import logging
import shutil

import matplotlib.image
import numpy as np
import pytest
from small_run import without_behaviors
from texts_runs import (
    SCHEMA,
    network,
    run_training,
    texts,
    write_data,
    write_language_model,
)

from ctr_tf import config as configs
from ctr_tf.commands.main import main
from ctr_tf.data.config import DataConfig
from ctr_tf.data.dataset import dataset, empty_history
from ctr_tf.data.inspect import find_samples
from ctr_tf.data.prepared import PreparedData
from ctr_tf.evaluation.attention import attention_of
from ctr_tf.evaluation.evaluate import evaluate_run
from ctr_tf.evaluation.scorer import Scorer, WithoutHistory
from ctr_tf.layers.feature_embedding import ITEM_VECTORS, PROGRESS
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from ctr_tf.text.item_vectors import text_inputs
from ctr_tf.training.run import load_run, read_config
from ctr_tf.training.trainer import Trainer
from serving.export import ExportOptions, export_ranker

pytestmark = pytest.mark.long

STEPS = 12  # 2 epochs of 6


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("prepared") / "data")


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    return write_language_model(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def trained(data, language_model, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "whole"
    keys = texts(language_model, tune="lora", lora={"rank": 2})
    return run, run_training(data, run, {"name": "ctr_sink", **keys})


def test_stages_begin_anew_where_a_training_goes_on_from_another(
    data, language_model, tmp_path, monkeypatch
):
    fit, begun = Trainer.fit, []

    def seen(self, *args, **kwargs):
        begun.append(float(self._with_progress("main", {})[PROGRESS]))
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "fit", seen)
    model = {"name": "ctr_sink", **texts(language_model)}
    options = {"max_steps": 2, "validate": False}
    run_training(data, tmp_path / "one", model, **options)
    start = {"start_from": str(tmp_path / "one"), "start_slots": True}
    run_training(data, tmp_path / "two", model, **options, **start)
    assert begun == [0.0, 0.0]


@pytest.mark.study
def test_stopped_before_the_stages_switch_and_resumed(trained, data, tmp_path):
    whole, metrics = trained
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    (run / "metrics.json").unlink()
    for path in (run / "checkpoints").iterdir():
        if int(path.name.partition("-")[2]) > 4:  # they switch at 6
            shutil.rmtree(path)
    model = configs.to_mapping(read_config(run).model)
    assert run_training(data, run, model)["steps"] == STEPS == metrics["steps"]
    expected, found = (network(folder, STEPS) for folder in (whole, run))
    assert expected.keys() == found.keys() and len(found) > 50
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("kind", "keys", "theirs"),
    [
        ("ctr_sink", {"tune": "lora", "lora": {"rank": 2}}, "lora_"),
        ("with_texts", {"tune": "layers"}, "layer_"),
    ],
)
def test_a_language_model_learns_at_its_own_rate(
    kind, keys, theirs, data, language_model, tmp_path
):
    keys = texts(language_model, **keys)
    model = {"name": kind, **(keys if kind == "ctr_sink" else {"texts": keys})}
    optimizer = {"learning_rate": 0.01, "language_model_learning_rate": 1e-9}
    run_training(data, tmp_path, model, optimizer)
    first, last = (network(tmp_path, step) for step in (2, STEPS))
    moved = {
        name: np.abs(first[name] - last[name]).max(initial=0.0)
        for name in first
        if not name.startswith("optimizer")
    }
    of_model = {n for n in moved if theirs in n and "language_model" in n}
    assert of_model and max(moved[name] for name in of_model) < 2e-8
    assert any(moved[name] > 0 for name in of_model)
    for part in ("sinks", "inter_sink_0", "gamma", "head_0"):
        assert max(v for name, v in moved.items() if part in name) > 1e-3, part


@pytest.mark.parametrize("tune", ["layers", "all"])
def test_a_token_table_learns_where_all_does(
    tune, data, language_model, tmp_path, caplog
):
    keys = texts(language_model, tune=tune, pretrained=False)
    with caplog.at_level(logging.INFO, "ctr_tf"):
        run_training(data, tmp_path, {"name": "ctr_sink", **keys})
    first, last = (network(tmp_path, step) for step in (2, STEPS))
    (table,) = (
        name
        for name in first
        if "token_embedding" in name and not name.startswith("optimizer")
    )
    assert np.array_equal(first[table], last[table]) == (tune == "layers")
    told = "token table begins at random (`pretrained: false`) and stays so by"
    assert (f"{told} `tune: layers`" in caplog.text) == (tune == "layers")


def test_a_rate_of_no_language_model_is_told(data, tmp_path, caplog):
    rates = {"learning_rate": 0.01, "language_model_learning_rate": 1e-5}
    with caplog.at_level(logging.INFO, "ctr_tf"):
        run_training(data, tmp_path, {"name": "din"}, rates)
    assert "no language model learns here" in caplog.text


def test_sinks_and_factors_learn_and_the_language_model_does_not(trained):
    first, last = (network(trained[0], step) for step in (2, STEPS))
    own = {
        name: not np.array_equal(first[name], last[name])
        for name in first
        if not name.startswith("optimizer")
    }
    changed = {name for name, is_changed in own.items() if is_changed}
    for part in ("sinks", "inter_sink_0", "gamma", "lora_0_query", "head_0"):
        assert any(part in name for name in changed), part
    of_model = {n for n in own if "transformer_layer" in n}
    assert of_model and not changed & of_model


def test_texts_of_the_history_can_be_withheld(trained, tmp_path):
    """What is scored then is what a user without behaviors is given."""
    loaded, random = load_run(trained[0]), np.random.default_rng(5)
    vocabularies = random_vocabularies(SCHEMA, 20)
    samples = [random_sample(SCHEMA, vocabularies, random, 8, 4) for _ in range(12)]
    bare = [without_behaviors(sample, SCHEMA) for sample in samples]
    scored = {}
    for name, of_name in (("whole", samples), ("bare", bare)):
        splits = {"train": [], "test": of_name}
        write_prepared(tmp_path / name, SCHEMA, vocabularies, splits)
        data, config = PreparedData.load(tmp_path / name), DataConfig(batch_size=12)
        reading = {
            "num_chunks": loaded.ranker.num_chunks,
            "texts": text_inputs({ITEM_VECTORS: loaded.ranker}, data.vocabularies),
        }
        (batch,) = dataset(data, "test", config, training=False, **reading)
        scorer = Scorer(loaded.ranker)
        withheld = WithoutHistory(scorer, empty_history(data, config, **reading))
        scored[name] = (scorer(batch[0]), withheld(batch[0]))
    np.testing.assert_allclose(scored["whole"][1], scored["bare"][0], atol=1e-6)
    assert np.abs(scored["whole"][0] - scored["whole"][1]).max() > 1e-4


@pytest.mark.study
@pytest.mark.long
def test_a_run_needs_its_language_model_no_longer(trained, data, tmp_path):
    folder = write_language_model(tmp_path / "gone")
    run = tmp_path / "run"
    model = {"name": "ctr_sink", **texts(folder, tune="layers")}
    run_training(data, run, model, max_steps=2)
    before = evaluate_run(run, "test")
    shutil.rmtree(folder)
    assert evaluate_run(run, "test")["auc"] == before["auc"]
    loaded = load_run(run)
    prepared = PreparedData.load(data).read_as(loaded.schema, loaded.vocabularies)
    # Is published only if it scores like the run.
    options = ExportOptions((8,), (4,), (1,), samples=8)
    assert export_ranker(loaded.ranker, prepared, tmp_path / "export", options).is_dir()


def test_the_share_of_attention_on_sinks_is_logged(trained):
    run, metrics = trained
    assert 0 < metrics["validation"]["attention_on_sinks"] < 1
    written = json.loads((run / "metrics.json").read_text())
    assert "attention_on_sinks" in written["validation"]


@pytest.mark.study
@pytest.mark.long
def test_beside_a_ranker_in_half_precision(data, language_model, tmp_path):
    model = {
        "name": "with_texts",
        "ranker": {"name": "din", "dim": 8, "num_heads": 2},
        "texts": texts(language_model, tune="upper", match=True),
    }
    run = tmp_path / "run"
    metrics = run_training(
        data,
        run,
        model,
        epochs=1,
        precision="mixed_float16",
        row_dropout={"behavior": 0.1},
    )
    assert np.isfinite(metrics["validation"]["loss"])
    first, last = (network(run, step) for step in (2, 6))
    changed = {name for name in first if not np.array_equal(first[name], last[name])}
    assert any("ranker" in name for name in changed)
    assert any("texts" in name for name in changed)


@pytest.mark.study
def test_where_a_language_model_looks_is_told_and_drawn(
    trained, data, language_model, tmp_path, capsys
):
    plain = tmp_path / "plain"
    keys = texts(language_model, sinks=False, inter_sink=0, sink_stage=0.0)
    run_training(data, plain, {"name": "ctr_sink", **keys}, max_steps=1)
    prepared = PreparedData.load(data)
    samples = find_samples(prepared, "test")
    index, sample = next(s for s in samples if len(s[1]["behavior_time"]) == 8)
    runs = [str(trained[0]), str(plain)]
    words = ["--index", str(index), "--output", str(tmp_path / "drawn.png")]
    assert (
        main(["inspect", "--data", str(data), *words, "--attention", ",".join(runs)])
        == 0
    )
    printed = capsys.readouterr().out
    assert "Attention in the texts of user" in printed and "others" in printed
    picture = matplotlib.image.imread(tmp_path / "drawn.png")
    assert picture.shape[0] > 300 and picture.std() > 0.05
    (found,), (without,) = (attention_of(run, prepared, sample) for run in runs)
    titles = prepared.vocabularies.known_texts.tables["title"]
    known = titles[sample["behavior_title"]]
    told = [t for t in known if t.any()]
    for one, sinks in ((found, len(told) - 1), (without, 0)):
        # All the attention of a text is on its tokens.
        np.testing.assert_allclose(one.shares.sum(1), 1, atol=1e-5)
        assert one.shares.shape == (2, 3)
        assert one.tokens == (sinks, (known != 0).sum(), len(told) - 1)
    assert (found.shares[:, 0] > 0).all() and not without.shares[:, 0].any()


@pytest.mark.study
def test_only_readers_of_texts_can_be_looked_into(data, tmp_path, capsys):
    run = tmp_path / "run"
    run_training(data, run, {"name": "din", "dim": 8, "num_heads": 2}, max_steps=1)
    assert main(["inspect", "--data", str(data), "--attention", str(run)]) == 2
    assert "a model that reads texts" in capsys.readouterr().err
    for words, message in (
        (["--output", "a.png"], "`--output` is for the picture of `--attention`"),
        (["--attention", str(run), "--num", "0"], "`--num 0` show none"),
        (["--attention", str(run), "--verify"], "`--verify` and `--num 0` show none"),
    ):
        assert main(["inspect", "--data", str(data), *words]) == 2
        assert message in capsys.readouterr().err
