import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from source_reading import read_all, real_data

from pipelines.sources.kuairand import LOG_START_MS
from pipelines.sources.source import get_source

SOURCE = get_source("kuairand")
NOW = 1_651_000_000_000


def view(**changes):
    row = {
        "user_id": 3,
        "video_id": 20,
        "time_ms": NOW,
        "is_click": 1,
        "long_view": 0,
        "is_like": 0,
        "tab": 1,
    }
    return {**row, **changes}


def write(tmp_path, views, sequence):
    rows = {
        "val": views,
        "test": [view(time_ms=NOW + 1, is_click=0)],
        "user_sequences": [sequence],
    }
    for name, part in rows.items():
        columns = {key: [row[key] for row in part] for key in part[0]}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    (tmp_path / "user_features_pure.csv").write_text(
        "user_id,user_active_degree,fans_user_num_range,onehot_feat4\n"
        '3,full_active,"[10,100)",2.0\n'
        "4,high_active,0,\n"
    )
    (tmp_path / "video_features_basic_pure.csv").write_text(
        "video_id,author_id,tag,music_type,video_duration\n"
        '20,7,"1,2",9.0,8000.0\n'
        "21,8,,,\n"
    )


SEQUENCE = {
    "user_id": 3,
    "history_len": 10,
    "last_time_ms": LOG_START_MS + 1_000_000,
    "watch_seq": [20, 21, 20, 22],
    "like_seq": [21],
    "long_watch_seq": [99, 20, 22],
}


def test_files_become_tables(tmp_path):
    views = [
        view(),
        view(),  # there twice: the job merges them
        view(video_id=21, is_like=1, long_view=1),
        view(video_id=22, long_view=1),
    ]
    write(tmp_path, views, SEQUENCE)
    tables, rejected = read_all(SOURCE, tmp_path)
    assert not rejected
    assert tables["exposures"]["item_id"].to_pylist() == [20, 20, 21, 22, 20]
    assert tables["exposures"]["behavior_action"].to_pylist() == [
        *("click", "click", "like", "long_view", "click")
    ]
    assert tables["exposures"].to_pylist()[2] == {
        "user_id": 3,
        "time": NOW,
        "item_id": 21,
        "click": 1,
        "long_view": 1,
        "like": 1,
        "tab": 1,
        "behavior_action": "like",
    }
    behaviors = tables["behaviors"].to_pandas()
    # Evenly back from the last time, in steps of a tenth of the time since the start.
    steps = (behaviors.time - SEQUENCE["last_time_ms"]) // 100_000
    assert steps.tolist() == [-3, -2, -1, 0]
    assert behaviors.item_id.tolist() == [20, 21, 20, 22]
    # Matched from the end, so the second view of video 20 is the long one.
    assert behaviors.action.tolist() == ["watch", "like", "long_view", "long_view"]
    assert tables["users"].to_pylist() == [
        {
            "user_id": 3,
            "user_active_degree": "full_active",
            "fans_user_num_range": "[10,100)",
            "onehot_feat4": 2,
        },
        {
            "user_id": 4,
            "user_active_degree": "high_active",
            "fans_user_num_range": "0",
            "onehot_feat4": None,
        },
    ]
    assert tables["items"].to_pylist() == [
        {
            "item_id": 20,
            "author_id": 7,
            "tag": "1,2",
            "music_type": 9,
            "video_duration": 8000.0,
            "tags": ["1", "2"],
        },
        {
            "item_id": 21,
            "author_id": 8,
            "tag": None,
            "music_type": None,
            "video_duration": None,
            "tags": None,
        },
    ]


def test_bad_rows(tmp_path):
    write(tmp_path, [view(), view(time_ms=None)], {**SEQUENCE, "watch_seq": None})
    tables, rejected = read_all(SOURCE, tmp_path)
    assert len(tables["exposures"]) == 2
    assert len(tables["behaviors"]) == 0
    assert [line[:2] for line in rejected] == [
        ("missing field time_ms", "val.parquet:2"),
        ("missing field watch_seq", "user_sequences.parquet:1"),
    ]


def test_the_real_data_equal_pandas():
    folder = real_data("kuairand")
    tables, rejected = read_all(SOURCE, folder)
    assert not rejected
    log = pd.concat(
        pd.read_parquet(f"{folder}/{name}.parquet") for name in ("val", "test")
    )
    assert len(log) == 228_329
    assert round(log.is_click.mean(), 2) == 0.44
    exposures = tables["exposures"].to_pandas()
    assert len(exposures) == len(log)
    pairs = (
        ("user_id", "user_id"),
        ("item_id", "video_id"),
        ("time", "time_ms"),
        ("click", "is_click"),
        ("long_view", "long_view"),
        ("like", "is_like"),
        ("tab", "tab"),
    )
    exposures = exposures.sort_values([mine for mine, _ in pairs])
    slow = log.sort_values([theirs for _, theirs in pairs])
    for mine, theirs in pairs:
        assert (exposures[mine].to_numpy() == slow[theirs].to_numpy()).all(), mine
    assert exposures.user_id.nunique() == 25_156
    items = tables["items"].to_pandas().set_index("item_id")
    authors = items.author_id.reindex(log.video_id)
    assert (authors.to_numpy() == log.author_id.to_numpy()).all()
    assert len(tables["users"]) == 27_285


def test_the_real_history_keeps_its_order_and_lies_before_the_exposures():
    folder = real_data("kuairand")
    tables, _ = read_all(SOURCE, folder)
    behaviors = tables["behaviors"].to_pandas()
    sequences = pd.read_parquet(f"{folder}/user_sequences.parquet")
    assert (behaviors.item_id.to_numpy() == np.concatenate(sequences.watch_seq)).all()
    gap = behaviors.groupby("user_id").time.diff().dropna()
    assert (gap > 0).all()
    assert behaviors.time.min() >= LOG_START_MS
    last = behaviors.groupby("user_id").time.max()
    assert last.equals(sequences.set_index("user_id").last_time_ms.rename("time"))
    first = tables["exposures"].to_pandas().groupby("user_id").time.min()
    assert (first - last).dropna().min() >= 0
    # Users whose whole history is in the file: every like and long view is found.
    whole = sequences[sequences.history_len <= 50]
    counts = behaviors[behaviors.user_id.isin(whole.user_id)].action.value_counts()
    assert counts["like"] == whole.like_seq.str.len().sum()


def test_the_default_split_begins_the_test_with_the_test_file():
    folder = real_data("kuairand")
    split = SOURCE.default_split
    late = pd.read_parquet(f"{folder}/test.parquet").time_ms // 1_000
    early = pd.read_parquet(f"{folder}/val.parquet").time_ms // 1_000
    assert early.max() < split.test_start
    assert (late >= split.test_start).mean() > 0.99
    share = (early >= split.validation_start).mean()
    assert 0.15 < share < 0.25
