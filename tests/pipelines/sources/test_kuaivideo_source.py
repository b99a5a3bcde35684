import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_job import prepare
from source_reading import read_all

from pipelines.sources.kuaivideo import TEST_START
from pipelines.sources.source import get_source

SOURCE = get_source("kuaivideo")
DAY = 86_400
SEEN = {11, 12, 13, 14, 21, 22, 90, 91}  # before the test; others have no word
SEQUENCES = [[11, 12, 13, 14, 15], [21, 22], []]
# user_index, item_index, seq_len, is_click
TRAIN = [
    [0, 90, 0, 0],
    [0, 11, 0, 1],  # a click of the sequence
    [0, 13, 2, 1],
    [1, 90, 2, 0],  # of a user without test: all he clicked lies before
    [0, 91, 4, 0],  # knows as many clicks as the test does
    [0, 91, 6, 0],  # no such place
    [3, 91, 0, 0],  # no such user
]
VALID = [[0, 14, 3, 1]]
TEST = [[0, 92, 4, 0], [0, 15, 4, 1], [0, 93, 5, 0], [2, 90, 0, 1]]


def write(folder):
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        names = ("user_index", "item_index", "seq_len", "is_click")
        columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        columns["is_click"] = pa.array(columns["is_click"], pa.float32())
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    sequences = pa.array(SEQUENCES, pa.list_(pa.int64()))
    users = pa.table({"user_index": [0, 1, 2], "full_item_seq": sequences})
    pq.write_table(users, folder / "user_info.parquet", row_group_size=2)
    items = {
        "item_index": [0, 11],
        "item_id": [0, 1],
        "image_emb_dim64": [[0.0] * 64] * 2,
    }
    pq.write_table(pa.table(items), folder / "item_info.parquet")
    return folder


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kuaivideo")
    raw = write(folder / "raw")
    return prepare("kuaivideo", raw, folder / "data", "--validation_days=0")


def word(item):
    return str(item) if item in SEEN else "?"


def sample(result, request):
    ((split, values),) = [v for (_, key), v in result.samples.items() if key == request]
    return split, values


def test_a_row_is_a_request_that_knows_the_clicks_before_it(result):
    assert len(result.samples) == len(TRAIN) - 2 + len(VALID) + len(TEST)
    for name, rows in (("train", TRAIN[:5]), ("valid", VALID), ("test", TEST)):
        for number, (user, item, place, click) in enumerate(rows, 1):
            _, values = sample(result, f"{name}.parquet:{number}")
            assert values["user_id"] == [str(user).encode()]
            assert values["candidate_item_id"] == [word(item)]
            assert values["label"] == [click]
            # A click is there once, as a row and in the sequence.
            history = [word(item) for item in SEQUENCES[user][:place]]
            assert values["behavior_item_id"] == history


def test_times_are_made_of_the_order(result):
    _, values = sample(result, "test.parquet:3")
    assert values["request_time"] == [TEST_START + DAY]
    assert values["behavior_time"] == [TEST_START + d * DAY for d in range(-4, 1)]
    assert set(values["behavior_hour"]) == {0}
    _, last = sample(result, "train.parquet:5")
    assert last["request_time"] == [TEST_START - 1]
    _, other = sample(result, "train.parquet:4")
    assert other["request_time"] == [TEST_START - DAY]


def test_the_test_is_the_publishers(result):
    splits = {key: split for (_, key), (split, _) in result.samples.items()}
    assert {k for k, split in splits.items() if split == "test"} == {
        f"test.parquet:{number}" for number in (1, 2, 3, 4)
    }


def test_bad_rows_are_rejected(result):
    reason = "no such place in user_info.parquet"
    assert result.rejected == {"exposures": {reason: 2}}


def test_shards_tell_the_same(tmp_path, monkeypatch):
    folder = write(tmp_path)
    whole, _ = read_all(SOURCE, folder)
    monkeypatch.setattr("pipelines.sources.parquet_files.SHARD_ROWS", 1)
    assert len(SOURCE.shards(str(folder), SOURCE.schema())) == 5
    parts, _ = read_all(SOURCE, folder)
    assert {k: v.to_pylist() for k, v in parts.items()} == {
        k: v.to_pylist() for k, v in whole.items()
    }


def test_a_missing_file(tmp_path):
    write(tmp_path)
    (tmp_path / "user_info.parquet").unlink()
    message = (
        "no 'user_info.parquet'.*obtained from https.*KuaiVideo_XLong. Found: item"
    )
    with pytest.raises(FileNotFoundError, match=message):
        SOURCE.shards(str(tmp_path), SOURCE.schema())
