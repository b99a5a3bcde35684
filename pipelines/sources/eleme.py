"""Ele.me: dishes and shops shown by a delivery service, each with the user's history.

Obtained: https://tianchi.aliyun.com/dataset/131047 ("Recommendation Data From Ele.me"),
after logging in and agreeing to its terms; unzip what you download.

Licence: CC BY-NC-SA 4.0, says the page; see the terms shown there.

Layout: files `D<day>_<part>.csv`, eight days in ten parts each (146 million rows), no
header line, comma-separated, 39 columns; a list is up to 50 values joined by ";", the
latest behavior first:

    label,
    user_id, gender, visit_city, avg_price, is_supervip, ctr_30, ord_30, total_amt_30,
    shop_id, item_id, city_id, district_id, shop_aoi_id, shop_geohash_6,
    shop_geohash_12, brand_id, category_1_id, merge_standard_food_id, rank_7, rank_30,
    rank_90,
    shop_id_list, item_id_list, category_1_id_list, merge_standard_food_id_list,
    brand_id_list, price_list, shop_aoi_id_list, shop_geohash6_list, timediff_list,
    hours_list, time_type_list, weekdays_list,
    times, hours, time_type, weekdays, geohash12

Read, in the folder given by `--input`: every such file that is there, all columns but
geohash12 and shop_geohash_12, which nearly name one place each.

What becomes what:

* A row is an exposure at `times`, unix seconds. The rows of one user and second are one
  request. What the row says of the user is as of that moment (30-day counts among it)
  and becomes context of the request.
* The lists are what the user clicked in the 30 days before *this* row, so every request
  has a history of its own: `user_id` of the samples is `<user_id>:<times>`, and metrics
  by user are metrics by request. Nothing can then come into a history from later rows,
  and nothing is there twice because two rows tell its time a second apart.
* Behaviors have no times, but differences to the request in `timediff_list`, and the
  hour and day of the week on the clock in `hours_list` and `weekdays_list`. With the
  hour of the week, w = 24 weekday + hour, of both,

      h = (w of the request - w of the behavior) mod 168

  hours lie between them, and some weeks, whatever the time zone and wherever the week
  begins. The age of a behavior is its time difference, held to less than an hour around
  the nearest of h, h + 168, h + 2 · 168, … hours; where one of the two is missing the
  other stands alone (h without weeks). So hour and weekday of every behavior come out
  as the lists tell, and the time differences tell the weeks and the minutes.

  The publisher does not say which unit the differences have. Of milliseconds (as public
  code on this set takes them), seconds and minutes it is the one in which most of them
  agree with h.

The whole set has some five billion behaviors: use a cluster, or some of the files.
`--test_days 1` puts the last day into the test, as the publisher means it to be.

```
ctr-tf prepare --source eleme --input ELEME --output PREPARED --test_days 1
```
"""

import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.schema import Schema
from ctr_tf.time import DAY, HOUR
from pipelines.sources.batches import derived
from pipelines.sources.columns import Column, coerce, time_column
from pipelines.sources.raw_files import join, list_folder, missing_file
from pipelines.sources.shards import read_shard, table_shards
from pipelines.sources.source import Batch, Shard, Source
from pipelines.sources.text import Dialect

_OBTAINED = "https://tianchi.aliyun.com/dataset/131047"
_FILE_NAME = re.compile(r"D\d+(_\d+)?\.csv")
_LIST_SEPARATOR = ";"
_UNITS = (0.001, 1.0, 60.0)  # seconds, of the time differences
_WEEK = 7 * DAY
_NAMES = """
label
user_id gender visit_city avg_price is_supervip ctr_30 ord_30 total_amt_30
shop_id item_id city_id district_id shop_aoi_id shop_geohash_6 shop_geohash_12
brand_id category_1_id merge_standard_food_id rank_7 rank_30 rank_90
shop_id_list item_id_list category_1_id_list merge_standard_food_id_list brand_id_list
price_list shop_aoi_id_list shop_geohash6_list timediff_list hours_list time_type_list
weekdays_list times hours time_type weekdays geohash12
""".split()
_DIALECT = Dialect(names=tuple(_NAMES))
# Column of the file → of the exposures, where the two differ.
_RENAMED = {
    "label": "click",
    "times": "time",
    "weekdays": "weekday",
    "shop_geohash_6": "shop_geohash",
}
# Column of the behaviors → list of the file.
_LISTS = {
    "shop_id": "shop_id_list",
    "item_id": "item_id_list",
    "category_1_id": "category_1_id_list",
    "merge_standard_food_id": "merge_standard_food_id_list",
    "brand_id": "brand_id_list",
    "price": "price_list",
    "shop_aoi_id": "shop_aoi_id_list",
    "shop_geohash": "shop_geohash6_list",
    "difference": "timediff_list",
    "hour": "hours_list",
    "time_type": "time_type_list",
    "weekday": "weekdays_list",
}
_LIST_TYPES = {
    "price": pa.float32(),
    "difference": pa.float64(),
    "hour": pa.int64(),
    "weekday": pa.int64(),
}


class Eleme(Source):
    """Exposures and their histories of Tianchi 131047; see the module."""

    name = "eleme"
    user_id_type = pa.string()

    def shards(self, folder: str, schema: Schema) -> list[Shard]:
        """Byte ranges of the files, once for each table; see `Source.shards`."""
        found = [info.base_name for info in list_folder(folder)]
        names = [name for name in found if _FILE_NAME.fullmatch(name)]
        if not names:
            what = "file 'D1_0.csv', 'D1_1.csv', …"
            raise missing_file(folder, what, found, _OBTAINED)
        paths = [join(folder, name) for name in names]
        shards = []
        for table in ("exposures", "behaviors"):
            columns = _columns(table, schema)
            shards += table_shards(table, paths, columns, dialect=_DIALECT)
        return shards

    def read(self, shard: Shard, schema: Schema) -> Iterator[Batch]:
        """Reads the rows as exposures, or takes their lists apart."""
        columns = _columns(shard.table, schema)
        for batch in read_shard(shard, columns, _DIALECT):
            if shard.table == "exposures":
                yield _exposures(batch)
            else:
                yield _behaviors(batch)


def _columns(table: str, schema: Schema) -> tuple[Column, ...]:
    request = (
        Column("user_id", pa.string(), required=True),
        time_column("times", schema),
        Column("weekdays", pa.int64()),
    )
    if table == "behaviors":
        lists = (Column(name, pa.string()) for name in _LISTS.values())
        return (*request, Column("hours", pa.int64()), *lists)
    read_name = {name: column for column, name in _RENAMED.items()}
    features = {
        read_name.get(f.name, f.name): f
        for f in schema.of("item", "candidate", "context")
        if not f.computed
    }
    types = {"int64": pa.int64(), "string": pa.string(), "float32": pa.float32()}
    return (
        Column("label", pa.int8(), required=True, says_click=True),
        *request,
        Column("item_id", pa.string(), required=True),
        *(
            Column(name, types[f.dtype])
            for name, f in features.items()
            if name not in ("item_id", "weekdays")
        ),
    )


def _request(rows: pa.Table) -> pa.Array:
    time = rows["times"].cast(pa.string())
    return pc.binary_join_element_wise(rows["user_id"], time, ":")


def _exposures(batch: Batch) -> Batch:
    rows, request = batch.rows, _request(batch.rows)
    names = [_RENAMED.get(name, name) for name in rows.column_names]
    table = rows.rename_columns(names).drop_columns(["user_id"])
    table = table.append_column("user_id", request)
    return derived(batch, table.append_column("request_id", request))


def _behaviors(batch: Batch) -> Batch:
    rows = batch.rows
    lists = _lists(rows)
    lengths = [
        pc.fill_null(pc.list_value_length(values), 0).to_numpy()
        for values in lists.values()
    ]
    fine = np.all([length == lengths[0] for length in lengths], axis=0)
    # What the reader put aside is put aside once, where it is read as exposures.
    rejected = batch.reject(np.flatnonzero(~fine), "lists of unequal lengths")
    first = _first_rows(_request(rows), fine)
    parent = np.repeat(first, lengths[0][first])
    values = {
        name: pc.list_flatten(column.take(pa.array(first)))
        for name, column in lists.items()
    }
    columns = [
        Column(name, _LIST_TYPES.get(name, pa.string()), name == "item_id")
        for name in _LISTS
    ]
    numbers = batch.numbers()
    table, kept, bad = coerce(
        values,
        columns,
        numbers[parent],
        batch.origin,
        raw=batch.raw,
    )
    parent = np.searchsorted(numbers, kept)
    request = rows.take(pa.array(parent))
    time = request["times"].to_numpy() - _ages(table, request)
    table = table.drop_columns(["difference", "hour"])
    table = table.append_column("user_id", _request(request))
    table = table.append_column("time", pa.array(time, mask=np.isnan(time)))
    return derived(batch, table, parent, rejected + bad)


def _lists(rows: pa.Table) -> dict[str, pa.ChunkedArray]:
    """The lists of each row; null where all of them are empty."""
    texts = [rows[column] for column in _LISTS.values()]
    known = pc.is_valid(pc.coalesce(*texts))
    # An empty text is one missing value if another of the row's texts is not empty.
    return {
        name: pc.split_pattern(
            pc.if_else(known, pc.fill_null(text, ""), None), _LIST_SEPARATOR
        )
        for name, text in zip(_LISTS, texts, strict=True)
    }


def _first_rows(request: pa.ChunkedArray, fine: np.ndarray) -> np.ndarray:
    """Positions of the first fine row of every request, ascending."""
    place = np.flatnonzero(fine)
    codes = pc.dictionary_encode(request.combine_chunks()).indices.to_numpy()
    return place[np.unique(codes[place], return_index=True)[1]]


def _ages(behaviors: pa.Table, requests: pa.Table) -> np.ndarray:
    """Seconds from each behavior to its request, at least 1; see the module.

    Args:
        behaviors: `difference`, `hour`, `weekday`.
        requests: `hours`, `weekdays` of each behavior's request.

    Returns:
        float64, whole numbers; NaN where neither clock nor difference is known.
    """

    def number(values):
        return pc.cast(values, pa.float64()).to_numpy()

    def hour_of_week(weekday, hour):
        return 24 * number(weekday) + number(hour)

    apart = hour_of_week(requests["weekdays"], requests["hours"])
    apart -= hour_of_week(behaviors["weekday"], behaviors["hour"])
    apart = apart * HOUR % _WEEK
    difference = np.abs(number(behaviors["difference"]))
    told, clock = max(
        ((difference * unit, _nearest(difference * unit, apart)) for unit in _UNITS),
        key=lambda pair: np.count_nonzero(np.abs(pair[0] - pair[1]) < HOUR),
    )
    age = np.clip(told, clock - (HOUR - 1), clock + (HOUR - 1))
    age = np.where(np.isnan(clock), told, np.where(np.isnan(told), clock, age))
    return np.maximum(np.ceil(age), 1)


def _nearest(age: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Of `apart` and whole weeks more, what is nearest to `age`; `apart` if unknown."""
    weeks = np.maximum(np.nan_to_num(np.round((age - apart) / _WEEK)), 0)
    return apart + weeks * _WEEK
