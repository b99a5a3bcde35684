import datetime

import numpy as np
import pytest
from source_job import prepare, write_csv
from source_reading import read_all

from ctr_tf.schema import MISSING
from pipelines.sources.source import get_source

SOURCE = get_source("eleme")
HOUR, DAY = 3_600, 86_400
ZONE = datetime.timezone(datetime.timedelta(hours=8))
NOW = int(datetime.datetime(2022, 4, 12, 12, 20, tzinfo=ZONE).timestamp())  # Tuesday
LISTS = (
    *("shop_id_list", "item_id_list", "category_1_id_list"),
    *("merge_standard_food_id_list", "brand_id_list", "price_list"),
    *("shop_aoi_id_list", "shop_geohash6_list", "timediff_list", "hours_list"),
    *("time_type_list", "weekdays_list"),
)
COLUMNS = (
    *("label", "user_id", "gender", "visit_city", "avg_price", "is_supervip"),
    *("ctr_30", "ord_30", "total_amt_30", "shop_id", "item_id", "city_id"),
    *("district_id", "shop_aoi_id", "shop_geohash_6", "shop_geohash_12"),
    *("brand_id", "category_1_id", "merge_standard_food_id", "rank_7", "rank_30"),
    *("rank_90", *LISTS, "times", "hours", "time_type", "weekdays", "geohash12"),
)


def clock(time, first_weekday=0):
    """Hour and day of the week in China; Monday is `first_weekday`."""
    local = datetime.datetime.fromtimestamp(time, ZONE)
    return local.hour, local.weekday() + first_weekday


def line(ages=(), now=NOW, unit=0.001, first_weekday=0, **changes):
    """A row whose behaviors happened these seconds before it, the latest first."""
    clocks = [clock(now - age, first_weekday) for age in ages]
    hour, weekday = clock(now, first_weekday)
    row = {
        **{"label": 0, "user_id": "u1", "gender": -99, "visit_city": "7"},
        **{"avg_price": 31.5, "is_supervip": 1, "ctr_30": 4, "ord_30": 2},
        **{"total_amt_30": 63.0, "shop_id": "s9", "item_id": "i9", "city_id": "7"},
        **{"district_id": "d3", "shop_aoi_id": "a9", "shop_geohash_6": "wtw3sj"},
        **{"shop_geohash_12": "wtw3sjq6n6um", "brand_id": "b9", "category_1_id": "c9"},
        **{"merge_standard_food_id": "f9", "rank_7": 17, "rank_30": "", "rank_90": 40},
        **{"times": now, "hours": hour, "time_type": "lunch", "weekdays": weekday},
        "geohash12": "wtw3sjq6n6um",
        **{name: [f"{name[0]}{i}" for i in range(len(ages))] for name in LISTS},
        "price_list": [10.5 + i for i in range(len(ages))],
        "time_type_list": ["dinner" if h > 16 else "lunch" for h, _ in clocks],
        "timediff_list": [round(age / unit) for age in ages],
        "hours_list": [h for h, _ in clocks],
        "weekdays_list": [day for _, day in clocks],
        **changes,
    }
    return [
        ";".join(map(str, row[name])) if name in LISTS else row[name]
        for name in COLUMNS
    ]


def write(folder, **days):
    folder.mkdir(exist_ok=True)
    for name, rows in days.items():
        write_csv(folder / f"{name}.csv", rows[0], *rows[1:])
    return folder


AGES = (20 * 60, 16 * HOUR, 7 * DAY + 60, 29 * DAY)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eleme")
    first = [
        line(AGES, item_id="i8", label=1),
        line(AGES),
        line(user_id="u2", gender=1),
        line(AGES, times=""),
        line(AGES, user_id="u3", price_list=[1]),
        "1,short",
    ]
    later = [line((DAY, *AGES), now=NOW + DAY), line(user_id="u4", now=NOW + 2 * DAY)]
    raw = write(folder / "raw", D1_0=first, D2_9=later)
    return prepare(
        "eleme", raw, folder / "data", "--test_days=1", "--validation_days=1"
    )


def test_rows_of_a_second_are_a_request(result):
    key = f"u1:{NOW}"
    split, sample = result.samples[key, key]
    assert split == "train"
    assert sample["request_time"] == [NOW]
    assert sample["candidate_item_id"] == ["i8", "i9"]
    assert sample["label"] == [1, 0]
    assert sample["candidate_shop_geohash"] == ["wtw3sj"] * 2
    assert sample["candidate_rank_7"] == [17, 17]
    assert sample["candidate_rank_30"] == [MISSING["int64"]] * 2
    assert sample["context_gender"] == ["-99"]
    assert sample["context_total_amt_30"] == [63.0]
    assert sample["context_time_type"] == ["lunch"]
    assert sample["context_weekday"] == ["1"]
    assert sample["context_hour"] == [12]
    assert f"u3:{NOW}" in {key for key, _ in result.samples}


def test_histories_are_those_of_the_row(result):
    key = f"u1:{NOW}"
    sample = result.samples[key, key][1]
    assert sample["behavior_time"] == [NOW - age for age in reversed(AGES)]
    assert sample["behavior_item_id"] == ["i3", "i2", "i1", "i0"]
    assert sample["behavior_shop_id"] == ["s3", "s2", "s1", "s0"]
    assert sample["behavior_price"] == [13.5, 12.5, 11.5, 10.5]
    assert sample["behavior_time_type"] == ["lunch", "lunch", "dinner", "lunch"]
    assert sample["behavior_hour"] == [12, 12, 20, 12]
    assert sample["behavior_weekend"] == [0, 0, 0, 0]
    # The next day's list is all that the next day's request sees, its click included.
    later = f"u1:{NOW + DAY}"
    assert len(result.samples[later, later][1]["behavior_time"]) == 5
    alone = f"u2:{NOW}"
    assert result.samples[alone, alone][1]["behavior_time"] == []


def test_days_are_splits(result):
    splits = {user: split for (user, _), (split, _) in result.samples.items()}
    assert splits[f"u1:{NOW + DAY}"] == "validation"
    assert splits[f"u4:{NOW + 2 * DAY}"] == "test"


def test_bad_rows_are_rejected_once(result):
    assert result.rejected == {
        "exposures": {"missing field times": 1, "unparsable": 1},
        "behaviors": {"lists of unequal lengths": 1},
    }


def ages(tmp_path, *rows):
    """The ages that the source finds, by user."""
    tables, rejected = read_all(SOURCE, write(tmp_path, D1_0=list(rows)))
    assert not rejected
    found = {}
    for row in tables["behaviors"].to_pylist():
        user, now = row["user_id"].split(":")
        age = None if row["time"] is None else int(now) - row["time"]
        found.setdefault(user, []).append(age)
    return found


@pytest.mark.parametrize("unit", [0.001, 1, 60])
@pytest.mark.parametrize("first_weekday", [0, 1])
def test_the_unit_is_found_and_the_week_may_begin_anywhere(
    unit, first_weekday, tmp_path
):
    told = [60, 6 * HOUR, DAY - 60, 3 * DAY, 7 * DAY, 16 * DAY, 30 * DAY]
    row = line(told, unit=unit, first_weekday=first_weekday)
    assert ages(tmp_path, row) == {"u1": told}


def test_the_clock_holds_differences_and_stands_for_missing_ones(tmp_path):
    # Hours 12, Tuesday; a behavior of Sunday at 9 was 51 hours before, give or take.
    def told(user, difference, hour, weekday):
        lists = {name: ["x"] for name in LISTS} | {"price_list": [1]}
        return line(
            user_id=user,
            **lists
            | {
                "timediff_list": [difference],
                "hours_list": [hour],
                "weekdays_list": [weekday],
            },
        )

    hours = np.array([51, 51 - 5, 51 + 168 + 3, 0])
    rows = [told("true", 51 * HOUR * 1_000 + 1_234, 9, 6) for _ in range(1)]
    rows += [told(f"u{i}", int(h) * HOUR * 1_000, 9, 6) for i, h in enumerate(hours)]
    rows += [
        told("clock", "", 9, 6),
        told("told", 5_500, "", ""),
        told("none", "", "", ""),
    ]
    found = ages(tmp_path, *rows)
    assert found == {
        "true": [51 * HOUR + 2],
        "u0": [51 * HOUR],
        "u1": [50 * HOUR + 1],
        "u2": [(51 + 168 + 1) * HOUR - 1],
        "u3": [50 * HOUR + 1],
        "clock": [51 * HOUR],
        "told": [6],
        "none": [None],
    }


def test_a_missing_file(tmp_path):
    (tmp_path / "D1_0.csv.zip").write_text("")
    message = "no file 'D1_0.csv'.*obtained from https.*/131047. Found: D1_0.csv.zip"
    with pytest.raises(FileNotFoundError, match=message):
        SOURCE.shards(str(tmp_path), SOURCE.schema())
