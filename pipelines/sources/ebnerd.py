"""EB-NeRD: what readers of a Danish newspaper were shown, and what they clicked.

Obtained: the Ekstra Bladet News Recommendation Dataset, https://recsys.eb.dk; a small
subset of its files comes with the tests of github.com/ebanalyse/ebnerd-benchmark.

Licence: of the subset, MIT (with it); of the whole data set, the publisher's terms.

Read, in the folder given by `--input`: `behaviors.parquet` (impression_id,
impression_time, user_id, article_ids_inview, article_ids_clicked, device_type,
is_subscriber, is_sso_user, gender, age, postcode, next_read_time,
next_scroll_percentage) and `history.parquet` (user_id and the parallel lists
impression_time_fixed, article_id_fixed, read_time_fixed, scroll_percentage_fixed).

What becomes what:

* An impression is a request: `request_id` = impression_id, one exposure an article in
  view, clicked or not. A clicked article that is not in view is a click without
  exposure and rejected; the rest of its impression stays.
* `history.parquet` becomes behaviors with read_time and scroll_percentage. A click of
  the log becomes one with next_read_time and next_scroll_percentage: how the article
  was read *after* the click. Only later requests see them, never the request itself.
* The impression's own read_time, scroll_percentage and article_id are not read: they
  tell about the page around the articles, and how long it was looked at.
* Users: device_type belongs to the request, the other columns to the user, as of the
  latest impression that the file has of him.

Default split: the log's days begin at 07:00 UTC (the first row is minutes later, and
the histories end minutes earlier). Of its seven days five are for training (747 of
1,046 impressions), the sixth for validation (144) and the last for the test (155): the
articles of one day are dead the next, so a split inside the week, and one close behind
the training, asks what a model is asked in service. For another part of EB-NeRD give
the two times yourself.

```
ctr-tf prepare --source ebnerd --input EBNERD --output PREPARED
```
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.schema import Schema
from pipelines.sources.batches import derived
from pipelines.sources.columns import Column, time_column
from pipelines.sources.raw_files import find_file
from pipelines.sources.shards import read_shard, table_shards
from pipelines.sources.source import Batch, Shard, Source, Split

_USER_FEATURES = ("is_subscriber", "is_sso_user", "gender", "age", "postcode")


class Ebnerd(Source):
    """Impressions and histories of EB-NeRD; see the module."""

    name = "ebnerd"
    default_split = Split(
        validation_start=1_677_567_600,  # 2023-02-28 07:00 UTC
        test_start=1_677_654_000,  # 2023-03-01 07:00 UTC
    )

    def shards(self, folder: str, schema: Schema) -> list[Shard]:
        """Row groups of the two files; see `Source.shards`."""
        behaviors = find_file(folder, "behaviors.parquet")
        history = find_file(folder, "history.parquet")
        shards = []
        for table, path in (("exposures", behaviors), ("behaviors", history)):
            columns = _columns(table, schema)
            shards += table_shards(table, [path], columns)
        # A user's rows stand anywhere in the file, so one shard finds the latest.
        users = table_shards("users", [behaviors], _columns("users", schema))
        if users:
            whole = dataclasses.replace(users[0], stop=users[-1].stop)
            shards.append(whole)
        return shards

    def read(self, shard: Shard, schema: Schema) -> Iterator[Batch]:
        """Explodes the lists; see `Source.read`."""
        columns = _columns(shard.table, schema)
        batches = read_shard(shard, columns)
        if shard.table == "users":
            yield _latest_users(list(batches))
        elif shard.table == "behaviors":
            yield from map(_behaviors, batches)
        else:
            yield from map(_exposures, batches)


def _columns(table: str, schema: Schema) -> tuple[Column, ...]:
    user_id = Column("user_id", pa.int64(), required=True)
    ids = pa.list_(pa.int64())
    if table == "exposures":
        return (
            Column("impression_id", pa.int64(), required=True),
            user_id,
            time_column("impression_time", schema),
            Column("article_ids_inview", ids, required=True),
            Column("article_ids_clicked", ids, required=True),
            Column("device_type", pa.int64()),
            Column("next_read_time", pa.float32()),
            Column("next_scroll_percentage", pa.float32()),
        )
    if table == "users":
        time = time_column("impression_time", schema)
        features = (Column(name, pa.int64()) for name in _USER_FEATURES)
        return (user_id, time, *features)
    times = pa.list_(pa.timestamp(time_column("", schema).time_unit))
    return (
        user_id,
        Column("impression_time_fixed", times, required=True),
        Column("article_id_fixed", ids, required=True),
        Column("read_time_fixed", pa.list_(pa.float32()), required=True),
        Column("scroll_percentage_fixed", pa.list_(pa.float32()), required=True),
    )


def _exposures(batch: Batch) -> Batch:
    rows = batch.rows
    parent, item = _explode(rows["article_ids_inview"])
    click_parent, clicked = _explode(rows["article_ids_clicked"])
    shown = _pairs(parent, item)
    clicks = _pairs(click_parent, clicked)
    lost = np.unique(click_parent[~np.isin(clicks, shown)])
    empty = np.setdiff1d(np.arange(len(rows)), parent)
    rejected = [
        *batch.rejected,
        *batch.reject(lost, "click without exposure"),
        *batch.reject(empty, "no candidates"),
    ]
    columns = {
        "user_id": "user_id",
        "time": "impression_time",
        "request_id": "impression_id",
        "device_type": "device_type",
        "behavior_read_time": "next_read_time",
        "behavior_scroll_percentage": "next_scroll_percentage",
    }
    take = pa.array(parent)
    table = {
        name: rows[column].take(take)
        for name, column in columns.items()
        if column in rows.column_names
    }
    table["item_id"] = item
    table["click"] = np.isin(shown, clicks).astype(np.int8)
    return derived(batch, pa.table(table), parent, rejected)


def _behaviors(batch: Batch) -> Batch:
    names = {
        "time": "impression_time_fixed",
        "item_id": "article_id_fixed",
        "read_time": "read_time_fixed",
        "scroll_percentage": "scroll_percentage_fixed",
    }
    lengths = [
        pc.list_value_length(batch.rows[column]).to_numpy() for column in names.values()
    ]
    fine = np.all([length == lengths[0] for length in lengths], axis=0)
    rejected = batch.rejected + batch.reject(
        np.flatnonzero(~fine), "lists of unequal lengths"
    )
    rows = batch.rows.filter(pa.array(fine))
    flat = {name: pc.list_flatten(rows[column]) for name, column in names.items()}
    for name in ("read_time", "scroll_percentage"):
        flat[name] = pc.if_else(pc.is_nan(flat[name]), None, flat[name])
    flat["time"] = flat["time"].cast(pa.int64())
    parent = np.repeat(np.arange(len(rows)), lengths[0][fine])
    table = pa.table({"user_id": rows["user_id"].take(pa.array(parent)), **flat})
    good = pc.and_(pc.is_valid(table["time"]), pc.is_valid(table["item_id"]))
    kept = good.to_numpy()
    numbered = derived(batch, table, np.flatnonzero(fine)[parent], rejected)
    numbered.rejected += numbered.reject(np.flatnonzero(~kept), "missing field")
    return derived(
        numbered, table.filter(good), np.flatnonzero(kept), numbered.rejected
    )


def _latest_users(batches: list[Batch]) -> Batch:
    rows = pa.concat_tables([batch.rows for batch in batches])
    numbers = np.concatenate([batch.numbers() for batch in batches])
    order = np.argsort(-rows["impression_time"].to_numpy(), kind="stable")
    _, first = np.unique(rows["user_id"].to_numpy()[order], return_index=True)
    latest = np.sort(order[first])
    table = rows.drop_columns("impression_time").take(pa.array(latest))
    # The same rows are rejected, once, where they are read as exposures.
    return Batch("users", table, batches[0].origin, row_numbers=numbers[latest])


def _explode(lists: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Row and value of every value that is not null."""
    parent = pc.list_parent_indices(lists).to_numpy()
    value = pc.list_flatten(lists)
    valid = pc.is_valid(value).to_numpy()
    return parent[valid], value.drop_null().to_numpy()


def _pairs(parent: np.ndarray, item: np.ndarray) -> np.ndarray:
    """One integer a (row, article); articles' numbers lie below 2^40."""
    return (parent << 40) + item
