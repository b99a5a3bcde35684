"""Low ratings in the histories: each once, at its time, apart from the clicks."""

import collections
import csv
import shutil

import numpy as np
import pytest
import tensorflow as tf
from source_job import prepare, write_csv
from source_reading import read_all, real_data

from ctr_tf.schema import Positive
from ctr_tf.time import DAY
from pipelines.sources.movielens import MIN_CLICK_RATING
from pipelines.sources.source import get_source

SOURCE = get_source("movielens_ratings")
CLICKS = get_source("movielens")
ALL_TRAIN = ("--validation_from=2040-01-01", "--test_from=2041-01-01")
USERS = 40


def write(folder, *ratings):
    folder.mkdir(exist_ok=True)
    header = ("userId", "movieId", "rating", "timestamp")
    write_csv(folder / "ratings.csv", header, *ratings)
    header = ("movieId", "title", "genres")
    movies = [(n, f"Movie {n} (1995)", "Drama") for n in range(1, 9)]
    write_csv(folder / "movies.csv", header, *movies)
    return folder


def test_low_ratings_become_behaviors_beside(tmp_path):
    ratings = ["7,1,4.0,10", "7,2,3.5,11", "8,1,0.5,12", "8,3,4.5,13"]
    write(tmp_path, *ratings, "8,3,good,14", "8,4,1.0")
    tables, rejected = read_all(SOURCE, tmp_path)
    assert tables["behaviors"].to_pylist() == [
        {"user_id": 7, "time": 11, "item_id": 2, "rating": 3.5},
        {"user_id": 8, "time": 12, "item_id": 1, "rating": 0.5},
    ]
    clicks, rejected_of_clicks = read_all(CLICKS, tmp_path)
    assert clicks.keys() | {"behaviors"} == tables.keys()
    for name, table in clicks.items():
        assert tables[name] == table
    assert len(rejected) == 2 and rejected == rejected_of_clicks  # each line once


def test_a_behavior_has_the_number_of_its_line(tmp_path):
    write(tmp_path, "7,1,4.0,10", "7,2,3.5,11", "7,4,oh,11", "7,3,2.0,12")
    schema = SOURCE.schema(str(tmp_path))
    (shard,) = [
        s for s in SOURCE.shards(str(tmp_path), schema) if s.table == "behaviors"
    ]
    (batch,) = SOURCE.read(shard, schema)
    assert batch.numbers().tolist() == [3, 5]
    assert batch.reject(np.array([1]), "odd")[0].raw == "7,3,2.0,12"


def test_its_schema_is_that_of_the_clicks_but_for_ratings(tmp_path):
    folder = str(write(tmp_path))
    assert SOURCE.schema(folder).user == () != SOURCE.schema().user
    schema, other = SOURCE.schema(), CLICKS.schema()
    assert schema.positive == Positive("rating", MIN_CLICK_RATING)
    assert other.positive is None
    differ = [
        one.name
        for one, two in zip(schema.features, other.features, strict=True)
        if one != two
    ]
    assert differ == ["rating"]
    (rating,) = (f for f in schema.of("behavior") if f.name == "rating")
    stars = tf.range(0.5, 5.5, 0.5)
    assert len(set(rating.to_input(stars).numpy().tolist())) == 10
    assert [f.name for f in schema.texts] == ["title", "categories"]


def test_nothing_of_the_request_s_day_is_in_its_history(tmp_path):
    days = [100 * DAY, 101 * DAY]
    folder = write(
        tmp_path / "raw",
        *(f"7,1,2.0,{days[0]}", f"7,2,4.0,{days[0]}", f"7,3,3.5,{days[1] - 1}"),
        *(f"7,4,1.0,{days[1]}", f"7,5,5.0,{days[1]}", f"7,6,3.0,{days[1] + 1}"),
    )
    result = prepare(SOURCE.name, folder, tmp_path / "data", *ALL_TRAIN)
    first, second = (result.samples["7", f"7-1970-04-{day}"][1] for day in (11, 12))
    assert first["behavior_item_id"] == []
    assert second["behavior_item_id"] == ["1", "2", "3"]
    assert second["behavior_rating"] == [2.0, 4.0, 3.5]
    assert second["candidate_item_id"] == ["4", "5", "6"]
    assert second["label"] == [0, 1, 0]
    assert result.manifest.joins["clicks again in behaviors"] == 0


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Ratings of some users by user, and the samples of both sources, uncut."""
    whole, folder = real_data("movielens"), tmp_path_factory.mktemp("movielens")
    raw = folder / "raw"
    raw.mkdir()
    shutil.copy(f"{whole}/movies.csv", raw)
    with open(f"{whole}/ratings.csv", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    rows = [row for row in rows if int(row[0]) <= USERS]
    write_csv(raw / "ratings.csv", header, *rows)
    ratings = collections.defaultdict(list)
    for user, movie, rating, time in rows:
        ratings[user].append((int(time), movie, float(rating)))
    results = [
        prepare(
            source.name, raw, folder / source.name, *ALL_TRAIN, history_length=5_000
        )
        for source in (SOURCE, CLICKS)
    ]
    return ratings, *(result.samples for result in results)


def history(sample):
    keys = ("behavior_time", "behavior_item_id", "behavior_rating")
    return list(zip(*(sample[key] for key in keys), strict=True))


def test_every_rating_before_the_request_is_in_the_history_once(real):
    ratings, samples, _ = real
    requests = low = 0
    for (user, _), (_, sample) in samples.items():
        (request_time,) = sample["request_time"]
        day = request_time // DAY
        own = [rating for rating in ratings[user] if rating[0] // DAY == day]
        assert min(time for time, *_ in own) == request_time
        assert len(own) == len(sample["label"])
        before = [rating for rating in ratings[user] if rating[0] < request_time]
        found = history(sample)
        assert sorted(found) == sorted(before)
        assert [time for time, *_ in found] == sorted(time for time, *_ in found)
        assert all(time // DAY < day for time, *_ in found)
        requests += 1
        low += sum(rating < MIN_CLICK_RATING for *_, rating in found)
    assert requests > USERS
    assert low > 1_000


def test_the_positive_ones_are_the_history_of_clicks(real):
    _, samples, clicks = real
    schema = SOURCE.schema()
    (rating,) = (f for f in schema.of("behavior") if f.name == "rating")
    assert samples.keys() == clicks.keys()
    positive = 0
    for key, (_, sample) in samples.items():
        other = clicks[key][1]
        stored = tf.constant(sample["behavior_rating"], tf.float32)
        mask = schema.positive.mask(rating.to_input(stored)).numpy()
        found = history(sample)
        kept = [behavior for behavior, liked in zip(found, mask, strict=True) if liked]
        assert kept == history(other)
        for name in ("label", "candidate_item_id", "candidate_user_clicks"):
            assert sample[name] == other[name]
        positive += len(kept)
    assert positive > 1_000
