"""Paths here and in a store: what they name, and what is said of those that fail."""

import time
from pathlib import Path

import pytest
import s3fs

from ctr_tf.errors import UserError
from ctr_tf.storage import as_local, as_path, check_store, files, is_remote
from ctr_tf.storage.folders import reading, writing


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("runs/demo", "runs/demo"),
        ("/data/x", "/data/x"),
        ("file:///data/x", "/data/x"),
        ("a:b/c", "a:b/c"),
        (Path("x"), "x"),
    ],
)
def test_of_this_machine(place, path):
    assert as_path(place) == Path(path) and not is_remote(place)
    assert check_store(place) == Path(path)


@pytest.mark.parametrize("place", ["s3://bucket/key", "s3://bucket/key/"])
def test_of_a_store(place):
    path = as_path(place)
    assert is_remote(path) and str(path) == "s3://bucket/key" and as_path(path) is path
    assert str(path / "a" / "b") == "s3://bucket/key/a/b"
    with pytest.raises(UserError, match="must lie on this machine. Received: s3://b"):
        as_local(place, "`--output`")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("s4://b/k", r"Unknown store 's4'.*Known: gs, hdfs, s3.*In: 's4://b/k'"),
        ("s3:/b/k", "begins with 's3://'. Received: s3:/b/k"),
    ],
)
def test_of_no_store(place, words):
    with pytest.raises(UserError, match=words):
        as_path(place)


def test_a_store_whose_package_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    with pytest.raises(UserError, match=r"package gcsfs: pip install 'ctr-tf\[gs\]'"):
        as_path("gs://bucket/key")


def test_a_store_that_is_there(bucket):
    assert (
        str(check_store(f"s3://{bucket}/nothing/yet")) == f"s3://{bucket}/nothing/yet"
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
            "at http://127.0.0.1:1: .*connect",
        ),
        ({"AWS_ACCESS_KEY_ID": None}, "credentials.*Set the keys AWS_ACCESS_KEY_ID"),
    ],
)
def test_a_store_that_does_not_answer(bucket, monkeypatch, changed, words):
    for name, value in changed.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    started = time.monotonic()
    with pytest.raises(
        UserError, match=f"'s3://{bucket}/x' cannot be reached.*{words}"
    ):
        check_store(f"s3://{bucket}/x")
    assert time.monotonic() - started < 30


def test_no_such_bucket(bucket):
    with pytest.raises(UserError, match="s3://other/x.*there is no bucket 'other'"):
        check_store("s3://other/x")


@pytest.fixture(params=["here", "store"])
def folder(request, tmp_path):
    if request.param == "here":
        return tmp_path / "folder"
    return as_path(f"s3://{request.getfixturevalue('bucket')}/folder")


def test_files_are_written_whole_and_removed(folder):
    files.write_text(folder / "deep" / "a.txt", "ä\n")
    files.write_bytes(folder / "b", memoryview(b"123"))
    assert files.read_text(folder / "deep" / "a.txt") == "ä\n"
    assert sorted(path.name for path in folder.iterdir()) == ["b", "deep"]
    files.move(folder / "deep", folder / "moved")
    assert files.read_text(folder / "moved" / "a.txt") == "ä\n"
    assert not (folder / "deep").exists()
    files.remove(folder / "moved")
    files.remove(folder / "moved")
    assert [path.name for path in folder.iterdir()] == ["b"]


def test_a_folder_is_written_and_read(folder):
    with writing(folder, last=["state"]) as here:
        (here / "sub").mkdir(parents=True)
        (here / "sub" / "x").write_bytes(b"1" * 10)
        (here / "state").write_text("done")
        assert here == folder or not folder.exists()
    with reading(folder) as here:
        assert (here / "sub" / "x").read_bytes() == b"1" * 10
        assert (here / "state").read_text() == "done"
    with reading(folder, "s*e") as here:
        assert (here / "state").exists()
    assert here == folder or not here.exists()


def test_a_file_that_cannot_be_finished_is_not_there(folder):
    with pytest.raises(RuntimeError), files.writing(folder / "x") as file:
        file.write(b"half")
        raise RuntimeError
    assert not (folder / "x").exists()


def test_what_failed_is_not_copied_to_a_store(bucket):
    folder = as_path(f"s3://{bucket}/folder")
    with pytest.raises(RuntimeError), writing(folder) as here:
        (here / "x").write_text("half")
        raise RuntimeError
    assert not folder.exists()
    with pytest.raises(FileNotFoundError, match=r"no file '\*' in 's3://"):
        reading(folder).__enter__()


def test_what_is_named_last_is_copied_last(bucket, monkeypatch):
    copied = []
    monkeypatch.setattr(
        "ctr_tf.storage.folders._copy", lambda path, to: copied.append(path.name)
    )
    with writing(as_path(f"s3://{bucket}/f"), last=["a", "m"]) as here:
        for name in ("a", "m", "z", "k"):
            (here / name).touch()
    assert copied == ["k", "z", "a", "m"]
