"""The main job, small: every verb on the files that the one before it left."""

import json
import subprocess
import sys

import pytest

from ctr_tf.cli import main
from ctr_tf.data.prepared import PreparedData


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Raw logs, prepared data, a trained run and an export of a small world."""
    folder = tmp_path_factory.mktemp("world")
    raw, data, run = (str(folder / name) for name in ("raw", "data", "run"))
    sizes = "--users=120 --days=8 --requests_per_user=6 --behaviors_per_user=60"
    recipe = ["--config", "configs/sparsectr_synthetic.yaml"]
    settings = ["data.batch_size=32", "training.epochs=1", "training.log_every=10"]
    for words in (
        ["synthesize", "--output", raw, *sizes.split()],
        ["prepare", "--source", "synthetic", "--input", raw, "--output", data],
        ["train", *recipe, f"run={run}", f"data.path={data}", *settings],
        ["evaluate", "--run", run],
        ["export", "--run", run],
    ):
        assert main(words) == 0
    return folder


def test_counts_agree_from_raw_log_to_report(folder):
    meta = json.loads((folder / "raw" / "meta.json").read_text("utf-8"))
    data = PreparedData.load(folder / "data")
    samples = sum(data.num_samples(split) for split in data.splits)
    assert samples * 10 == data.manifest["events"]["exposures"]["kept"]
    evaluation = folder / "run" / "evaluation" / "test"
    metrics = json.loads((evaluation / "metrics.json").read_text("utf-8"))
    assert metrics["samples"] == data.num_samples("test") > 0
    assert metrics["candidates"] == 10 * metrics["samples"]
    assert abs(metrics["reachable"]["auc"] - meta["reachable_auc"]) < 0.05
    assert (evaluation / "report.html").stat().st_size > 10_000


def test_score_needs_the_saved_model_alone(folder):
    (model,) = (folder / "run" / "export").iterdir()
    request = model / "assets.extra" / "example_request.json"
    program = (
        "import sys; sys.modules['keras'] = None;"  # TensorFlow takes it where it can
        "from ctr_tf.cli import main; status = main(sys.argv[1:]);"
        "sys.exit(status or any(m.startswith('ctr_tf.models') for m in sys.modules))"
    )
    words = ["score", "--model", str(model), "--request", str(request), "--json"]
    result = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    scores = json.loads(result.stdout)["candidates"]
    assert len(scores) == 50
    assert all(0 < score["probability"] < 1 for score in scores)


def test_inspect_shows_a_dated_history_and_the_slate(folder, capsys):
    assert main(["inspect", str(folder / "data"), "--split", "test"]) == 0
    text = capsys.readouterr().out
    for word in ("request", "history", "chunk", "category", "click"):
        assert word in text.lower()
