"""All stages on an S3 server, each a process of its own, as on this machine."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from s3_server import keys
from small_run import NO_BASELINE

from ctr_tf.commands.main import main
from ctr_tf.data.prepared import PreparedData
from ctr_tf.storage import as_path
from ctr_tf.storage.folders import upload

pytestmark = pytest.mark.long

SETTINGS = (
    *("--config", "sparsectr_synthetic", "data.batch_size=32", "training.epochs=1"),
    *("training.log_every=5", "training.checkpoint_every=5"),
    *("model.dim=8", "model.num_heads=2", "model.num_blocks=1", NO_BASELINE),
)
SECONDS = 600  # that anything may take on a busy machine


def command(*words):
    return [sys.executable, "-m", "ctr_tf", *words]


def run(folder, *words):
    """What a verb prints; it ends with status 0, and leaves nothing where it ran."""
    folder.mkdir()
    done = subprocess.run(
        command(*words), capture_output=True, text=True, cwd=folder, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []
    return done.stdout


@pytest.fixture
def elsewhere(tmp_path):
    """Folders to run in, each another."""
    return (tmp_path / f"ran-in-{number}" for number in range(100))


def run_here(*words):
    """What a verb prints that runs in this process."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(list(map(str, words))) == 0
    return said.getvalue()


def train_and_kill(bucket, words, folder):
    """Begins a training, and kills it after its first checkpoint."""
    folder.mkdir()
    process = subprocess.Popen(
        command("train", *words), stderr=subprocess.DEVNULL, cwd=folder
    )
    deadline = time.monotonic() + SECONDS
    while not any(
        key.startswith("run/checkpoints/step-") and key.endswith("state.json")
        for key in keys(bucket)
    ):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()


def tables(folder):
    """Bytes of the weights of the last step, and of the best."""
    return {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for path in as_path(folder).glob("checkpoints/*/tables.data*")
    }


def test_every_stage(bucket, tmp_path, elsewhere, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    place, raw = f"s3://{bucket}", tmp_path / "raw"
    sizes = "--users=120 --days=8 --requests_per_user=6 --behaviors_per_user=60"
    run_here("synthesize", "--output", raw, *sizes.split())
    upload(raw, as_path(f"{place}/raw"))

    def run_both(verb, *words):
        """What a verb prints of files here, and of those there in its own process."""
        here, there = ([w.format(p) for w in words] for p in (tmp_path, place))
        return run_here(verb, *here), run(next(elsewhere), verb, *there)

    words = ["--source", "synthetic", "--input", "{}/raw"]
    run_both("prepare", *words, "--output", "{}/data")
    here, there = (PreparedData.load(f"{w}/data") for w in (tmp_path, place))
    assert here.manifest.files == there.manifest.files
    shown = run_both("inspect", "--data", "{}/data", "--split", "test")
    one, other = (text.partition("\n")[2] for text in shown)  # the first is the path
    assert one == other and "history" in one

    local = [*SETTINGS, f"run={tmp_path}/run", f"data.path={tmp_path}/data"]
    run_here("train", *local)
    stored = [*SETTINGS, f"run={place}/run", f"data.path={place}/data"]
    train_and_kill(bucket, stored, next(elsewhere))
    run(next(elsewhere), "train", *stored)
    assert tables(tmp_path / "run") == tables(f"{place}/run") != {}

    run_both("evaluate", "--run", "{}/run", "--scores")
    metrics = []
    for where in (tmp_path, place):
        path = as_path(f"{where}/run/evaluation/test/metrics.json")
        metrics.append(json.loads(path.read_text("utf-8")))
        del metrics[-1]["seconds"], metrics[-1]["origin"]  # when, and where
    assert metrics[0] == metrics[1] and metrics[0]["samples"] > 50

    sizes = ["--history_lengths", "128", "--slate_sizes", "10", "--batch_sizes", "1"]
    run_both("export", "--run", "{}/run", *sizes)
    model = ["--export", "{}/run/export"]
    shown = run_both("score", *model, "--example_request", "--json")
    answers = list(map(json.loads, shown))
    words = ["--data", "{}/data", "--output", "{}/scores"]
    run_both("batch-score", *model, *words, "--format", "jsonl")
    assert answers[0] == answers[1] and len(answers[0]["candidates"]) > 10
    assert scores(tmp_path / "scores") == scores(f"{place}/scores") != []

    assert_no_orphans(bucket, there.manifest.folder)


def scores(folder):
    manifest = json.loads((as_path(folder) / "manifest.json").read_text("utf-8"))
    inside = as_path(folder) / manifest["folder"]
    return [(inside / file["path"]).read_bytes() for file in manifest["files"]]


def assert_no_orphans(bucket, data):
    """What the bucket holds is named by what readers go by."""
    found = keys(bucket)
    assert not [key for key in found if key.endswith("/") or "unfinished" in key]
    tops = {key.split("/")[0] for key in found}
    assert tops == {"raw", "data", "run", "scores"}
    assert {key.split("/")[1] for key in found if key.startswith("data/")} == {
        data,
        "manifest.json",
    }
    steps = {k.split("/")[2] for k in found if k.startswith("run/checkpoints/")}
    for step in steps:
        assert f"run/checkpoints/{step}/state.json" in found
    assert len(steps) == 3  # two to go on from, and the best
    assert "run/export/1/saved_model.pb" in found and os.listdir() != ["s3:"]


@pytest.mark.parametrize(
    "words",
    [
        ["train", *SETTINGS, "run=s3://BUCKET/run", "data.path=s3://BUCKET/data"],
        ["evaluate", "--run", "s3://BUCKET/run"],
        ["prepare", "--source", "jsonl", "--input", "raw", "--output", "s3://BUCKET/d"],
        ["score", "--export", "s3://BUCKET/export", "--example_request"],
    ],
)
def test_a_store_that_is_not_there_is_one_line(words, bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    words = [word.replace("BUCKET", bucket) for word in words]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "schema.yaml").touch()
    done = subprocess.run(command(*words), capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    lines = done.stderr.strip().split("\n")
    lines = [line for line in lines if not line.endswith("loading TensorFlow")]
    assert len(lines) == 1 and "cannot be reached at http://127.0.0.1:1" in lines[0]
    assert "AWS_ENDPOINT_URL" in lines[0] and f"s3://{bucket}/" in lines[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]
