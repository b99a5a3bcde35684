"""What a plan says is what a training needs."""

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from helpers import make_schema

from ctr_tf.commands import plan as command
from ctr_tf.config import parse
from ctr_tf.errors import UserError
from ctr_tf.synthetic.random_samples import (
    random_sample,
    random_vocabularies,
    write_prepared,
)
from ctr_tf.training import plan as planning
from ctr_tf.training.config import Config
from ctr_tf.training.plan import Measured, Table, alternatives, make_plan, row_bytes

GIB = 2**30
MEASURED = Measured({"item": Table(1_000_001, 8, True)}, 0.01, 0.5)


def config(**sections):
    return parse(Config, {"data": {"batch_size": 64}, **sections})


@pytest.mark.parametrize(
    "optimizer, expected", [("adam", 96), ("adagrad", 64), ("adagrad_row", 36)]
)
def test_bytes_of_a_row_of_eight(optimizer, expected):
    assert row_bytes(optimizer, 8) == expected


def test_each_worker_has_its_share():
    alone = make_plan(MEASURED, config(), 1, 1)
    assert alone.tables == pytest.approx(96 * 1_000_001 / GIB)
    assert (alone.step, alone.program) == (pytest.approx(0.64), 0.5)
    assert alone.total == alone.tables + alone.step + alone.program
    cut = make_plan(MEASURED, config(training={"tables": "sharded"}), 4, 1)
    assert cut.tables == pytest.approx(96 * 250_001 / GIB)
    assert cut.step == pytest.approx(0.16)
    assert make_plan(MEASURED, config(), 4, 2).tables == alone.tables
    with pytest.raises(UserError, match="multiple of the 24 replicas. Received: 64"):
        make_plan(MEASURED, config(), 3, 8)


def test_a_finished_teachers_rows_are_only_read():
    measured = Measured({"teacher/item": Table(GIB, 8, False)}, 0.0, 0.0)
    assert make_plan(measured, config(training={"tables": "sharded"}), 4, 1).total == 32


def test_what_to_set_instead():
    assert list(alternatives(config(), 1)) == [
        ["optimizer.tables=adagrad_row"],
        ["data.batch_size=32"],
        ["optimizer.tables=adagrad_row", "data.batch_size=32"],
    ]
    small = config(optimizer={"tables": "adagrad_row"}, data={"batch_size": 63})
    assert list(alternatives(small, 2)) == [["training.tables=sharded"]]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe whose tables and steps take hundreds of megabytes each."""
    folder = tmp_path_factory.mktemp("plan")
    schema = make_schema(history_length=128)
    vocabularies = random_vocabularies(schema, 200_000)
    random = np.random.default_rng(0)
    samples = [random_sample(schema, vocabularies, random, 128, 8) for _ in range(600)]
    splits = {"train": samples[:500], "validation": samples[500:], "test": []}
    write_prepared(folder / "data", schema, vocabularies, splits, shards=2)
    words = {
        "run": str(folder / "run"),
        "data": {"path": str(folder / "data"), "batch_size": 128},
        "model": {"name": "sparsectr", "dim": 32, "embedding_dim": 32},
        "training": {"max_steps": 4, "log_every": 1},
    }
    words["training"]["validate_every"] = 4
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(words), "utf-8")
    return path


@pytest.mark.study
def test_a_plan_is_what_the_training_needs(recipe):
    """Within 15 %, each in a process of its own; what does not fit is told."""
    command = [sys.executable, "-m", "ctr_tf"]
    words = ["--config", str(recipe)]
    told = subprocess.run(
        [*command, "plan", *words, "--memory", "0.5"], capture_output=True, text=True
    )
    assert told.returncode == 1, told.stderr
    plan, instead = told.stdout.splitlines()[:4], told.stdout.splitlines()[4:]
    needs = {line.split()[0]: float(line.split()[1]) for line in plan}
    assert needs["tables"] > 0.3 and needs["step"] > 0.2
    assert instead[0] == "That does not fit into 0.5 GiB. Instead:"
    assert instead[1].endswith("GiB  too much  optimizer.tables=adagrad_row")
    assert len(instead) == 4
    subprocess.run([*command, "train", *words], check=True)
    metrics = json.loads((recipe.parent / "run" / "metrics.json").read_text())
    print(told.stdout, metrics["memory_gib"])
    assert needs["all"] == pytest.approx(metrics["memory_gib"], rel=0.15)


def test_status_and_alternatives(recipe_without_data, capsys, monkeypatch):
    monkeypatch.setattr(planning, "measure", lambda *_: MEASURED)
    words = ["--config", str(recipe_without_data), "--workers", "4", "--memory"]
    assert command.main([*words, "100"]) == 0
    assert "Instead" not in capsys.readouterr().out
    assert command.main([*words, "0.685"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2:] for line in lines[5:]] == [
        ["fits", "training.tables=sharded"],
        ["too", "much", "optimizer.tables=adagrad_row"],
        ["fits", "data.batch_size=32"],
        ["fits", "training.tables=sharded", "optimizer.tables=adagrad_row",
         "data.batch_size=32"],
    ]  # fmt: skip


@pytest.fixture
def recipe_without_data(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("data: {batch_size: 64}")
    return path
