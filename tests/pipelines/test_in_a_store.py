"""A job that writes to a store: as on this machine, and never a mixture."""

import shutil

import pytest
from job_helpers import SCHEMA, run_job, write_log
from s3_server import keys

from ctr_tf.data.manifest import Document
from ctr_tf.data.prepared import PreparedData
from ctr_tf.errors import UserError
from ctr_tf.storage import as_path
from pipelines.output import Output

START = 1_700_000_000


def log(extra=0):
    return {
        "exposures": [
            {"user_id": f"u{i % 7}", "time": START + i, "item_id": i % 11}
            | {"click": i % 2, "like": 0, "request_id": f"r{i // 4}"}
            for i in range(200 + extra)
        ]
    }


@pytest.fixture
def raw(tmp_path):
    write_log(tmp_path / "raw", log(), SCHEMA)
    return tmp_path / "raw"


@pytest.fixture
def output(bucket):
    return f"s3://{bucket}/data"


def copy_to_store(folder, place):
    for path in folder.rglob("*"):
        if path.is_file():
            there = as_path(f"{place}/{path.relative_to(folder)}")
            there.write_bytes(path.read_bytes())


def folders(bucket):
    """Folders of data in the output; none is an object of its own."""
    found = keys(bucket)
    assert not any(key.endswith("/") for key in found)
    return {key.split("/")[1] for key in found if key.startswith("data/data-")}


def test_the_files_are_those_of_a_local_job(raw, output, bucket, tmp_path):
    copy_to_store(raw, f"s3://{bucket}/raw")
    run_job(raw, tmp_path / "data")
    run_job(f"s3://{bucket}/raw", output)
    here, there = (PreparedData.load(folder) for folder in (tmp_path / "data", output))
    assert here.manifest.files == there.manifest.files
    assert here.content_hash == there.content_hash
    there.verify()
    assert folders(bucket) == {there.manifest.folder}


def test_readers_see_the_old_data_until_the_new_are_whole(
    raw, output, bucket, tmp_path
):
    run_job(raw, output)
    before = PreparedData.load(output).manifest
    with pytest.raises(FileExistsError, match=f"'{output}' exists"):
        run_job(raw, output)
    shutil.rmtree(tmp_path / "raw")
    write_log(tmp_path / "raw", log(extra=40), SCHEMA)
    job = Output(output, overwrite=True)
    with job.unfinished() as unfinished:
        (as_path(unfinished) / "train").joinpath("half").write_text("half")
        assert PreparedData.load(output).manifest == before
        PreparedData.load(output).verify()
    assert folders(bucket) == {before.folder}
    run_job(raw, output, "--overwrite")
    after = PreparedData.load(output)
    after.verify()
    assert after.manifest.events["exposures"].read == 240
    assert folders(bucket) == {after.manifest.folder} != {before.folder}


def test_what_a_killed_job_left_is_removed(raw, output, bucket, caplog):
    as_path(f"{output}/data-0badcafe0badcafe0badcafe0badcafe/train/part").write_text(
        "half"
    )
    run_job(raw, output, "--overwrite")
    assert "did not come to its end: removed 's3://" in caplog.text
    assert folders(bucket) == {PreparedData.load(output).manifest.folder}


def test_what_is_of_somebody_else_stays(raw, output, bucket):
    as_path(f"{output}/data-20261128/part").write_text("whole")
    run_job(raw, output, "--overwrite")
    assert "data-20261128" in folders(bucket)


class Written(Document):
    """What a job says of its one file."""

    sizes = {"train/x": 3}


def test_a_job_whose_files_another_removed_publishes_nothing(raw, output, bucket):
    job = Output(output, overwrite=True)
    with job.unfinished() as unfinished:
        (as_path(unfinished) / "train" / "x").write_text("123")
        Output(output, overwrite=True)
        with pytest.raises(OSError, match="another job for this output has begun"):
            job._place.publish(Written())
    assert not keys(bucket)


def test_rejected_rows_lie_beside_the_output(raw, output, bucket):
    rows = [{"user_id": "u", "time": -1, "item_id": 1, "click": 0, "like": 0}]
    write_log(raw, {"exposures": log()["exposures"] + rows * 40}, SCHEMA)
    with pytest.raises(UserError, match=f"is in '{output}.rejected'"):
        run_job(raw, output)
    found = keys(bucket)
    assert {key.split("/")[0] for key in found} == {"data.rejected"}
