"""MovieLens: ratings of movies, read as clicks.

Obtained: https://grouplens.org/datasets/movielens/ (any of the sets with `ratings.csv`
and `movies.csv`: latest-small, latest, 20M, 25M, 32M).

Licence: GroupLens' own, in the set's README: research, not commercial, no
redistribution without permission.

Read, in the folder given by `--input`: `ratings.csv` (userId, movieId, rating,
timestamp) and `movies.csv` (movieId, title, genres).

What becomes what:

* A rating is an exposure with its real outcome, click = rating at least 4. What a user
  rated on one local day is one request, `<userId>-<day>`; the request time is that of
  the day's first rating, so that nothing rated that day is in the request's history.
  A candidate's own time stays that of its rating: it orders the behaviors.
* A click becomes a behavior with its rating (4, 4.5 or 5 stars).
* Items: genres, the first of them, and the year in the title's parentheses.

Times are those of entry: many rows share user and second, half of the users entered
everything within an hour, and slates of hundreds of candidates are real. Nobody was
*shown* these movies, so that what a model learns here is which of the movies that a
user chose to rate he rates well. The split is by time (the latest tenth for the test,
the tenth before it for validation); most users of the test are then new to the model.

```
ctr-tf prepare --source movielens --input MOVIELENS --output PREPARED
```
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.schema import Schema
from ctr_tf.time import DAY
from pipelines.sources import files
from pipelines.sources.columns import Column, time_column
from pipelines.sources.source import Batch, Shard, Source

MIN_CLICK_RATING = 4.0
_FILES = {"exposures": "ratings.csv", "items": "movies.csv"}


class MovieLens(Source):
    """Ratings and movies; see the module."""

    name = "movielens"

    def shards(self, folder: str, schema: Schema) -> list[Shard]:
        """Byte ranges of the two files; see `Source.shards`."""
        shards = []
        for table, name in _FILES.items():
            path = files.find_file(folder, name)
            shards += files.table_shards(table, [path], _columns(table, schema))
        return shards

    def read(self, shard: Shard, schema: Schema) -> Iterator[Batch]:
        """Turns ratings into clicks; see `Source.read`."""
        for batch in files.read_shard(shard, _columns(shard.table, schema)):
            if shard.table == "exposures":
                batch.rows = _exposures(batch.rows, schema.utc_offset)
            else:
                batch.rows = _items(batch.rows)
            yield batch


def _columns(table: str, schema: Schema) -> tuple[Column, ...]:
    movie_id = Column("movieId", pa.int64(), required=True)
    if table == "items":
        texts = (Column(name, pa.string()) for name in ("title", "genres"))
        return (movie_id, *texts)
    return (
        Column("userId", pa.int64(), required=True),
        movie_id,
        Column("rating", pa.float32(), required=True),
        time_column("timestamp", schema),
    )


def _exposures(rows: pa.Table, utc_offset: int) -> pa.Table:
    time = rows["timestamp"].to_numpy()
    day = pa.array((time + utc_offset) // DAY).cast(pa.int32()).cast(pa.date32())
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
    genre = pc.extract_regex(rows["genres"], r"^(?P<genre>[^|]*)")
    return pa.table(
        {
            "item_id": rows["movieId"],
            "genre": pc.struct_field(genre, "genre"),
            "genres": rows["genres"],
            "year": pc.struct_field(year, "year").cast(pa.int64()),
        }
    )
