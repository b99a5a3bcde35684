"""MovieLens: ratings of movies, read as clicks.

Obtained: https://grouplens.org/datasets/movielens/ (1M, 10M, 20M, 25M, 32M,
latest-small or latest).

Licence: GroupLens' own, in the set's README: research, not commercial, no
redistribution without permission.

Layout: 20M and all later sets are CSV files with a header line. 1M and 10M are the same
columns in `.dat` files without one, values separated by "::", 1M in Latin-1; 1M alone
has users.

    ratings.csv, ratings.dat  userId, movieId, rating, timestamp
    movies.csv, movies.dat    movieId, title, genres
    users.dat                 userId, gender, age, occupation, zip code
    tags, links, genome-scores, genome-tags

Read, in the folder given by `--input`: ratings and movies, and `users.dat` if it is
there, without zip codes.

What becomes what:

* A rating is an exposure with its real outcome, click = rating at least 4. What a user
  rated on one local day is one request, `<userId>-<day>`; the request time is that of
  the day's first rating, so that nothing rated that day is in the request's history.
  A candidate's own time stays that of its rating: it orders the behaviors.
* A click becomes a behavior with its rating (4, 4.5 or 5 stars).
* Items: genres, the first of them, and the year in the title's parentheses. Where the
  job is given a `--tokenizer`, texts of the schema are their titles, whole, and their
  categories, the genres in words ("Adventure, Children").
* Users: gender, age (1, 18, 25, …: the range that begins there) and occupation (a
  number). Where `users.dat` is not there, these features are left out of the schema.

Times are those of entry: many rows share user and second, half of the users entered
everything within an hour, and slates of hundreds of candidates are real. Nobody was
*shown* these movies, so that what a model learns here is which of the movies that a
user chose to rate he rates well. The split is by time (the latest tenth for the test,
the tenth before it for validation); most users of the test are then new to the model.

```
ctr-tf prepare --source movielens --input MOVIELENS --output PREPARED
ctr-tf prepare --source movielens --input MOVIELENS --output PREPARED --tokenizer LM
```

The source `movielens_ratings` has low ratings in the histories as well.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.schema import Schema
from ctr_tf.time import DAY, local_time
from pipelines.sources.columns import Column, time_column
from pipelines.sources.raw_files import join, list_folder, missing_file
from pipelines.sources.shards import read_shard, table_shards
from pipelines.sources.source import Batch, Shard, Source
from pipelines.sources.text import CSV, Dialect

MIN_CLICK_RATING = 4.0
_OBTAINED = "https://grouplens.org/datasets/movielens/"
_FILES = {"exposures": "ratings", "items": "movies", "users": "users"}
_ENDINGS = (".csv", ".dat")
_USERS = "users.dat"
_NO_GENRES = "(no genres listed)"


class MovieLens(Source):
    """Ratings, movies and users; see the module."""

    name = "movielens"
    ignored = ("tags.*", "links.*", "genome-*")

    def schema(self, folder: str | None = None) -> Schema:
        """The source's schema, without users' features where the folder has none."""
        schema = super().schema()
        if folder is None or _USERS in _names(folder):
            return schema
        features = tuple(f for f in schema.features if f.role != "user")
        return dataclasses.replace(schema, features=features)

    def shards(self, folder: str, schema: Schema) -> list[Shard]:
        """Byte ranges of the files; see `Source.shards`."""
        shards, found = [], _names(folder)
        for table in ("exposures", "items"):
            names = [_FILES[table] + ending for ending in _ENDINGS]
            present = [name for name in names if name in found]
            if not present:
                what = f"'{names[0]}' or '{names[1]}'"
                raise missing_file(folder, what, found, _OBTAINED)
            shards += _shards(table, join(folder, present[0]), schema)
        if _USERS in found:
            shards += _shards("users", join(folder, _USERS), schema)
        return shards

    def read(self, shard: Shard, schema: Schema) -> Iterator[Batch]:
        """Turns ratings into clicks; see `Source.read`."""
        columns = _columns(shard.table, schema)
        dialect = _dialect(shard.path, columns)
        for batch in read_shard(shard, columns, dialect):
            if shard.table == "exposures":
                batch.rows = _exposures(batch.rows, schema.zone)
            elif shard.table == "items":
                batch.rows = _items(batch.rows)
            else:
                names = ["user_id", *batch.rows.column_names[1:]]
                batch.rows = batch.rows.rename_columns(names)
            yield batch


def _names(folder: str) -> list[str]:
    return [info.base_name for info in list_folder(folder)]


def _shards(table: str, path: str, schema: Schema) -> list[Shard]:
    columns = _columns(table, schema)
    dialect = _dialect(path, columns)
    return table_shards(table, [path], columns, dialect=dialect)


def _dialect(path: str, columns: tuple[Column, ...]) -> Dialect:
    if path.lower().endswith(".csv"):
        return CSV
    # Latin-1 is read without fault whatever the bytes are; ids and numbers are ASCII.
    names = tuple(column.name for column in columns)
    return Dialect(names, separator="::", quotes=False, encoding="latin-1")


def _columns(table: str, schema: Schema) -> tuple[Column, ...]:
    movie_id = Column("movieId", pa.int64(), required=True)
    user_id = Column("userId", pa.int64(), required=True)
    if table == "items":
        texts = (Column(name, pa.string()) for name in ("title", "genres"))
        return (movie_id, *texts)
    if table == "users":
        numbers = (Column(name, pa.int64()) for name in ("age", "occupation"))
        gender, zip_code = (Column(name, pa.string()) for name in ("gender", "zip"))
        return (user_id, gender, *numbers, zip_code)
    return (
        user_id,
        movie_id,
        Column("rating", pa.float32(), required=True),
        time_column("timestamp", schema),
    )


def _exposures(rows: pa.Table, zone: int | str) -> pa.Table:
    time = rows["timestamp"].to_numpy()
    day = pa.array(local_time(time, zone) // DAY).cast(pa.int32()).cast(pa.date32())
    request_id = pc.binary_join_element_wise(
        rows["userId"].cast(pa.string()), day.cast(pa.string()), "-"
    )
    click = rows["rating"].to_numpy() >= MIN_CLICK_RATING
    return pa.table(
        {
            "user_id": rows["userId"],
            "time": time,
            "item_id": rows["movieId"],
            "click": click.astype(np.int8),
            "request_id": request_id,
            "behavior_rating": rows["rating"],
        }
    )


def _items(rows: pa.Table) -> pa.Table:
    year = pc.extract_regex(rows["title"], r"\((?P<year>\d{4})\)\s*$")
    none = pc.equal(rows["genres"], _NO_GENRES)
    genres = pc.if_else(none, pa.scalar(None, pa.string()), rows["genres"])
    genre = pc.extract_regex(genres, r"^(?P<genre>[^|]*)")
    return pa.table(
        {
            "item_id": rows["movieId"],
            "title": rows["title"],
            "categories": pc.replace_substring(genres, "|", ", "),
            "genre": pc.struct_field(genre, "genre"),
            "genres": pc.split_pattern(genres, "|"),
            "year": pc.struct_field(year, "year").cast(pa.int64()),
        }
    )
