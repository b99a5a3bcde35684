"""Variants, recipes, the table from made-up runs, and a comparison from end to end."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import yaml
from helpers import make_schema
from small_run import write_small_data

from benchmarks.tfrs import PeerConfig
from ctr_tf.commands.main import main
from ctr_tf.compare.jobs import (
    Job,
    check_data,
    check_recipe,
    make_jobs,
    read_finished,
)
from ctr_tf.compare.plot import plot_quality_against_cost
from ctr_tf.compare.recipes import resolved
from ctr_tf.compare.results import QUALITY, Row, make_rows
from ctr_tf.compare.table import markdown, write_table
from ctr_tf.compare.tuned import Tuned
from ctr_tf.compare.variants import TFRS, Variant, variants
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError
from ctr_tf.evaluation import bootstrap
from ctr_tf.models import MODELS
from ctr_tf.models.config_checks import without_effect
from ctr_tf.models.sparse_ctr_config import ATTENTIONS, CHUNKINGS, ENCODINGS
from ctr_tf.recipes.find import find_recipe
from ctr_tf.synthetic.random_samples import (
    random_vocabularies,
    write_prepared,
)

BUDGET = "sparsectr_synthetic"


def test_ablations_are_those_of_the_papers():
    rows = variants(["sparsectr", "sdim_gap", "din", "tfrs"], ablations=True)
    found = {row.name: row.overrides for row in rows}
    of_sparse_ctr = {k: v for k, v in found.items() if k.startswith("sparsectr-")}
    assert of_sparse_ctr == {
        "sparsectr-A1": {"attention": "full"},
        "sparsectr-A2": {"branches": ["transition", "local"]},
        "sparsectr-A3": {"branches": ["global", "local"]},
        "sparsectr-A4": {"branches": ["global", "transition"]},
        "sparsectr-B1": {"relations": []},
        "sparsectr-B2": {"relations": ["hour", "weekend"]},
        "sparsectr-B3": {"relations": ["time", "weekend"]},
        "sparsectr-B4": {"relations": ["time", "hour"]},
    }
    assert found["sdim_gap-baseline"] == {"gates": []}
    assert found["sdim_gap-full_context"] == {"fusion_context": "full"}
    assert not any(name.startswith(("din-", "tfrs-")) for name in found)


def test_a_variant_is_named_like_its_row():
    rows = variants(["sparsectr-B1", "din-without_candidate_tower", "bst"])
    assert [row.name for row in rows] == [
        "sparsectr-B1", "din-without_candidate_tower", "bst"
    ]  # fmt: skip
    assert rows[0].overrides == {"relations": []}
    again = variants(["sparsectr", "sparsectr-B1"], ablations=True)
    assert len(again) == len({row.name for row in again}) == 9


def test_variants_at_once_are_one_row():
    rows = variants(["sparsectr-B1+full_attention", "sparsectr"], ablations=True)
    assert rows[0].name == "sparsectr-B1+full_attention"
    assert rows[0].overrides == {"relations": [], "attention": "full"}
    assert {"sparsectr-B1", "sparsectr-A1"} < {row.name for row in rows}
    agreed = variants(["ctr_sink-without_signal+two_stages+stages_and_inter_sink"])[0]
    wanted = {"signal": "none", "sink_stage": 0.5, "inter_sink": 2}
    assert agreed.overrides == wanted


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["ablations", "alternatives"])
def test_variants_are_configs_and_differ_from_the_model(name, kind):
    model = MODELS[name]
    default = model.config_class()
    for keys in getattr(model, kind).values():
        changed = dataclasses.replace(default, **keys)
        assert changed != default and not keys.keys() & without_effect(changed).keys()


def test_alternatives_are_all_that_sparsectr_offers():
    rows = variants(["din", "sparsectr"], ablations=True, alternatives=True)
    names = [row.name for row in rows]
    assert names[:3] == ["din", "sparsectr", "sparsectr-A1"]
    assert "sparsectr-full_attention" not in names, "it is A1"
    assert "sparsectr-rope_encoding" in names and "sparsectr-fixed_chunks" in names
    offered = len(ATTENTIONS) + len(CHUNKINGS) + len(ENCODINGS) - 3
    towers = [row for row in rows if row.suffix == "without_candidate_tower"]
    assert [row.model for row in towers] == ["din", "sparsectr"]
    assert towers[0].overrides == {"candidate_tower": []}
    assert len(rows) == 2 + 8 + offered - 1 + 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models", "dim"], "Unknown model 'dim'. Did you mean"),
        (["--models", "sparsectr-B9"], "Unknown model 'sparsectr-B9'. Did you mean"),
        (["--models", "sparsectr-B1+B9"], "Unknown model 'sparsectr-B9'. Did you mean"),
        (["--models", "sparsectr-B1+"], "Unknown model 'sparsectr-'"),
        (
            ["--models", "ctr_sink-without_sinks+two_stages"],
            "`two_stages` sets `sink_stage` to 0.5, another variant beside it to 0.0",
        ),
        (
            ["--models", "ctr_sink-without_sinks+without_signal"],
            "`without_signal` sets `signal`, which has no effect beside the other",
        ),
        (
            ["--models", "sparsectr-A1+A2"],
            "`A2` sets `branches`, which has no effect beside the other variants",
        ),
        (["--models", "sparsectr-fixed_chunks+A1"], "`fixed_chunks` sets `chunking`"),
        (["--models", "din_gap-baseline+full_context"], "`full_context` sets `fusion"),
        (
            ["--models", "suan-without_fusion+without_dual_alignment"],
            "`without_dual_alignment` sets `dual_alignment`",
        ),
        (["--models", "din,din"], "A model is named twice. Received: din, din"),
        (
            ["--models", "sparsectr-A1,sparsectr-full_attention"],
            "A model is named twice. Received: sparsectr-A1, sparsectr-full_attention",
        ),
        (["--models", "din", "--ablations"], "`--ablations` needs a model that has"),
        (["--base", "din"], "Unknown base 'din'"),
        (["--seeds", "0"], "`--seeds` must be positive. Received: 0"),
        (["--config", "no.yaml"], "no config file at 'no.yaml'"),
        (["dim:model.dim=8"], "Unknown model of an override 'dim'"),
        (["model.dims=8"], "Did you mean 'model.dim'?"),
        (["--models", "tfrs", "model.dim=8"], "`tfrs` has no keys `model"),
    ],
)
def test_what_a_user_sees(data, words, message, tmp_path, capsys):
    options = ["--data", str(data), "--output", str(tmp_path), "--config", BUDGET]
    assert main(["compare", *options, *words]) == 2
    assert message in capsys.readouterr().err


def test_recipes_share_a_budget_and_keep_their_models(tmp_path):
    for name, text in (
        ("sparsectr_shop.yaml", "model: {dim: 16}\ntraining: {epochs: 3}"),
        ("din_shop.yaml", "model: {name: din, dim: 8}\ntraining: {epochs: 9}"),
    ):
        (tmp_path / name).write_text(text)
    rows = variants(["sparsectr", "din", "can", "tfrs"], ablations=True)
    words = ["data.batch_size=7", "sparsectr:model.sparsity=S3", "din:model.dim=24"]
    words.append("sparsectr-B1:optimizer.learning_rate=0.5")
    jobs = make_jobs(rows, 2, tmp_path, tmp_path / "sparsectr_shop.yaml", "DATA", words)
    assert [job.seed for job in jobs] == [0] * len(rows) + [1] * len(rows)
    recipes = {job.name: job.recipe for job in jobs}
    for job in jobs:
        assert job.recipe["data"]["path"] == "DATA"
        assert job.recipe["data"]["batch_size"] == 7
        assert job.recipe["training"]["epochs"] == 3
        assert job.recipe["training"]["seed"] == job.seed
        assert job.recipe["run"] == str(tmp_path / "runs" / job.name)
    assert recipes["din-seed-1"]["model"]["dim"] == 24
    assert recipes["can-seed-0"]["model"]["name"] == "can"
    assert recipes["sparsectr-B1-seed-0"]["model"]["dim"] == 16
    assert recipes["sparsectr-seed-0"]["model"]["transition"] == 3  # of S3
    assert recipes["sparsectr-A1-seed-0"]["model"]["attention"] == "full"
    rate = recipes["sparsectr-B1-seed-0"]["optimizer"]["learning_rate"]
    assert rate == 0.5 != recipes["sparsectr-seed-0"]["optimizer"]["learning_rate"]


def test_the_peer_reads_the_recipe_of_its_run(tmp_path):
    words = ["training.epochs=7", "tfrs:optimizer.learning_rate=0.25"]
    words.append("data.history_lengths=[4, 8]")
    rows = [Variant("din"), Variant("tfrs")]
    jobs = make_jobs(rows, 2, tmp_path, find_recipe(BUDGET), "DATA", words)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(jobs[-1].recipe))
    peer = PeerConfig.from_recipe(str(path))
    assert peer.run == str(tmp_path / "runs" / "tfrs-seed-1")
    assert (peer.epochs, peer.max_steps, peer.seed) == (7, None, 1)
    assert (peer.learning_rate, peer.data.path) == (0.25, "DATA")
    assert peer.data.history_lengths == (4, 8)


def test_runs_of_before_there_were_towers_are_not_gone_on_with(tmp_path):
    (job,) = make_jobs([Variant("din")], 1, tmp_path, find_recipe(BUDGET), "DATA")
    job.recipe_file.parent.mkdir()
    job.recipe_file.write_text(yaml.safe_dump(job.recipe))
    check_recipe(job)
    del job.recipe["model"]["candidate_tower"]
    job.recipe_file.write_text(yaml.safe_dump(job.recipe))
    job.recipe["model"]["candidate_tower"] = [64, 32]
    with pytest.raises(UserError, match=r"differ in model\.candidate_tower \(\[\] and"):
        check_recipe(job)


def finish(job, auc, signal):
    """Leaves the files of a run whose scores are better with a larger signal."""
    evaluation = job.run / "evaluation" / "test"
    evaluation.mkdir(parents=True)
    quality = {"auc": auc, "gauc_user": auc, "ndcg@10": 0.5, "map": 0.4}
    cost = {"parameters": {"network": 10, "tables": 20}, "flops": 3_000_000}
    cost |= {"latency_ms": 2.0 + job.seed, "behaviors": 16, "candidates": 100}
    for path, content in (
        (job.run / "metrics.json", {"examples_per_second": (80, 90, 10)[job.seed]}),
        (job.run / "cost.json", cost),
        (evaluation / "metrics.json", {**quality, "log_loss": 1 - auc}),
    ):
        path.write_text(json.dumps(content))
    random = np.random.default_rng(0)
    user = random.integers(0, 50, 800).astype(np.uint64)
    label = random.integers(0, 2, 800).astype(np.uint8)
    score = 1 / (1 + np.exp(-signal * label - random.normal(size=800)))
    request = np.arange(800, dtype=np.uint64)
    scores = {"user": user, "request": request, "label": label, "score": score}
    np.savez(evaluation / "scores.npz", **scores)


def test_the_table_of_made_up_runs(tmp_path):
    rows = [Variant("din"), Variant("sparsectr", "A1", {"attention": "full"})]
    rows.append(Variant("can"))
    finished = {}
    for variant, aucs, signal in zip(
        rows[:2], ((0.6, 0.61, 0.62), (0.7, 0.71, 0.705)), (0.2, 1.5), strict=True
    ):
        for seed, auc in enumerate(aucs):
            job = Job(variant, seed, tmp_path, {})
            assert read_finished(job.run, "test", 100) is None
            finish(job, auc, signal)
            result = read_finished(job.run, "test", 100)
            finished.setdefault(variant.name, []).append(result)
            assert read_finished(job.run, "test", 50) is None
    base, better, failed = table = make_rows(rows, finished, "din", replicates=200)
    assert better.mean("auc") == pytest.approx(0.705)
    assert better.spread("auc") == pytest.approx(0.005)
    assert better.rela_impr == pytest.approx(0.205 / 0.11 - 1)
    assert better.latency_ms == 3.0 and better.examples_per_second == 80
    assert better.test["auc"]["p_holm"] < 0.05 and base.test == {}
    assert failed.seeds == 0 and failed.mean("auc") is None
    budget = yaml.safe_load("{data: {batch_size: 64}, optimizer: {learning_rate: 0.1}}")
    rates = {"table_learning_rate": 0.3, "language_model_learning_rate": None}
    budget["optimizer"] |= rates
    ends = {"min_steps": 1_500, "max_steps": None, "patience": 7}
    budget["training"] = {"epochs": 1, **ends}
    budget["objective"] = {"log_loss": 1.0, "listwise": 0.1}
    about = {"data": "shop", "split": "test", "base": "din", "budget": budget}
    about |= {"behaviors": 16, "candidates": 100, "exceptions": ["din:model.dim=8"]}
    values = {"optimizer.learning_rate": 0.005, "model.dim": 8}
    about["tuned"] = {
        "din": dataclasses.asdict(Tuned(9, 2, "auc", 4, 0.71, values)),
        "can": dataclasses.asdict(Tuned(3, 3, "auc", None, None, {})),
    }
    write_table(table, about, tmp_path)
    plot_quality_against_cost(table, "din", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
    text = (tmp_path / "table.md").read_text("utf-8")
    assert "| sparsectr-A1 | **0.7050 ± 0.0050** |" in text
    ends = "at least 1,500 steps, until 7 validations bring no new best, batches"
    assert f"every model: epochs: 1, {ends} of 64" in text
    assert "learning rate 0.1, of tables 0.3, except `din:model.dim=8`" in text
    assert (
        "* din, tuned by 9 trials, 2 failed: `optimizer.learning_rate=0.005`, "
        "`model.dim=8` (trial 4; auc 0.7100 on validation)."
    ) in text
    assert "* can, tuned by 3 trials, 3 failed: none came to its end" in text
    assert "| can (failed) | – |" in text and "+86.4 %" in text
    written = json.loads((tmp_path / "table.json").read_text("utf-8"))
    assert written["rows"][1]["quality"]["auc"]["seeds"] == [0.7, 0.71, 0.705]
    with (tmp_path / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert float(lines[1]["auc"]) == pytest.approx(0.705)
    assert [line["model"] for line in lines] == ["din", "sparsectr-A1", "can"]


def test_what_a_test_of_many_users_or_candidates_costs(tmp_path, monkeypatch, caplog):
    rows, finished = [Variant("din"), Variant("bst")], {}
    for variant in rows:
        job = Job(variant, 0, tmp_path, {})
        finish(job, 0.7, 1.0)
        finished[variant.name] = [read_finished(job.run, "test", 100)]
    budget = resolved(Variant("din"), {"model": {}})
    about = {"data": "shop", "split": "test", "base": "din", "budget": budget}
    about |= {"behaviors": 16, "candidates": 100, "exceptions": [], "tuned": {}}

    monkeypatch.setattr(bootstrap, "_DRAWN_CELLS", 50 * 300)  # of 50 users
    table = make_rows(rows, finished, "din")
    assert table[1].test["auc"]["replicates"] == 300
    assert "users and seeds (300 replicates)" in markdown(table, about)

    monkeypatch.setattr(bootstrap, "MAX_CANDIDATES", 799)  # of 800
    with caplog.at_level("INFO"):
        table = make_rows(rows, finished, "din")
    assert "the table comes without p: the split has 800 candidates" in caplog.text
    assert table[1].test == {} and table[1].rela_impr == 0.0
    text = markdown(table, about)
    assert "| bst | 0.7000 |" in text and "| +0.0 % | – |" in text
    assert "din, is there where both have runs, and the split has at most" in text


def test_a_row_of_fewer_seeds_says_so_and_is_not_the_best():
    budget = resolved(Variant("din"), {"model": {}})
    about = {"data": "shop", "split": "test", "base": "din", "budget": budget}
    about |= {"behaviors": 16, "candidates": 100, "exceptions": [], "tuned": {}}
    rows = [
        Row(name, {}, len(aucs), {key: aucs for key in QUALITY}, flops=flops)
        for name, aucs, flops in (
            ("din", [0.6, 0.7, 0.8], 9_000_000),
            ("bst", [0.9], 1_000_000),
            ("can", [], None),
        )
    ]
    text = markdown(rows, about)
    assert "| din | **0.7000 ± 0.1000** |" in text and "| **9.0** |" in text
    assert "| bst (1 of 3 seeds) | 0.9000 |" in text and "| 1.0 |" in text
    assert "| can (failed) | – |" in text
    assert "in bold, of rows with all seeds; the other runs failed." in text
    told = markdown([rows[0], rows[2]], about)
    assert "in bold." in told and "of 3 seeds" not in told


def test_a_peer_has_no_teacher():
    section = {"teacher_run": "runs/teacher"}
    with pytest.raises(UserError, match="`tfrs` has no teacher"):
        resolved(Variant(TFRS), {"model": {}, "distillation": section})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("compared") / "data")


@pytest.mark.study
@pytest.mark.long
def test_a_comparison_and_its_resumption(data, tmp_path, capsys):
    options = ["--data", str(data), "--output", str(tmp_path), "--config", BUDGET]
    options += ["--seeds", "1", "--candidates", "6", "data.batch_size=16"]
    options += ["training.epochs=1", "training.log_every=1"]
    models = ["--models", "din,sdim", "sdim:model.dim=16"]
    assert main(["compare", *options, *models]) == 0
    table = json.loads((tmp_path / "table.json").read_text("utf-8"))
    din, sdim = table["rows"]
    assert (din["name"], sdim["name"]) == ("din", "sdim")
    assert (table["behaviors"], table["candidates"]) == (8, 6)
    run = tmp_path / "runs" / "sdim-seed-0"
    metrics = json.loads((run / "evaluation/test/metrics.json").read_text("utf-8"))
    assert sdim["quality"]["auc"]["mean"] == metrics["auc"]
    assert table["exceptions"] == ["sdim:model.dim=16"]
    relative = (metrics["auc"] - 0.5) / (din["quality"]["auc"]["mean"] - 0.5) - 1
    assert sdim["rela_impr"] == pytest.approx(relative)
    assert 0 < sdim["test"]["auc"]["p_holm"] <= 1
    assert sdim["flops"] > 1_000 and sdim["network"] > 1_000
    assert "| din | " in capsys.readouterr().out

    before = (run / "cost.json").stat().st_mtime_ns
    assert main(["compare", *options, *models, "--base", "sdim"]) == 0
    assert (run / "cost.json").stat().st_mtime_ns == before
    assert main(["compare", *options, *models, "training.epochs=2"]) == 2
    assert "training.epochs (1 and 2)" in capsys.readouterr().err


def test_a_run_that_fails_is_told(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.executable", "false")  # a Python that always fails
    options = ["--data", str(data), "--output", str(tmp_path), "--config", BUDGET]
    finish(Job(Variant("can"), 0, tmp_path, {}), 0.7, 1.0)
    models = ["--models", "din,can", "--base", "can", "--seeds", "1"]
    assert main(["compare", *options, *models]) == 1
    shown = capsys.readouterr().out
    assert "| din (failed) |" in shown and "failed: din-seed-0, see" in shown
    assert main(["compare", *options, "--models", "din", "--seeds", "2"]) == 2
    assert "No run came to its end" in capsys.readouterr().err
    assert (tmp_path / "logs" / "din-seed-0.txt").is_file()
    assert not (tmp_path / "logs" / "din-seed-1.txt").exists()


def test_a_comparison_keeps_to_its_data(data, tmp_path):
    first = PreparedData.load(data)
    check_data(tmp_path / "compared", first)
    check_data(tmp_path / "compared", first)
    schema = make_schema(history_length=8)
    vocabularies = random_vocabularies(schema, 21)
    write_prepared(tmp_path / "data", schema, vocabularies, {"train": []})
    other = PreparedData.load(tmp_path / "data")
    with pytest.raises(ValueError, match="was begun with other data than"):
        check_data(tmp_path / "compared", other)
    (tmp_path / "old" / "recipes").mkdir(parents=True)
    with pytest.raises(ValueError, match="Received: None"):
        check_data(tmp_path / "old", first)
