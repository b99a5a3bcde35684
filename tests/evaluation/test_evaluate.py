import json

import numpy as np
import pytest

from ctr_tf.evaluation.evaluate import (
    HISTORY_EDGES,
    HISTORY_NAMES,
    base_file,
    evaluate_predictions,
)
from ctr_tf.evaluation.predictions import Predictions, sigmoid
from ctr_tf.evaluation.report import headline, summary


def batches(noise=0.5, seed=0, number=6, truth=True):
    """Slates whose clicks follow a known probability; scores are it plus noise."""
    rng = np.random.default_rng(seed)
    for batch in range(number):
        rows, width = 128, 10
        logits = rng.normal(-1.5, 1.2, (rows, width))
        true = sigmoid(logits)
        yield Predictions(
            request_id=np.array([b"r%d-%d" % (batch, i) for i in range(rows)]),
            user_id=rng.integers(0, 90, rows),
            request_time=1_700_000_000 + rng.integers(0, 259_200, rows),
            history_length=rng.integers(0, 300, rows),
            labels=(rng.random(true.shape) < true).astype(np.float32),
            probabilities=sigmoid(logits + rng.normal(0, 1, true.shape) * noise),
            mask=np.arange(width) < rng.integers(1, width + 1, rows)[:, None],
            true_probability=true if truth else None,
        )


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    base = evaluate_predictions(batches(noise=3), folder / "base", name="the base")
    result = evaluate_predictions(
        batches(),
        folder / "<run>",
        name="<a run>, test",
        base=folder / "base" / "metrics.json",
    )
    return folder, base, result


def test_metrics_json_holds_the_result(evaluated):
    folder, _, result = evaluated
    assert json.loads((folder / "<run>" / "metrics.json").read_text()) == result


def test_the_page_holds_the_numbers_of_metrics_json(evaluated):
    folder, _, _ = evaluated
    result = json.loads((folder / "<run>" / "metrics.json").read_text())
    page = (folder / "<run>" / "report.html").read_text()
    for key in ("auc", "gauc_user", "gauc_request", "log_loss", "ndcg@5", "map", "mrr"):
        assert f"<td>{result[key]:.4f}</td>" in page
    for label, text in headline(result):
        assert label in page
        assert text in page
    for slicing in ("history_length", "hour"):
        for part in result["slices"][slicing]:
            assert f"<td>{part['auc']:.4f}</td>" in page
    assert "&lt;a run&gt;, test" in page
    assert f"{result['candidates']:,} candidates" in page


def test_the_page_is_one_file(evaluated):
    folder, _, _ = evaluated
    page = (folder / "<run>" / "report.html").read_text()
    assert page.count("src='data:image/png;base64,") == 5
    assert "http" not in page
    assert "src='" not in page.replace("src='data:", "")
    assert (folder / "<run>" / "report.png").read_bytes()[1:4] == b"PNG"
    assert sorted(p.name for p in (folder / "<run>").iterdir()) == [
        "metrics.json",
        "report.html",
        "report.png",
    ]


def test_rela_impr(evaluated):
    _, base, result = evaluated
    for key in ("auc", "gauc_user", "gauc_request"):
        expected = (result[key] - 0.5) / (base[key] - 0.5) - 1
        assert result["rela_impr"][key] == pytest.approx(expected)
    assert result["rela_impr"]["base"] == "the base"
    assert "RelaImpr is relative to the base." in summary(result)


def test_reachable(tmp_path, evaluated):
    _, _, result = evaluated
    truth = evaluate_predictions(batches(noise=0), tmp_path, name="the truth")
    assert result["reachable"]["auc"] == pytest.approx(truth["auc"], abs=1e-12)
    assert result["reachable"]["log_loss"] == pytest.approx(truth["log_loss"])
    share = (result["auc"] - 0.5) / (truth["auc"] - 0.5)
    assert result["reachable"]["share"]["auc"] == pytest.approx(share)
    assert truth["reachable"]["share"]["auc"] == pytest.approx(1)
    unknown = evaluate_predictions(batches(truth=False), tmp_path, name="unknown")
    assert "reachable" not in unknown


def test_slices_are_those_of_the_samples(evaluated):
    _, _, result = evaluated
    data = list(batches())
    lengths = np.concatenate([batch.history_length for batch in data])
    for part in result["slices"]["history_length"]:
        place = HISTORY_NAMES.index(part["group"])
        bounds = (0, *HISTORY_EDGES, 10**9)
        expected = (lengths >= bounds[place]) & (lengths < bounds[place + 1])
        assert part["samples"] == expected.sum()
    assert [p["group"] for p in result["slices"]["history_length"]][:2] == ["0", "1-4"]
    times = np.concatenate([batch.request_time for batch in data])
    assert result["slices"]["hour"][7]["samples"] == (times // 3_600 % 24 == 7).sum()


def test_hours_are_local(tmp_path):
    (batch,) = batches(number=1)
    batch.request_time[:] = 22 * 3_600
    result = evaluate_predictions([batch], tmp_path, name="x", zone=3 * 3_600)
    assert [part["group"] for part in result["slices"]["hour"]] == ["1"]


def test_spilled_to_disk_the_result_is_the_same(tmp_path, evaluated):
    _, _, result = evaluated
    spilled = evaluate_predictions(
        batches(), tmp_path, name="<a run>, test", memory_rows=500
    )
    for key in ("auc", "candidates", "users", "left_out"):
        assert spilled[key] == result[key]
    assert spilled["gauc_user"] == pytest.approx(result["gauc_user"], abs=1e-12)
    assert not list(tmp_path.glob(".evaluation-*"))


def constant(value):
    for batch in batches():
        batch.labels[:] = value
        yield batch


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: [], "There are no samples to evaluate 'run' on. Received: 0"),
        (lambda: constant(0), "cannot be evaluated on no clicks.*Received: 0 clicks"),
        (lambda: constant(1), "cannot be evaluated on nothing but clicks"),
    ],
)
def test_what_cannot_be_evaluated(tmp_path, data, message):
    with pytest.raises(ValueError, match=message):
        evaluate_predictions(data(), tmp_path, name="run")
    assert not (tmp_path / "metrics.json").exists()


def test_a_missing_base(tmp_path):
    with pytest.raises(FileNotFoundError, match="no metrics file of a base at '.*nope"):
        evaluate_predictions(batches(), tmp_path, name="run", base=tmp_path / "nope")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('{"loss": 1}', r"must be a metrics.json .* Received: \['loss'\]"),
        ("[1]", r"must be a metrics.json .* Received: \[1\]"),
        (
            '{"auc": 0.7, "candidates": 10, "clicks": 2}',
            "measured on other samples: this split has .* candidates. Received: 10",
        ),
    ],
)
def test_a_wrong_base(tmp_path, text, message):
    base = tmp_path / "base.json"
    base.write_text(text)
    with pytest.raises(ValueError, match=message):
        evaluate_predictions(batches(), tmp_path / "out", name="run", base=base)


def test_a_base_without_an_edge_has_no_rela_impr(tmp_path, evaluated):
    _, base, _ = evaluated
    path = tmp_path / "base.json"
    path.write_text(json.dumps({**base, "auc": 0.5, "gauc_user": None}))
    result = evaluate_predictions(batches(), tmp_path, name="run", base=path)
    assert sorted(result["rela_impr"]) == ["base", "gauc_request"]


def test_where_a_base_lies(tmp_path):
    run = tmp_path / "run" / "evaluation" / "test"
    run.mkdir(parents=True)
    (run / "metrics.json").write_text("{}")
    assert base_file(tmp_path / "run", "test") == run / "metrics.json"
    assert base_file(run, "test") == run / "metrics.json"
    assert base_file(run / "metrics.json", "test") == run / "metrics.json"


def test_far_logits_keep_their_order():
    logits = np.array([-700.0, -50.0, -1.0, 0.0, 1.0, 30.0], np.float32)
    probabilities = sigmoid(logits)
    assert np.all(np.diff(probabilities) > 0)
    assert np.all(np.isfinite(probabilities))
    np.testing.assert_allclose(probabilities[2:5], 1 / (1 + np.exp(-logits[2:5])))
