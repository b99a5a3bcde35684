"""KuaiRec: short videos one after the other, and how much of each was watched.

Obtained: https://kuairec.com (KuaiRec.zip, version 2.0; its folder `data`).

Licence: CC BY-SA 4.0.

Layout: CSV files with a header line.

    big_matrix.csv    12.5 million views of 7,176 users, 2020-07-05 to 09-05
    small_matrix.csv  4.7 million views: 1,411 users saw (nearly) all of 3,327 videos
        user_id, video_id, play_duration, video_duration, time, date, timestamp,
        watch_ratio
    user_features.csv
        user_id, user_active_degree, is_lowactive_period, is_live_streamer,
        is_video_author, follow_user_num, follow_user_num_range, fans_user_num,
        fans_user_num_range, friend_user_num, friend_user_num_range, register_days,
        register_days_range, onehot_feat0 … onehot_feat17
    item_daily_features.csv  one row a video and day
        video_id, date, author_id, video_type, upload_dt, upload_type, visible_status,
        video_duration, video_width, video_height, music_id, video_tag_id,
        video_tag_name, and 45 counts of the day, show_cnt to cancel_collect_user_num
    item_categories.csv
        video_id, feat ("[27, 9]")
    social_network.csv, kuairec_caption_category.csv

Read, in the folder given by `--input`: `big_matrix.csv`, `small_matrix.csv` if it is
there, `user_features.csv`, `item_daily_features.csv` and `item_categories.csv`.

What becomes what:

* A view is an exposure at `timestamp`, to the millisecond. Its labels are click, the
  video was watched to its end (watch_ratio at least 1), and like, it was watched more
  than twice (watch_ratio above 2), which the publisher proposes for want of a signal.
  There are no request ids; see the schema on `session_gap`.
* A click becomes a behavior with its watch_ratio.
* Some views are there twice, under two dates; the job merges rows with the same user,
  video and timestamp.
* Rows of the small matrix that have no timestamp cannot be used and are rejected. They
  may be more than one in a hundred of all: `--max_rejected_fraction 0.05`, or leave the
  file out of the folder.
* Items: what does not change from day to day, of a video's first row in
  `item_daily_features.csv`, and its tags. The counts of the day are not read: they tell
  of views that lie ahead. The job counts for itself what was known at each moment.

Default split: by time, the latest tenth of the views for the test, the tenth before it
for validation.

```
ctr-tf prepare --source kuairec --input KUAIREC --output PREPARED
```
"""

import dataclasses
import posixpath
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.schema import Schema
from pipelines.sources.batches import derived, first_of_each
from pipelines.sources.columns import Column, canonical_columns
from pipelines.sources.raw_files import find_file, join, list_folder
from pipelines.sources.shards import read_shard, table_shards
from pipelines.sources.source import Batch, Shard, Source

CLICK_RATIO, LIKE_RATIO = 1.0, 2.0
_OBTAINED = "https://kuairec.com"
_VIEWS, _MORE_VIEWS = "big_matrix.csv", "small_matrix.csv"
_USERS, _ITEMS, _TAGS = (
    "user_features.csv",
    "item_daily_features.csv",
    "item_categories.csv",
)
_VIDEO = Column("video_id", pa.int64(), required=True)
_VIEW_COLUMNS = (
    Column("user_id", pa.int64(), required=True),
    _VIDEO,
    Column("timestamp", pa.float64(), required=True),
    Column("watch_ratio", pa.float32(), required=True),
)
_TAG_COLUMNS = (_VIDEO, Column("feat", pa.string()))


class KuaiRec(Source):
    """Views of KuaiRec 2.0; see the module."""

    name = "kuairec"
    read_beside = (_TAGS,)
    ignored = ("social_network.csv", "kuairec_caption_category.csv")

    def shards(self, folder: str, schema: Schema) -> list[Shard]:
        """Byte ranges of the files; one shard for all videos; see `Source.shards`."""

        def find(name):
            return find_file(folder, name, _OBTAINED)

        views = [find(_VIEWS)]
        if _MORE_VIEWS in (info.base_name for info in list_folder(folder)):
            views.append(find(_MORE_VIEWS))
        items = _columns("items", schema)
        days = table_shards("items", [find(_ITEMS)], items)
        table_shards("items", [find(_TAGS)], _TAG_COLUMNS)  # checks it
        return [
            *table_shards("exposures", views, _VIEW_COLUMNS),
            *table_shards("users", [find(_USERS)], _columns("users", schema)),
            # A video's days stand anywhere in the file, so one shard finds the first.
            dataclasses.replace(days[0], stop=days[-1].stop),
        ]

    def read(self, shard: Shard, schema: Schema) -> Iterator[Batch]:
        """Turns views into clicks, days into videos; see `Source.read`."""
        if shard.table == "exposures":
            yield from map(_exposures, read_shard(shard, _VIEW_COLUMNS))
            return
        batches = read_shard(shard, _columns(shard.table, schema))
        if shard.table == "users":
            yield from batches
        else:
            tags = join(posixpath.dirname(shard.path), _TAGS)
            yield from _items(batches, tags)


def _columns(table: str, schema: Schema) -> tuple[Column, ...]:
    columns = canonical_columns(table, schema, pa.int64())
    if table == "items":
        rest = (column for column in columns[1:] if column.name not in ("tag", "tags"))
        return (_VIDEO, *rest)
    return columns


def _exposures(batch: Batch) -> Batch:
    rows = batch.rows
    time = np.round(rows["timestamp"].to_numpy() * 1_000).astype(np.int64)
    ratio = rows["watch_ratio"].to_numpy()
    table = pa.table(
        {
            "user_id": rows["user_id"],
            "time": time,
            "item_id": rows["video_id"],
            "click": (ratio >= CLICK_RATIO).astype(np.int8),
            "like": (ratio > LIKE_RATIO).astype(np.int8),
            "behavior_watch_ratio": ratio,
        }
    )
    return derived(batch, table)


def _items(batches: Iterator[Batch], path: str) -> Iterator[Batch]:
    """One row a video: that of its first day, and its tags."""
    seen = np.zeros(0, np.int64)
    video, tags, rejected = _tags(path)
    for batch in batches:
        item = batch.rows["video_id"].to_numpy()
        new = first_of_each(batch.rows, ("video_id",)) & ~np.isin(item, seen)
        seen = np.union1d(seen, item)
        table = batch.rows.filter(pa.array(new))
        place = pc.index_in(table["video_id"].combine_chunks(), value_set=video)
        tag = pc.extract_regex(tags.take(place), r"^(?P<tag>[^|]*)")
        table = table.rename_columns(["item_id", *table.column_names[1:]])
        table = table.append_column("tag", pc.struct_field(tag, "tag"))
        table = table.append_column("tags", pc.split_pattern(tags.take(place), "|"))
        yield derived(batch, table, new, batch.rejected + rejected)
        rejected = []


def _tags(path: str) -> tuple[pa.Array, pa.Array, list]:
    """The videos, the tags of each joined by "|", and the rows put aside."""
    batches = [
        batch
        for shard in table_shards("items", [path], _TAG_COLUMNS)
        for batch in read_shard(shard, _TAG_COLUMNS)
    ]
    rows = pa.concat_tables([batch.rows for batch in batches]).combine_chunks()
    text = pc.replace_substring_regex(rows["feat"], r"[\[\]\s]", "")
    tags = pc.replace_substring(text, ",", "|")
    rejected = [entry for batch in batches for entry in batch.rejected]
    return rows["video_id"].combine_chunks(), tags.combine_chunks(), rejected
