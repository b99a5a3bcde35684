"""KuaiRand-Pure: short videos shown one after the other, watched or passed over.

Obtained: https://kuairand.com; the files read here are a processed copy of its log of
2022-04-22 to 05-08 ("standard" policy).

Licence: CC BY-SA 4.0.

Read, in the folder given by `--input`: `val.parquet` (until 2022-04-30) and
`test.parquet` (from 2022-05-01 on): user_id, video_id, time_ms, is_click, long_view,
is_like, tab; `user_sequences.parquet`: user_id, history_len, last_time_ms, watch_seq,
like_seq, long_watch_seq; `user_features_pure.csv`; `video_features_basic_pure.csv`.

What becomes what:

* A row of `val` or `test` is an exposure with the labels click, long_view and like.
  The log has no request ids; see the schema on `session_gap`. A clicked row becomes a
  behavior whose action is like, long_view or click, the first that holds.
* The log has 2.6 % of its rows twice (same user, video and millisecond, nearly always
  alike in everything else); the job merges them.
* `watch_seq` becomes behaviors: a user's latest 50 views before the exposures, in
  order, but *without times*. Only the last one's is known, `last_time_ms`, and that
  all `history_len` of them happened since the log began on 2022-04-08. So they get
  times that run back evenly from the last one, in steps of the user's mean gap
  `(last_time_ms - 2022-04-08) / history_len`. This keeps their order and their rough
  age and invents no sessions: all gaps of a user are equal. The local hour and weekend
  of these behaviors carry no information, except for the last one's.
  Their action is like or long_view where the view is in the list of that name (the
  lists are in order too and are matched from the end), else watch: shown at least; the
  file does not say whether it was clicked.
* Items and users: the two CSV files, without what identifies (music_id) or hardly
  varies.

Default split: the test begins on 2022-05-01 local time, with `test.parquet` (the two
files overlap by some minutes there); the day before is for validation.

```
ctr-tf prepare --source kuairand --input KUAIRAND --output PREPARED
```
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.schema import Schema
from pipelines.sources.batches import derived
from pipelines.sources.columns import Column, canonical_columns, time_column
from pipelines.sources.raw_files import find_file
from pipelines.sources.shards import read_shard, table_shards
from pipelines.sources.source import Batch, Shard, Source, Split

LOG_START_MS = 1_649_347_200_000  # 2022-04-08 00:00, UTC+8
_TABLES = {
    "exposures": ("val.parquet", "test.parquet"),
    "behaviors": ("user_sequences.parquet",),
    "users": ("user_features_pure.csv",),
    "items": ("video_features_basic_pure.csv",),
}
_LABELS = {"click": "is_click", "long_view": "long_view", "like": "is_like"}


class KuaiRand(Source):
    """The processed copy of KuaiRand-Pure; see the module."""

    name = "kuairand"
    default_split = Split(
        validation_start=1_651_248_000,  # 2022-04-30 00:00, UTC+8
        test_start=1_651_334_400,  # 2022-05-01 00:00, UTC+8
    )

    def shards(self, folder: str, schema: Schema) -> list[Shard]:
        """Row groups and byte ranges of the five files; see `Source.shards`."""
        shards = []
        for table, names in _TABLES.items():
            paths = [find_file(folder, name) for name in names]
            shards += table_shards(table, paths, _columns(table, schema))
        return shards

    def read(self, shard: Shard, schema: Schema) -> Iterator[Batch]:
        """Gives the columns their names; see `Source.read`."""
        for batch in read_shard(shard, _columns(shard.table, schema)):
            if shard.table == "exposures":
                batch = _exposures(batch)
            elif shard.table == "behaviors":
                batch = _behaviors(batch)
            elif shard.table == "items":
                names = ["item_id", *batch.rows.column_names[1:]]
                rows = batch.rows.rename_columns(names)
                if "tag" in names:
                    tags = pc.split_pattern(rows["tag"], ",")
                    rows = rows.append_column("tags", tags)
                batch.rows = rows
            yield batch


def _columns(table: str, schema: Schema) -> tuple[Column, ...]:
    user_id = Column("user_id", pa.int64(), required=True)
    ids = pa.list_(pa.int64())
    if table == "exposures":
        return (
            user_id,
            time_column("time_ms", schema),
            Column("video_id", pa.int64(), required=True),
            *(
                Column(name, pa.int8(), True, says_click=name == "is_click")
                for name in _LABELS.values()
            ),
            Column("tab", pa.int64()),
        )
    if table == "behaviors":
        return (
            user_id,
            Column("history_len", pa.int64(), required=True),
            time_column("last_time_ms", schema),
            Column("watch_seq", ids, required=True),
            Column("like_seq", ids, required=True),
            Column("long_watch_seq", ids, required=True),
        )
    columns = canonical_columns(table, schema, pa.int64())
    if table == "items":
        rest = (column for column in columns[1:] if column.name != "tags")
        return (Column("video_id", pa.int64(), required=True), *rest)
    return columns


def _exposures(batch: Batch) -> Batch:
    rows = batch.rows
    names = {"user_id": "user_id", "time": "time_ms", "item_id": "video_id", **_LABELS}
    table = {name: rows[column] for name, column in names.items()}
    if "tab" in rows.column_names:
        table["tab"] = rows["tab"]
    table["behavior_action"] = pc.case_when(
        pc.make_struct(
            pc.equal(rows["is_like"], 1),
            pc.equal(rows["long_view"], 1),
        ),
        pa.scalar("like"),
        pa.scalar("long_view"),
        pa.scalar("click"),
    )
    return derived(batch, pa.table(table))


def _behaviors(batch: Batch) -> Batch:
    rows = batch.rows
    length = pc.list_value_length(rows["watch_seq"]).to_numpy()
    parent = np.repeat(np.arange(len(rows)), length)
    from_end = np.repeat(np.cumsum(length), length) - 1 - np.arange(length.sum())
    last = rows["last_time_ms"].to_numpy()
    views = np.maximum(rows["history_len"].to_numpy(), np.maximum(length, 1))
    step = np.maximum(last - LOG_START_MS, 0) // views
    item = pc.list_flatten(rows["watch_seq"])
    item_list = np.split(item.to_numpy(), np.cumsum(length)[:-1])
    action = np.zeros(len(item), np.int64)
    for level, column in enumerate(("long_watch_seq", "like_seq"), 1):
        marked = map(_matched, item_list, rows[column].to_pylist())
        action[np.concatenate([*marked, np.zeros(0, bool)])] = level
    table = pa.table(
        {
            "user_id": rows["user_id"].take(pa.array(parent)),
            "time": last[parent] - from_end * step[parent],
            "item_id": item,
            "action": pa.array(["watch", "long_view", "like"]).take(pa.array(action)),
        }
    )
    return derived(batch, table, parent)


def _matched(views: np.ndarray, some: Sequence[int]) -> np.ndarray:
    """Which of the views are the last of `some`, both oldest first."""
    marked = np.zeros(len(views), bool)
    rest = list(some)
    for position in range(len(views) - 1, -1, -1):
        if not rest:
            break
        if views[position] == rest[-1]:
            marked[position] = True
            rest.pop()
    return marked
