"""KuaiVideo: videos of Kuaishou, clicked or passed over, with long click sequences.

Obtained: https://huggingface.co/datasets/reczoo/KuaiVideo_XLong (also KuaiVideo_x2),
made from the data of the China MM 2018 user interest modeling challenge.

Licence: the page names none; ask the challenge's host, Kuaishou, before other use than
research.

Layout, as the benchmark that publishes it (github.com/reczoo/LongCTR) reads it:

    train.parquet, valid.parquet, test.parquet: one row a video shown
        user_index, item_index, seq_len, is_click
    user_info.parquet: one row a user, in the order of user_index, from 0
        full_item_seq, the item_index of his behaviors, clicks supposedly, oldest first
    item_info.parquet: one row a video, in the order of item_index, row 0 for padding
        item_index, item_id, image_emb_dim64

`seq_len` tells how much of the sequence lies before the row. There are no times.

Read, in the folder given by `--input`: all files but `item_info.parquet` (item_id is
item_index after rare videos became one, which the job's vocabularies do themselves;
features of items are single values here, so the picture's embedding is not used).

What becomes what:

* Times are made up from the order, one day a click: the click at place p of a sequence
  has the time `2100-01-01 + (p - q) days`, where q is the first `seq_len` that the user
  has in the test. So all gaps are equal, every click has the same hour, and the test
  begins for all users at the same time, right behind what was before. Hours, weekends
  and counters by days carry no other sense than order; GAP-Net's views are to be cut by
  count (`model.view_cut=count`).
* A row is an exposure and a request of its own at the time of place `seq_len`, that of
  the first click it does not know of. (To put the rows between two clicks into one
  slate would tell the label: the last one is the click.) Rows of `train` and `valid`
  that know as many clicks as the user's first test row are one second before the test.
* `full_item_seq` becomes behaviors. A clicked row is one of them already.

Default split: the test is `test.parquet`. Validation is the latest tenth of all rows
before it, rather than `valid.parquet`.

```
ctr-tf prepare --source kuaivideo --input KUAIVIDEO --output PREPARED
```
"""

import posixpath
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.schema import Schema
from ctr_tf.time import DAY
from pipelines.sources.batches import derived
from pipelines.sources.columns import Column
from pipelines.sources.raw_files import find_file, join
from pipelines.sources.shards import read_shard, table_shards
from pipelines.sources.source import Batch, Shard, Source, Split

TEST_START = 4_102_444_800  # 2100-01-01
_OBTAINED = "https://huggingface.co/datasets/reczoo/KuaiVideo_XLong"
_TEST, _USERS = "test.parquet", "user_info.parquet"
_PLACE = (
    Column("user_index", pa.int64(), required=True),
    Column("seq_len", pa.int64(), required=True),
)
_COLUMNS = {
    "exposures": (
        *_PLACE,
        Column("item_index", pa.int64(), required=True),
        Column("is_click", pa.int8(), required=True),
    ),
    "behaviors": (Column("full_item_seq", pa.list_(pa.int64()), required=True),),
}


class KuaiVideo(Source):
    """Exposures and click sequences of KuaiVideo_XLong; see the module."""

    name = "kuaivideo"
    ignored = ("item_info.parquet",)
    default_split = Split(test_start=TEST_START)

    def shards(self, folder: str, schema: Schema) -> list[Shard]:
        """Row groups of the files; see `Source.shards`."""
        shards = []
        for table, names in (
            ("exposures", ("train.parquet", "valid.parquet", _TEST)),
            ("behaviors", (_USERS,)),
        ):
            paths = [find_file(folder, name, _OBTAINED) for name in names]
            shards += table_shards(table, paths, _COLUMNS[table])
        return shards

    def read(self, shard: Shard, schema: Schema) -> Iterator[Batch]:
        """Makes up the times; see `Source.read`."""
        lengths, starts = _users(posixpath.dirname(shard.path))
        for batch in read_shard(shard, _COLUMNS[shard.table]):
            if shard.table == "exposures":
                yield _exposures(batch, lengths, starts)
            else:
                yield _behaviors(batch, starts)


def _users(folder: str) -> tuple[np.ndarray, np.ndarray]:
    """Length of each user's sequence, -1 where unknown, and where his test begins."""
    columns = _COLUMNS["behaviors"]
    numbers, counts = [], []
    for batch in _read_all(join(folder, _USERS), columns):
        numbers.append(batch.numbers() - 1)
        counts.append(pc.list_value_length(batch.rows["full_item_seq"]).to_numpy())
    user = np.concatenate([*numbers, np.zeros(0, np.int64)])
    lengths = np.full(user.max(initial=-1) + 1, -1)
    lengths[user] = np.concatenate([*counts, np.zeros(0, np.int64)])
    starts = lengths + 1
    for batch in _read_all(join(folder, _TEST), _PLACE):
        user, place = (batch.rows[column.name].to_numpy() for column in _PLACE)
        known = _known(user, place, lengths)
        np.minimum.at(starts, user[known], place[known])
    return lengths, starts


def _read_all(path: str, columns: tuple[Column, ...]) -> Iterator[Batch]:
    for shard in table_shards("", [path], columns):
        yield from read_shard(shard, columns)


def _known(user: np.ndarray, place: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Whether each row's user has a sequence, and its place is one in it."""
    inside = (user >= 0) & (user < len(lengths))
    length = np.full(len(user), -1)
    length[inside] = lengths[user[inside]]
    return (place >= 0) & (place <= length)


def _exposures(batch: Batch, lengths: np.ndarray, starts: np.ndarray) -> Batch:
    user, place = (batch.rows[column.name].to_numpy() for column in _PLACE)
    known = _known(user, place, lengths)
    unknown = batch.reject(np.flatnonzero(~known), "no such place in user_info.parquet")
    rows, user, place = batch.rows.filter(pa.array(known)), user[known], place[known]
    time = TEST_START + (place - starts[user]) * DAY
    if batch.origin != _TEST:
        time = np.minimum(time, TEST_START - 1)
    number = pa.array(batch.numbers()[known]).cast(pa.string())
    table = pa.table(
        {
            "user_id": user,
            "time": time,
            "item_id": rows["item_index"],
            "click": rows["is_click"],
            "request_id": pc.binary_join_element_wise(batch.origin, number, ":"),
        }
    )
    return derived(batch, table, known, batch.rejected + unknown)


def _behaviors(batch: Batch, starts: np.ndarray) -> Batch:
    sequences = batch.rows["full_item_seq"]
    length = pc.list_value_length(sequences).to_numpy()
    parent = np.repeat(np.arange(len(length)), length)
    place = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    user = batch.numbers()[parent] - 1
    table = pa.table(
        {
            "user_id": user,
            "time": TEST_START + (place - starts[user]) * DAY,
            "item_id": pc.list_flatten(sequences),
        }
    )
    return derived(batch, table, parent)
