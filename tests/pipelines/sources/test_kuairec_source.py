import numpy as np
import pytest
from source_job import prepare, write_csv

from pipelines.sources.source import get_source

SOURCE = get_source("kuairec")
NOW = 1_593_878_903  # 2020-07-05 00:08:23, a Sunday there
VIEWS = (
    *("user_id", "video_id", "play_duration", "video_duration"),
    *("time", "date", "timestamp", "watch_ratio"),
)
COUNTS = (
    *("show_cnt", "show_user_num", "play_cnt", "play_user_num", "play_duration"),
    *("complete_play_cnt", "complete_play_user_num", "valid_play_cnt"),
    *("valid_play_user_num", "long_time_play_cnt", "long_time_play_user_num"),
    *("short_time_play_cnt", "short_time_play_user_num", "play_progress"),
    *("comment_stay_duration", "like_cnt", "like_user_num", "click_like_cnt"),
    *("double_click_cnt", "cancel_like_cnt", "cancel_like_user_num", "comment_cnt"),
    *("comment_user_num", "direct_comment_cnt", "reply_comment_cnt"),
    *("delete_comment_cnt", "delete_comment_user_num", "comment_like_cnt"),
    *("comment_like_user_num", "follow_cnt", "follow_user_num", "cancel_follow_cnt"),
    *("cancel_follow_user_num", "share_cnt", "share_user_num", "download_cnt"),
    *("download_user_num", "report_cnt", "report_user_num", "reduce_similar_cnt"),
    *("reduce_similar_user_num", "collect_cnt", "collect_user_num"),
    *("cancel_collect_cnt", "cancel_collect_user_num"),
)
ITEMS = (
    *("video_id", "date", "author_id", "video_type", "upload_dt", "upload_type"),
    *("visible_status", "video_duration", "video_width", "video_height", "music_id"),
    *("video_tag_id", "video_tag_name", *COUNTS),
)
USERS = (
    *("user_id", "user_active_degree", "is_lowactive_period", "is_live_streamer"),
    *("is_video_author", "follow_user_num", "follow_user_num_range", "fans_user_num"),
    *("fans_user_num_range", "friend_user_num", "friend_user_num_range"),
    *("register_days", "register_days_range"),
    *(f"onehot_feat{i}" for i in range(18)),
)


def view(user, video, seconds, ratio, date=20200705):
    time = f"{NOW + seconds}.438"
    clock = "2020-07-05 00:08:23.438"
    return [user, video, int(ratio * 10_000), 10_000, clock, date, time, ratio]


def day(video, date, author):
    fixed = [author, "NORMAL", "2020-03-30", "ShortImport", "public", 11_966.0]
    counts = range(len(COUNTS))
    return [video, date, *fixed, 720, 1280, 3_350_323_409, 841, "建筑", *counts]


def write(folder, *more):
    folder.mkdir(exist_ok=True)
    write_csv(
        folder / "big_matrix.csv",
        VIEWS,
        view(0, 20, 0, 1.273397),
        view(0, 21, 9, 0.2),
        view(0, 21, 9, 0.2, date=20200707),  # there twice
        view(0, 22, 3_600, 2.5),
        [0, 22, 1, 1, "", "", "", 0.5],
    )
    if more:
        write_csv(folder / "small_matrix.csv", VIEWS, *more)
    write_csv(
        folder / "item_daily_features.csv",
        ITEMS,
        day(20, 20200705, 7),
        day(21, 20200705, 8),
        day(20, 20200706, 9),
    )
    tags = [[20, "[27, 9]"], [21, "[8]"], ["x", "[1]"]]
    write_csv(folder / "item_categories.csv", ("video_id", "feat"), *tags)
    write_csv(
        folder / "user_features.csv",
        USERS,
        [0, "full_active", 0, 0, 1, 5, "(0,10]", 4, "[1,10)", "", 0, 107, "61-90"]
        + [0, 1, 17, 638, 2, 0, 1, 6, 141, 7, 4, 0, 0, 1, 0, 0, 0, ""],
    )
    write_csv(folder / "social_network.csv", ("user_id", "friend_list"), [0, "[1, 2]"])
    return folder


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kuairec")
    raw = write(folder / "raw", view(0, 20, 9_000, 0.4), [0, 21, 1, 1, "", "", "", 1.5])
    return prepare(
        "kuairec",
        raw,
        folder / "data",
        "--test_from=2020-07-06",
        "--validation_from=2020-07-06",
    )


def at(result, seconds):
    """The slate of user 0 in that second; its id tells the millisecond."""
    (key,) = (k for k in result.samples if k[1].startswith(f"0:{seconds}"))
    return result.samples[key]


def test_views_become_slates_and_clicks(result):
    split, first = at(result, NOW)
    assert split == "train"
    assert first["candidate_item_id"] == ["20", "21"]
    assert first["label"] == [1, 0] and first["label_like"] == [0, 0]
    assert first["context_hour"] == [0] and first["context_weekend"] == [1]
    assert first["behavior_time"] == []
    _, second = at(result, NOW + 3_600)
    assert second["label_like"] == [1]
    _, small = at(result, NOW + 9_000)
    assert small["behavior_time"] == [NOW, NOW + 3_600]
    assert small["behavior_item_id"] == ["20", "22"]
    assert small["behavior_watch_ratio"] == pytest.approx([1.273397, 2.5])


def test_videos_and_users(result):
    sample = at(result, NOW)[1]
    assert sample["candidate_author_id"] == ["7", "8"]
    assert sample["candidate_tag"] == ["27", "8"]
    assert sample["candidate_tags"] == ["27", "9", "8"]
    assert sample["candidate_tags_length"] == [2, 1]
    assert sample["candidate_video_type"] == ["NORMAL"] * 2
    assert sample["candidate_music_id"] == ["3350323409"] * 2
    assert sample["candidate_video_duration"] == [11_966, 11_966]
    assert sample["user_user_active_degree"] == ["full_active"]
    assert sample["user_register_days"] == [107]
    assert np.isnan(sample["user_friend_user_num"]).all()
    assert sample["user_onehot_feat3"] == ["638"]
    assert sample["user_onehot_feat17"] == ["?"]
    unknown = at(result, NOW + 3_600)[1]
    assert unknown["candidate_author_id"] == ["?"]


def test_bad_rows_are_rejected(result):
    assert result.rejected == {
        "exposures": {"missing field timestamp": 2},
        "items": {"bad value of video_id, not an integer": 1},
    }
    assert result.manifest.events["items"].kept == 2


def test_the_small_matrix_may_be_absent_and_nothing_else(tmp_path):
    folder, schema = write(tmp_path), SOURCE.schema()
    names = [
        shard.path.rpartition("/")[2] for shard in SOURCE.shards(str(folder), schema)
    ]
    assert names == ["big_matrix.csv", "user_features.csv", "item_daily_features.csv"]
    (folder / "item_categories.csv").unlink()
    message = "no 'item_categories.csv'.*obtained from https://kuairec.com. Found: big_"
    with pytest.raises(FileNotFoundError, match=message):
        SOURCE.shards(str(folder), schema)
