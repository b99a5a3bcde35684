"""`ctr-tf check` against a server that is right, and against one that is not."""

import json
import shutil

import pytest
from running_server import SECONDS, Server

from ctr_tf.commands import check
from serving.check import Result
from serving.export import ExportOptions, export_ranker
from serving.exported import Exported

pytestmark = pytest.mark.long


def run(capsys, *words):
    status = check.main([*words, "--requests", "5"])
    lines = capsys.readouterr().out.splitlines()
    return status, {(*line.split()[:2], line[15:43].strip()) for line in lines}


NAMES = (
    "status",
    "signatures",
    "one pass",
    "kept state",
    "isolated candidates",
    "golden scores",
    "a wrong request",
    "latency, one pass",
    "latency, kept state",
)


def test_all_is_well(server, models, capsys):
    status, found = run(
        capsys,
        "--target",
        server.grpc,
        "--rest",
        server.rest,
        "--export",
        str(models),
    )
    assert status == 0
    assert found == {("ok", p, name) for p in ("gRPC", "REST") for name in NAMES}


def test_without_the_export_golden_scores_are_skipped(server, capsys):
    status, found = run(capsys, "--target", server.grpc)
    assert status == 0
    assert ("skipped", "gRPC", "golden scores") in found
    assert len(found) == len(NAMES)
    assert all(word in ("ok", "skipped") for word, _, _ in found)


def test_another_models_scores_fail(server, other_version, capsys):
    words = ["--target", server.grpc, "--export", str(other_version)]
    status, found = run(capsys, *words)
    assert status == 1
    assert {name for word, _, name in found if word == "FAILED"} == {"golden scores"}


def test_a_state_that_lost_precision_is_well(ranker, data, tmp_path, capsys):
    """A slate that is too large for one pass is none of one pass."""
    options = ExportOptions(slate_sizes=(4,), batch_sizes=(1,), state_dtype="bfloat16")
    exported = Exported.load(export_ranker(ranker, data, tmp_path, options))
    assert exported.state_tolerance > 100 * exported.tolerance
    server = Server(tmp_path)
    server.start()
    try:
        server.wait()
        status, found = run(capsys, "--target", server.grpc, "--export", str(tmp_path))
    finally:
        server.stop()
    assert found == {("ok", "gRPC", name) for name in NAMES} and status == 0


def test_another_schema_fails(server, models, tmp_path, capsys):
    folder = tmp_path / "1"
    shutil.copytree(models / "1", folder)
    schema = folder / "assets.extra" / "schema.yaml"
    text = schema.read_text("utf-8").replace("name: device", "name: gadget")
    schema.write_text(text, "utf-8")
    status, found = run(capsys, "--target", server.grpc, "--export", str(folder))
    assert status == 1
    assert ("FAILED", "gRPC", "signatures") in found


def test_a_server_that_comes_late_is_waited_for(models, capsys):
    server = Server(models)
    server.start()
    try:
        words = ["--target", server.grpc, "--wait", str(2 * SECONDS)]
        status, found = run(capsys, *words)
    finally:
        server.stop()
    assert status == 0 and ("ok", "gRPC", "status") in found


def test_no_server_fails_at_once(capsys):
    status, found = run(capsys, "--target", "127.0.0.1:9")
    assert status == 1
    assert found == {("FAILED", "gRPC", "status")}
    with pytest.raises(ValueError, match="Give `--target`, `--rest`, or both"):
        check.main([])


def test_a_model_that_is_not_there_fails(server, capsys):
    status, found = run(capsys, "--target", server.grpc, "--name", "other")
    assert status == 1
    assert found == {("FAILED", "gRPC", "status")}


def test_results_are_one_line_each():
    result = Result("REST", "status", False, json.dumps("x"))
    assert str(result).split() == ["FAILED", "REST", "status", '"x"']
