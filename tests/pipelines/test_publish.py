"""A job that is killed or has no room: one clear line, nothing half-published."""

import os
import signal
import subprocess
import sys
import time

import apache_beam as beam
import pytest
from job_helpers import SCHEMA, run_job, write_log
from small_disk import with_small_files

from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError
from ctr_tf.storage import files
from pipelines.output import Output
from pipelines.run import original_error, run_pipeline

START = 1_700_000_000
LOG = {
    "exposures": [
        {"user_id": f"u{i % 7}", "time": START + i, "item_id": i % 11, "click": i % 2}
        | {"like": 0, "request_id": f"r{i // 4}"}
        for i in range(400)
    ]
}


@pytest.fixture
def raw(tmp_path):
    write_log(tmp_path / "raw", LOG, SCHEMA)
    return tmp_path / "raw"


def command(raw, output, *words):
    options = ["--source", "jsonl", "--input", str(raw), "--output", str(output)]
    return [sys.executable, "-m", "ctr_tf", "prepare", *options, *words]


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "raw")


def test_a_full_disk_is_one_line(raw, tmp_path):
    ended = subprocess.run(
        with_small_files(512, command(raw, tmp_path / "data")[1:]),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2, ended.stderr
    last = ended.stderr.strip().split("\n")[-1]
    assert last.startswith("ctr-tf: error: ") and "File too large" in last
    assert "Traceback" not in ended.stderr
    assert names(tmp_path) == []
    run_job(raw, tmp_path / "data")


def test_an_impossible_output_is_one_line(raw, tmp_path):
    (tmp_path / "file").touch()
    ended = subprocess.run(
        command(raw, tmp_path / "file" / "data"), capture_output=True, text=True
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "ctr-tf: error: " in ended.stderr and "file" in ended.stderr


def test_killed_and_run_again(raw, tmp_path):
    process = subprocess.Popen(
        command(raw, tmp_path / "data"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("data.*.unfinished")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "data").exists()
    assert len(names(tmp_path)) == 1
    run_job(raw, tmp_path / "data")
    assert names(tmp_path) == ["data"]
    PreparedData.load(tmp_path / "data").verify()


@pytest.mark.parametrize("published", [False, True])
def test_killed_while_it_replaces_the_output(tmp_path, caplog, published):
    old, path = tmp_path / "data.replaced", tmp_path / "data"
    old.mkdir()
    (old / "old").touch()
    if published:
        path.mkdir()
        (path / "new").touch()
    Output(str(path), overwrite=True)
    assert names(tmp_path) == ["data"]
    assert names(path) == ["new" if published else "old"]
    assert str(old) in caplog.text


def test_a_living_job_keeps_its_folder(tmp_path):
    left = tmp_path / "data.12345678.unfinished"
    left.mkdir()
    with files.held(str(left)):
        Output(str(tmp_path / "data"), overwrite=False)
        assert left.is_dir()
    Output(str(tmp_path / "data"), overwrite=False)
    assert not left.exists()


def test_an_overwrite_replaces_everything(raw, tmp_path):
    run_job(raw, tmp_path / "data")
    (tmp_path / "data" / "other").touch()
    run_job(raw, tmp_path / "data", "--overwrite")
    assert names(tmp_path) == ["data"]
    assert "other" not in names(tmp_path / "data")


def test_what_a_worker_could_not_take_is_told_as_it_was():
    where = " [while running 'Write samples-ptransform-12']"
    text = "Traceback (most recent call last):\n  File x\n"
    full = original_error(f"{text}OSError: [Errno 28] No space left: 'a/b'{where}\n")
    assert type(full) is OSError and str(full) == "[Errno 28] No space left: 'a/b'"
    wrong = original_error(
        f"{text}ctr_tf.errors.UserError: not\nso. Received: 1{where}"
    )
    assert type(wrong) is UserError and str(wrong) == "not\nso. Received: 1"
    unreadable = "ctr_tf.data.reading.UnreadableRecordError: no"
    assert type(original_error(f"{text}{unreadable}{where}")) is UserError
    for bug in ("KeyError: 'x'", "ValueError: math domain error"):
        assert original_error(f"{text}{bug}{where}") is None
    assert original_error("out of luck") is None


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (UserError("No.\nReceived: 1"), UserError, "No.\nReceived: 1"),
        (PermissionError(13, "No way", "x"), OSError, "[Errno 13] No way: 'x'"),
        (KeyError("a bug"), Exception, None),
    ],
)
def test_a_workers_error(error, kind, message, caplog):
    def fail(_):
        raise error

    pipeline = beam.Pipeline(runner="FnApiRunner")
    _ = pipeline | beam.Create([1]) | beam.Map(fail)
    with pytest.raises(kind) as raised:
        run_pipeline(pipeline)
    if message is None:
        assert not isinstance(raised.value, (ValueError, OSError))
        assert "a bug" in caplog.text
    else:
        assert str(raised.value) == message
        assert "Traceback" not in caplog.text
