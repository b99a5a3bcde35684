import numpy as np
import pytest
from source_job import prepare, write_csv
from source_reading import read_all

from pipelines.sources.source import get_source

SOURCE = get_source("alibaba")
DAY = 86_400
TEST = 1_494_604_800  # 2017-05-13 00:00, UTC+8
NOW = TEST - 5 * DAY + 3_600  # 2017-05-08 01:00, a Monday there
HEADERS = {
    "raw_sample": ["user", "time_stamp", "adgroup_id", "pid", "nonclk", "clk"],
    "ad_feature": [
        "adgroup_id",
        "cate_id",
        "campaign_id",
        "customer",
        "brand",
        "price",
    ],
    "user_profile": [
        *("userid", "cms_segid", "cms_group_id", "final_gender_code", "age_level"),
        *("pvalue_level", "shopping_level", "occupation", "new_user_class_level "),
    ],
    "behavior_log": ["user", "time_stamp", "btag", "cate", "brand"],
}
PAGE, SIDE = "430548_1007", "430539_1007"
ROWS = {
    "raw_sample": [
        [7, NOW, 1, PAGE, 0, 1],
        [7, NOW + 1, 2, SIDE, 1, 0],
        [7, NOW + DAY, 2, PAGE, 1, 0],
        [8, TEST - 1, 1, PAGE, 1, 0],
        [8, TEST, 1, PAGE, 0, 1],
        [9, NOW, 2, PAGE, 1, 2],
        f"7,{NOW},2,{PAGE},1",
        ["seven", NOW, 2, PAGE, 1, 0],
    ],
    "ad_feature": [
        [1, 6406, 83237, 11, 95471, 170.0],
        [2, 6407, 83238, 12, "NULL", ""],
    ],
    "user_profile": [[7, 0, 5, 2, 5, "", 3, 0, 3], [8, 1, 2, 1, 4, 2, 3, 1, ""]],
    "behavior_log": [
        [7, NOW - 60, "pv", 6406, 95471],
        [7, NOW - 60, "pv", 6406, 95471],  # there twice
        [7, NOW, "cart", 6406, 95471],  # not before the first request
        [7, NOW - 90, "buy", 6250, 91286],
        [7, NOW - 30, "fav", 6250, ""],
        [8, -5, "pv", 6250, 91286],
        [8, NOW, "pv", "", 91286],
    ],
}


def write(folder, **rows):
    folder.mkdir(exist_ok=True)
    for name, header in HEADERS.items():
        write_csv(folder / f"{name}.csv", header, *rows.get(name, ROWS[name]))
    return folder


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alibaba")
    return prepare("alibaba", write(folder / "raw"), folder / "data")


def test_ads_become_slates(result):
    split, sample = result.samples["7", f"7:{NOW}"]
    assert split == "train"
    assert sample["candidate_item_id"] == ["1", "2"]
    assert sample["candidate_pid"] == [PAGE, SIDE]
    assert sample["candidate_cate_id"] == ["6406", "6407"]
    assert sample["candidate_brand"] == ["95471", "?"]
    assert sample["candidate_campaign_id"] == ["83237", "83238"]
    assert sample["candidate_customer"] == ["11", "12"]
    np.testing.assert_array_equal(sample["candidate_price"], [170, np.nan])
    assert sample["label"] == [1, 0]
    assert sample["user_cms_group_id"] == ["5"]
    assert sample["user_pvalue_level"] == ["?"]
    assert sample["user_new_user_class_level"] == ["3"]
    assert sample["context_hour"] == [1]
    assert sample["context_weekend"] == [0]


def test_behaviors_are_those_strictly_before(result):
    _, first = result.samples["7", f"7:{NOW}"]
    assert first["behavior_time"] == [NOW - 90, NOW - 60, NOW - 30]
    assert first["behavior_action"] == ["buy", "pv", "fav"]
    assert first["behavior_cate_id"] == ["6250", "6406", "6250"]
    assert first["behavior_brand"] == ["91286", "95471", "?"]
    _, later = result.samples["7", f"7:{NOW + DAY}"]
    assert later["behavior_action"] == ["buy", "pv", "fav", "cart", "click"]
    # An item a category and brand, none of them an ad; the clicked ad is one.
    products = later["behavior_item_id"]
    assert products[1] == products[3] and len(set(products)) == 4
    assert [item[0] == "-" for item in products] == [True] * 4 + [False]
    assert later["behavior_item_id"][4] == "1"
    assert later["behavior_campaign_id"] == ["?"] * 4 + ["83237"]


def test_the_last_day_is_the_test(result):
    splits = {key[1]: split for key, (split, _) in result.samples.items()}
    assert splits[f"8:{TEST - 1}"] == "validation"
    assert splits[f"8:{TEST}"] == "test"


def test_bad_rows_are_rejected_with_a_reason(result):
    assert result.rejected == {
        "exposures": {
            "bad value of user, not an integer": 1,
            "label click is neither 0 nor 1": 1,
            "unparsable": 1,
        },
        "behaviors": {"missing field cate": 1, "negative time": 1},
    }
    assert result.manifest.events["behaviors"].merged == 1  # there twice


def test_shards_tell_the_same(tmp_path, monkeypatch):
    folder = write(tmp_path / "raw")
    whole, rejected = read_all(SOURCE, folder)
    monkeypatch.setattr("pipelines.sources.text_files.SHARD_BYTES", 60)
    monkeypatch.setattr("pipelines.sources.text_files.BLOCK_BYTES", 40)
    shards = SOURCE.shards(str(folder), SOURCE.schema())
    assert len(shards) > 8
    parts, rejected_again = read_all(SOURCE, folder)
    for table, rows in whole.items():
        assert parts[table].to_pylist() == rows.to_pylist()
    assert sorted(rejected_again) == sorted(rejected)


def test_a_missing_file_and_column(tmp_path):
    folder = write(tmp_path)
    write_csv(folder / "ad_feature.csv", ["ad", "price"])
    with pytest.raises(ValueError, match="'adgroup_id' is missing.*Columns found: ad,"):
        SOURCE.shards(str(folder), SOURCE.schema())
    (folder / "behavior_log.csv").unlink()
    message = (
        "no 'behavior_log.csv'.*obtained from https://tianchi.*/56. Found: ad_feat"
    )
    with pytest.raises(FileNotFoundError, match=message):
        SOURCE.shards(str(folder), SOURCE.schema())
