"""What two workers save and restore: shards, full disks, folders that are not one."""

import pytest
from test_distribution import WORKER, cluster, finish, launch

SCRIPT = WORKER.with_name("checkpoint_worker.py")
CASES = [
    "shared",
    "other_kind",
    "and_back",
    "damaged",
    "full_disk_of_a_shard",
    "full_disk_of_the_first",
    "full_disk_of_another",
    "after_the_full_disk",
    "apart_saving",
    "apart_restoring",
    "seen_late",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def found(folder):
    """Name of a case → what came of it on the two workers."""
    processes = [launch([SCRIPT, folder, *CASES], task) for task in cluster(2)]
    try:
        first, second = (finish(process) for process in processes)
    finally:
        for process in processes:
            process.kill()
    return {case: (first[case], second[case]) for case in CASES}


def test_all_go_on_from_the_shards_of_all(found, folder):
    for files, restored in found["shared"]:
        assert files == ["step-00000002", "step-00000003"]
        assert restored == [3, 3.0]
    files = {path.name for path in (folder / "shared" / "step-00000002").iterdir()}
    assert {"state.json", "network.index"} <= files
    assert {f"tables-0000{i}-of-00002.index" for i in range(2)} <= files
    assert "tables.index" not in files


def test_replicated_tables_go_on_from_shards_and_shards_from_them(found, folder):
    assert found["other_kind"] == ([3, 3.0], [3, 3.0])
    assert found["and_back"] == ([7, 7.0], [7, 7.0])
    files = {path.name for path in (folder / "back" / "step-00000007").iterdir()}
    assert "tables.index" in files


def test_a_shard_that_one_worker_finds_damaged_is_left_out_by_all(found):
    assert found["damaged"] == ([2, 2.0], [2, 2.0])


def test_a_full_disk_of_one_worker_ends_all(found, folder):
    first, second = found["full_disk_of_a_shard"]
    assert "File too large" in second
    step = folder / "full" / "step-00000001"
    assert first == (
        f"OSError: Writing the checkpoint '{step}' failed on worker 1, whose log says "
        "why."
    )
    first, second = found["full_disk_of_the_first"]
    assert "File too large" in first
    assert "step-00000002' failed on worker 0, whose log says why." in second
    assert found["full_disk_of_another"] == ([3, 3.0], [3, 3.0])  # it writes nothing
    assert found["after_the_full_disk"] == ([4, 4.0], [4, 4.0])
    names = sorted(path.name for path in (folder / "full").iterdir())
    assert names == ["step-00000003", "step-00000004"]


def test_workers_that_see_no_folder_of_all_are_told(found, folder):
    first, second = found["apart_saving"]
    assert "lacks what other workers have written" in first
    assert first.endswith("Missing: tables-00001-of-00002")
    assert "failed on worker 0" in second
    first, second = found["apart_restoring"]
    place = folder / "apart-1" / "step-00000005"
    assert "does not see the checkpoint of step 5 that the training goes on" in second
    assert second.endswith(f"Received: '{place}'")
    assert "cannot be gone on from by worker 1, whose log says why" in first


def test_a_folder_that_is_seen_late_is_waited_for(found):
    assert found["seen_late"] == ([6, 6.0], [6, 6.0])
