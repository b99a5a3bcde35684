"""MovieLens, with the movies that a user rated low in his history as well.

Obtained: https://grouplens.org/datasets/movielens/, as for the source `movielens`.

Licence: GroupLens' own, in the set's README: research, not commercial, no
redistribution without permission.

Read, in the folder given by `--input`: what `movielens` reads; see there for the files.

What becomes what: as with `movielens`, but

* A rating below 4 stars is a behavior as well, at its own time and with its rating. It
  stays the exposure without a click that it is. No rating of a request's day is before
  the request, so that a history has nothing of the request's own outcome.
* The schema's line `positive` tells the two apart: clicks, 4 stars and more, are
  positive, the others are not.
* A history keeps twice as many behaviors, for about half of all ratings are below 4.

A line that cannot be read is put aside once, as an exposure.

```
ctr-tf prepare --source movielens_ratings --input MOVIELENS --output PREPARED
```
"""

import dataclasses
from collections.abc import Iterator

import pyarrow.compute as pc

from ctr_tf.schema import Feature, Positive, Schema
from pipelines.sources.batches import derived
from pipelines.sources.movielens import MIN_CLICK_RATING, MovieLens
from pipelines.sources.source import Batch, Shard

_RATING = "rating"
_STEPS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0)


class MovieLensRatings(MovieLens):
    """All ratings in the histories; see the module."""

    name = "movielens_ratings"

    def schema(self, folder: str | None = None) -> Schema:
        """The schema of `movielens`, with low ratings and what tells them apart."""
        schema = MovieLens().schema(folder)
        return dataclasses.replace(
            schema,
            name=self.name,
            features=tuple(map(_with_low_ratings, schema.features)),
            history_length=2 * schema.history_length,
            positive=Positive(_RATING, MIN_CLICK_RATING),
        )

    def shards(self, folder: str, schema: Schema) -> list[Shard]:
        """The ratings twice: as exposures and as behaviors; see `Source.shards`."""
        shards = super().shards(folder, schema)
        ratings = [shard for shard in shards if shard.table == "exposures"]
        return shards + [dataclasses.replace(s, table="behaviors") for s in ratings]

    def read(self, shard: Shard, schema: Schema) -> Iterator[Batch]:
        """Low ratings as behaviors, all else as `movielens`; see `Source.read`."""
        if shard.table != "behaviors":
            yield from super().read(shard, schema)
            return
        exposures = dataclasses.replace(shard, table="exposures")
        for batch in super().read(exposures, schema):
            yield dataclasses.replace(_low_ratings(batch), table="behaviors")


def _with_low_ratings(feature: Feature) -> Feature:
    if (feature.role, feature.name) != ("behavior", _RATING):
        return feature
    return dataclasses.replace(  # type: ignore[call-arg] # it is bucketized
        feature, boundaries=_STEPS, description="stars, 0.5 to 5.0"
    )


def _low_ratings(exposures: Batch) -> Batch:
    """The exposures without a click, for of the others the job makes behaviors."""
    is_low = pc.equal(exposures.rows["click"], 0)
    rows = exposures.rows.filter(is_low)
    rows = rows.select(["user_id", "time", "item_id", f"behavior_{_RATING}"])
    rows = rows.rename_columns([*rows.column_names[:-1], _RATING])
    return derived(exposures, rows, is_low.to_numpy(), rejected=())
