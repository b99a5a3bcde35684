"""A run meets data that were prepared anew: the same scores, or a refusal."""

import json

import pytest
from small_run import NO_BASELINE

from ctr_tf.commands.main import main
from ctr_tf.data.prepared import PreparedData
from ctr_tf.schema import ITEM_KEY
from ctr_tf.synthetic.config import START
from ctr_tf.time import DAY

# A run of few steps meets the same in tests/evaluation/test_evaluate_run.py.
pytestmark = [pytest.mark.long, pytest.mark.study]

TRAIN = ("train", "--config", "sparsectr_synthetic")


def run(*words):
    return main([str(word) for word in words])


def prepare(folder, validation_from, *words):
    status = run(
        *("prepare", "--source", "synthetic", "--input", folder / "raw"),
        *("--output", folder / "data", "--num_buckets", 2, "--num_shards", 2),
        *("--validation_from", validation_from, "--test_from", START + 7 * DAY),
        *words,
    )
    assert status == 0
    return PreparedData.load(folder / "data").vocabularies.values(ITEM_KEY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("anew")
    world = ("--users", 150, "--days", 8, "--requests_per_user", 4)
    more = ("--behaviors_per_user", 30)
    assert run("synthesize", "--output", folder / "raw", *world, *more) == 0
    prepare(folder, START + 5 * DAY)
    options = (f"run={folder}/run", f"data.path={folder}/data")
    assert run(*TRAIN, *options, "training.max_steps=10", NO_BASELINE) == 0
    return folder


def metrics(folder, name):
    output = folder / name
    assert run("evaluate", "--run", folder / "run", "--output", output) == 0
    return json.loads((output / "metrics.json").read_text("utf-8"))


def test_a_run_scores_data_prepared_anew_as_before(folder, capsys):
    before = metrics(folder, "before")
    words = PreparedData.load(folder / "data").vocabularies.values(ITEM_KEY)
    again = prepare(folder, START + 6 * DAY, "--overwrite")
    assert again != words
    after = metrics(folder, "after")
    assert after["candidates"] == before["candidates"]
    assert after["auc"] == pytest.approx(before["auc"], abs=1e-9)
    assert after["log_loss"] == pytest.approx(before["log_loss"], abs=1e-6)
    export = ("export", "--run", folder / "run", "--verify", "--samples", 50)
    assert run(*export, "--history_lengths", 128, "--slate_sizes", 10) == 0
    capsys.readouterr()
    options = (f"run={folder}/run", f"data.path={folder}/data")
    assert run(*TRAIN, *options, "training.max_steps=10") == 2
    assert f"Run '{folder}/run'" in capsys.readouterr().err
