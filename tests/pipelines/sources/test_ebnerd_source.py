import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_reading import read_all, real_data

from pipelines.sources.source import get_source

SOURCE = get_source("ebnerd")
NOW = pd.Timestamp("2023-02-24 10:00:00")


def impression(**changes):
    row = {
        "impression_id": 1,
        "impression_time": NOW,
        "user_id": 5,
        "article_ids_inview": [10, 11, 12],
        "article_ids_clicked": [11],
        "device_type": 2,
        "is_subscriber": True,
        "is_sso_user": False,
        "gender": None,
        "age": 40.0,
        "postcode": 2.0,
        "next_read_time": 8.0,
        "next_scroll_percentage": float("nan"),
    }
    return {**row, **changes}


def history(**changes):
    row = {
        "user_id": 5,
        "impression_time_fixed": [NOW, NOW + pd.Timedelta(seconds=3)],
        "article_id_fixed": [8, 9],
        "read_time_fixed": [1.0, 2.0],
        "scroll_percentage_fixed": [float("nan"), 50.0],
    }
    return {**row, **changes}


def read(tmp_path, impressions, histories):
    for name, rows in (("behaviors", impressions), ("history", histories)):
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    return read_all(SOURCE, tmp_path)


def test_lists_become_rows(tmp_path):
    tables, rejected = read(tmp_path, [impression()], [history()])
    assert not rejected
    time = int(NOW.timestamp()) * 1_000_000
    assert tables["exposures"].to_pylist() == [
        {
            "user_id": 5,
            "time": time,
            "request_id": 1,
            "device_type": 2,
            "behavior_read_time": 8.0,
            "behavior_scroll_percentage": None,
            "item_id": item,
            "click": click,
        }
        for item, click in ((10, 0), (11, 1), (12, 0))
    ]
    assert tables["behaviors"].to_pylist() == [
        {
            "user_id": 5,
            "time": time,
            "item_id": 8,
            "read_time": 1.0,
            "scroll_percentage": None,
        },
        {
            "user_id": 5,
            "time": time + 3_000_000,
            "item_id": 9,
            "read_time": 2.0,
            "scroll_percentage": 50.0,
        },
    ]
    assert tables["users"].to_pylist() == [
        {
            "user_id": 5,
            "is_subscriber": 1,
            "is_sso_user": 0,
            "gender": None,
            "age": 40,
            "postcode": 2,
        }
    ]


def test_users_are_as_of_their_latest_impression(tmp_path):
    rows = [
        impression(is_subscriber=True),
        impression(impression_time=NOW + pd.Timedelta(hours=1), is_subscriber=False),
        impression(impression_time=NOW - pd.Timedelta(hours=1)),
        impression(user_id=6),
    ]
    tables, _ = read(tmp_path, rows, [history()])
    users = tables["users"].to_pylist()
    assert [(user["user_id"], user["is_subscriber"]) for user in users] == [
        (5, 0),
        (6, 1),
    ]


def test_bad_rows(tmp_path):
    impressions = [
        impression(article_ids_clicked=[11, 99]),
        impression(impression_id=2, article_ids_inview=[], article_ids_clicked=[]),
        impression(impression_id=None),
        impression(impression_id=4, article_ids_inview=None),
        impression(impression_id=5, article_ids_clicked=[]),
    ]
    histories = [history(read_time_fixed=[1.0]), history(article_id_fixed=[None, 9])]
    tables, rejected = read(tmp_path, impressions, histories)
    assert tables["exposures"]["request_id"].to_pylist() == [1, 1, 1, 5, 5, 5]
    assert tables["exposures"]["click"].to_pylist() == [0, 1, 0, 0, 0, 0]
    assert tables["behaviors"]["item_id"].to_pylist() == [9]
    assert [line[:2] for line in rejected] == [
        ("missing field impression_id", "behaviors.parquet:3"),
        ("missing field article_ids_inview", "behaviors.parquet:4"),
        ("click without exposure", "behaviors.parquet:1"),
        ("no candidates", "behaviors.parquet:2"),
        ("lists of unequal lengths", "history.parquet:1"),
        ("missing field", "history.parquet:2"),
    ]
    assert "[11, 99]" in rejected[2][2]


def test_a_missing_column(tmp_path):
    row = impression()
    del row["article_ids_clicked"]
    with pytest.raises(ValueError, match="'article_ids_clicked' is missing. Columns"):
        read(tmp_path, [row], [history()])


def test_the_real_data_equal_pandas():
    folder = real_data("ebnerd")
    tables, rejected = read_all(SOURCE, folder)
    assert not rejected
    log = pd.read_parquet(f"{folder}/behaviors.parquet")
    exposures = tables["exposures"].to_pandas()
    assert len(exposures) == 10_848
    assert exposures.request_id.nunique() == 1_046
    assert exposures.user_id.nunique() == 38
    assert round(exposures.click.mean(), 3) == 0.097
    slow = log.explode("article_ids_inview").reset_index(drop=True)
    clicked = [
        item in row
        for item, row in zip(
            slow.article_ids_inview, slow.article_ids_clicked, strict=True
        )
    ]
    assert (exposures.click == np.array(clicked)).all()
    assert (exposures.item_id == slow.article_ids_inview).all()
    assert (pd.to_datetime(exposures.time, unit="us") == slow.impression_time).all()
    assert exposures.behavior_read_time.equals(slow.next_read_time)
    histories = pd.read_parquet(f"{folder}/history.parquet")
    slow = histories.explode([c for c in histories if c != "user_id"])
    behaviors = tables["behaviors"].to_pandas()
    assert (behaviors.item_id.to_numpy() == slow.article_id_fixed).all()
    assert (behaviors.user_id.to_numpy() == slow.user_id).all()
    times = pd.to_datetime(behaviors.time, unit="us").to_numpy()
    assert (times == slow.impression_time_fixed).all()
    assert behaviors.groupby("user_id").size().max() == 700
    slow = log.sort_values("impression_time").drop_duplicates("user_id", keep="last")
    users = tables["users"].to_pandas().set_index("user_id").sort_index()
    slow = slow.set_index("user_id").sort_index()
    assert users.age.equals(slow.age.astype(float))
    assert (users.is_subscriber == slow.is_subscriber).all()


def test_the_default_split_lies_inside_the_week():
    log = pd.read_parquet(f"{real_data('ebnerd')}/behaviors.parquet")
    split = SOURCE.default_split
    time = log.impression_time.astype("datetime64[s]").astype(int)
    part = np.searchsorted([split.validation_start, split.test_start], time, "right")
    assert np.bincount(part).tolist() == [747, 144, 155]
