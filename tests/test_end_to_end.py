"""The main job, small: every verb on the files that the one before it left."""

import json
import logging
import subprocess
import sys

from ctr_tf.commands.main import main
from ctr_tf.data.prepared import PreparedData


def test_counts_agree_from_raw_log_to_report(world):
    meta = json.loads((world / "raw" / "meta.json").read_text("utf-8"))
    data = PreparedData.load(world / "data")
    samples = sum(data.num_samples(split) for split in data.splits)
    assert samples * 10 == data.manifest.events["exposures"].kept
    evaluation = world / "run" / "evaluation" / "test"
    metrics = json.loads((evaluation / "metrics.json").read_text("utf-8"))
    assert metrics["samples"] == data.num_samples("test") > 0
    assert metrics["candidates"] == 10 * metrics["samples"]
    assert abs(metrics["reachable"]["auc"] - meta["reachable_auc"]) < 0.05
    assert (evaluation / "report.html").stat().st_size > 10_000


def test_score_needs_the_saved_model_alone(world):
    (model,) = (world / "run" / "export").iterdir()
    request = model / "assets.extra" / "example_request.json"
    program = (
        "import sys; sys.modules['keras'] = None;"  # TensorFlow takes it where it can
        "from ctr_tf.commands.main import main; status = main(sys.argv[1:]);"
        "sys.exit(status or any(m.startswith('ctr_tf.models') for m in sys.modules))"
    )
    words = ["score", "--export", str(model), "--request", str(request), "--json"]
    result = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    scores = json.loads(result.stdout)["candidates"]
    assert len(scores) == 50
    probabilities = [score["probability"] for score in scores]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < probabilities[-1] <= probabilities[0] < 1


def test_a_wrong_request_is_refused_before_tensorflow_is_imported(world, tmp_path):
    path = tmp_path / "request.json"
    path.write_text('{"request_time": 1700000000, "candidates": []}', "utf-8")
    program = (
        "import sys; sys.modules['tensorflow'] = None;"
        "from ctr_tf.commands.main import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["score", "--export", str(world / "run" / "export"), "--request", str(path)]
    result = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True
    )
    message = "ctr-tf: error: `candidates` must hold at least one. Received: []\n"
    assert (result.returncode, result.stderr) == (2, message)


def test_verify_holds_many_samples_against_the_export(world, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    words = [
        "export",
        "--run",
        str(world / "run"),
        "--output",
        str(tmp_path / "models"),
    ]
    words += ["--verify", "--samples", "40", "--history_lengths", "128"]
    assert main([*words, "--slate_sizes", "10", "--batch_sizes", "1"]) == 0
    (line,) = (text for text in caplog.messages if "the scores of 40 samples" in text)
    assert float(line.rsplit(" ", 1)[1].rstrip(".")) < 1e-5
    assert (tmp_path / "models" / "1" / "saved_model.pb").is_file()


def test_inspect_shows_a_dated_history_and_the_slate(world, capsys):
    assert main(["inspect", "--data", str(world / "data"), "--split", "test"]) == 0
    text = capsys.readouterr().out
    for word in ("request", "history", "chunk", "category", "click"):
        assert word in text.lower()
