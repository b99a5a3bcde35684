"""Alibaba's display ads: what users of Taobao were shown, and all else they did there.

Obtained: https://tianchi.aliyun.com/dataset/56 ("Ad Display/Click Data on Taobao.com"),
after logging in and agreeing to its terms.

Licence: the terms of use shown there (research, not commercial, no redistribution).

Layout: four CSV files with a header line; a missing value is empty or NULL.

    raw_sample.csv    26.6 million ads shown, 2017-05-06 to 05-13
        user, time_stamp, adgroup_id, pid, nonclk, clk
    ad_feature.csv    846,811 ads
        adgroup_id, cate_id, campaign_id, customer, brand, price
    user_profile.csv  1,061,768 users (more were shown ads)
        userid, cms_segid, cms_group_id, final_gender_code, age_level, pvalue_level,
        shopping_level, occupation, new_user_class_level
    behavior_log.csv  723 million behaviors, 2017-04-22 to 05-13
        user, time_stamp, btag, cate, brand

Read, in the folder given by `--input`: all of them, all columns but nonclk, which is
1 - clk.

What becomes what:

* A row of `raw_sample` is an exposure, with the place it was shown at, `pid`. The log
  has no request ids; see the schema on `session_gap`.
* A row of `behavior_log` is a behavior with its action, `btag`: pv, cart, fav or buy.
  The log names no product, only its category and brand, and ads appear in it as
  products do. The pair of both is the behavior's item: `-(cate << 32 | brand) - 1`,
  below zero, so that it meets no ad. What a behavior and a candidate have in common
  shows in `cate_id` and `brand`. Of behaviors of a user with the same second, category
  and brand the first is kept.
* A clicked ad becomes a behavior, too, with the ad as its item and "click" as action.
* The behaviors run on through the days of the ads; a sample has those strictly before
  its request.

Default split: the last day, 2017-05-13 local time, is the test, as in the work that
uses this set; the day before is for validation, six days are for training.

```
ctr-tf prepare --source alibaba --input TIANCHI56 --output PREPARED
```
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.schema import Schema
from pipelines.sources.columns import Column, canonical_columns, time_column
from pipelines.sources.raw_files import find_file
from pipelines.sources.shards import read_shard, table_shards
from pipelines.sources.source import Batch, Shard, Source, Split

_OBTAINED = "https://tianchi.aliyun.com/dataset/56"
_FILES = {
    "exposures": "raw_sample.csv",
    "behaviors": "behavior_log.csv",
    "users": "user_profile.csv",
    "items": "ad_feature.csv",
}
_NAMES = {
    "exposures": {
        "user": "user_id",
        "time_stamp": "time",
        "adgroup_id": "item_id",
        "clk": "click",
    },
    "behaviors": {
        "user": "user_id",
        "time_stamp": "time",
        "btag": "action",
        "cate": "cate_id",
    },
    "users": {"userid": "user_id"},
    "items": {"adgroup_id": "item_id"},
}


class Alibaba(Source):
    """Ads and behaviors of Tianchi 56; see the module."""

    name = "alibaba"
    default_split = Split(
        validation_start=1_494_518_400,  # 2017-05-12 00:00, UTC+8
        test_start=1_494_604_800,  # 2017-05-13 00:00, UTC+8
    )

    def shards(self, folder: str, schema: Schema) -> list[Shard]:
        """Byte ranges of the four files; see `Source.shards`."""
        shards = []
        for table, name in _FILES.items():
            path = find_file(folder, name, _OBTAINED)
            columns = _columns(table, schema)
            shards += table_shards(table, [path], columns)
        return shards

    def read(self, shard: Shard, schema: Schema) -> Iterator[Batch]:
        """Gives the columns their names; see `Source.read`."""
        columns, names = _columns(shard.table, schema), _NAMES[shard.table]
        for batch in read_shard(shard, columns):
            rows = batch.rows
            batch.rows = rows.rename_columns(
                [names.get(name, name) for name in rows.column_names]
            )
            if shard.table == "behaviors":
                batch.rows = batch.rows.append_column("item_id", _product(rows))
            elif shard.table == "exposures":
                click = pa.repeat("click", len(rows))
                batch.rows = batch.rows.append_column("behavior_action", click)
            yield batch


def _columns(table: str, schema: Schema) -> tuple[Column, ...]:
    time, nulls = time_column("time_stamp", schema), schema.null_values

    def column(name, kind=None, required=True, **more):
        kind = kind or pa.int64()
        return Column(name, kind, required, null_values=nulls, **more)

    if table == "exposures":
        return (
            column("user"),
            time,
            column("adgroup_id"),
            column("pid", pa.string(), required=False),
            column("clk", pa.int8(), says_click=True),
        )
    if table == "behaviors":
        return (
            column("user"),
            time,
            column("btag", pa.string()),
            column("cate"),
            column("brand", required=False),
        )
    key = column("userid" if table == "users" else "adgroup_id")
    return (key, *canonical_columns(table, schema, pa.int64())[1:])


def _product(rows: pa.Table) -> pa.Array:
    """The item of a behavior: one negative number a pair of category and brand."""
    brand = np.zeros(len(rows), np.int64)
    if "brand" in rows.column_names:
        brand = pc.fill_null(rows["brand"], 0).to_numpy()
    return pa.array(-((rows["cate"].to_numpy() << 32) | brand) - 1)
