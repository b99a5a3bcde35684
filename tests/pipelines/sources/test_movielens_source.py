import re

import pandas as pd
import pytest
from source_job import prepare
from source_reading import read_all, real_data

from pipelines.sources.source import get_source

SOURCE = get_source("movielens")
DAY = 86_400


def write(tmp_path, ratings):
    (tmp_path / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n" + "".join(f"{row}\n" for row in ratings)
    )
    (tmp_path / "movies.csv").write_text(
        "movieId,title,genres\n"
        '1,"American President, The (1995)",Comedy|Drama\n'
        "2,Fawlty Towers (1975-1979),Comedy\n"
        "3,Hyena Road,(no genres listed)\n"
    )


def test_ratings_become_clicks(tmp_path):
    late = 100 * DAY - 1
    ratings = [f"7,1,4.0,{late}", f"7,2,3.5,{late + 1}", f"7,3,5.0,{late + 1}"]
    write(tmp_path, ratings)
    tables, rejected = read_all(SOURCE, tmp_path)
    assert not rejected
    exposures = tables["exposures"].to_pandas()
    assert exposures.click.tolist() == [1, 0, 1]
    assert exposures.request_id.tolist() == [
        *("7-1970-04-10", "7-1970-04-11", "7-1970-04-11")
    ]
    assert exposures.time.tolist() == [late, late + 1, late + 1]
    assert exposures.behavior_rating.tolist() == [4.0, 3.5, 5.0]
    titles = tables["items"]["title"].to_pylist()
    assert titles == [
        *("American President, The (1995)", "Fawlty Towers (1975-1979)", "Hyena Road")
    ]
    categories = tables["items"]["categories"].to_pylist()
    assert categories == ["Comedy, Drama", "Comedy", None]
    assert tables["items"].drop_columns(["title", "categories"]).to_pylist() == [
        {"item_id": 1, "genre": "Comedy", "genres": ["Comedy", "Drama"], "year": 1995},
        {"item_id": 2, "genre": "Comedy", "genres": ["Comedy"], "year": None},
        {
            "item_id": 3,
            "genre": None,
            "genres": None,
            "year": None,
        },
    ]


def test_bad_rows(tmp_path):
    write(tmp_path, ["7,1,4.0,5", "7,1,good,5", "7,1,4.0", "7,,4.0,5"])
    tables, rejected = read_all(SOURCE, tmp_path)
    assert len(tables["exposures"]) == 1
    assert rejected == [
        ("unparsable", "ratings.csv:4", "7,1,4.0"),
        (
            "bad value of rating, not a finite number",
            "ratings.csv:3",
            "7,1,good,5",
        ),
        ("missing field movieId", "ratings.csv:5", "7,,4.0,5"),
    ]


def test_a_missing_column(tmp_path):
    write(tmp_path, [])
    (tmp_path / "movies.csv").write_text("id,title,genres\n1,a,b\n")
    with pytest.raises(ValueError, match="'movieId' is missing. .* id, title, genres"):
        SOURCE.shards(str(tmp_path), SOURCE.schema())


def test_the_real_data_equal_pandas():
    folder = real_data("movielens")
    tables, rejected = read_all(SOURCE, folder)
    assert not rejected
    ratings = pd.read_csv(f"{folder}/ratings.csv")
    exposures = tables["exposures"].to_pandas()
    assert len(exposures) == 100_004
    assert exposures.user_id.nunique() == 671
    assert exposures.item_id.nunique() == 9_066
    assert (exposures.click == (ratings.rating >= 4)).all()
    assert (exposures.time == ratings.timestamp).all()
    days = pd.to_datetime(ratings.timestamp, unit="s").dt.strftime("%Y-%m-%d")
    assert (exposures.request_id == ratings.userId.astype(str) + "-" + days).all()
    assert exposures.request_id.nunique() == 5_708
    movies = pd.read_csv(f"{folder}/movies.csv")
    assert tables["items"]["title"].to_pylist() == movies.title.tolist()
    items = tables["items"].to_pandas()
    years = [re.search(r"\((\d{4})\)\s*$", title) for title in movies.title]
    assert items.year.dropna().tolist() == [int(y[1]) for y in years if y]
    genres = [[] if g == "(no genres listed)" else g.split("|") for g in movies.genres]
    found = tables["items"]["genres"].to_pylist()
    assert [names or [] for names in found] == genres
    words = [", ".join(names) or None for names in genres]
    assert tables["items"]["categories"].to_pylist() == words
    first = [names[0] if names else None for names in genres]
    assert tables["items"]["genre"].to_pylist() == first


def write_1m(folder):
    folder.mkdir(exist_ok=True)
    (folder / "ratings.dat").write_text(
        "1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n"
        "2::661::4\n2::661::good::978298414\n"
    )
    (folder / "movies.dat").write_bytes(
        'a::b::c\n1193::"Star" Wars: Episode IV, A (1977)::Action|Sci-Fi\n'
        "661::Cité des enfants perdus, La (1995)::Adventure\n".encode("latin-1")
    )
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::98107-2117\n")
    return folder


def test_the_1m_set(tmp_path):
    folder = write_1m(tmp_path / "raw")
    result = prepare("movielens", folder, tmp_path / "data", "--test_days=0.01")
    split, sample = result.samples["1", "1-2000-12-31"]
    assert split == "train"
    assert sample["request_time"] == [978_300_760]
    assert sample["candidate_item_id"] == ["1193", "661"]
    assert sample["label"] == [1, 0]
    assert sample["candidate_genres"] == ["Action", "Sci-Fi", "Adventure"]
    assert sample["candidate_year"] == [1977, 1995]
    assert sample["user_gender"] == ["F"]
    assert sample["user_age"] == ["1"]
    assert sample["user_occupation"] == ["10"]
    assert result.rejected == {
        "exposures": {"bad value of rating, not a finite number": 1, "unparsable": 1},
        "items": {"bad value of movieId, not an integer": 1},
    }


def test_users_are_in_the_schema_where_they_are_in_the_folder(tmp_path):
    folder = write_1m(tmp_path)
    names = ["gender", "age", "occupation"]
    assert [f.name for f in SOURCE.schema(str(folder)).user] == names
    (folder / "users.dat").unlink()
    assert SOURCE.schema(str(folder)).user == ()
    assert [f.name for f in SOURCE.schema().user] == names
    (folder / "movies.dat").unlink()
    message = (
        "no 'movies.csv' or 'movies.dat'.*obtained from https://grouplens.*Found: ra"
    )
    with pytest.raises(FileNotFoundError, match=message):
        SOURCE.shards(str(folder), SOURCE.schema())
