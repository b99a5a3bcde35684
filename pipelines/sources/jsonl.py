"""The general format: four tables as JSON lines, CSV or Parquet, and a schema.

Obtained: from whoever keeps the log; write the four tables as told here.

Licence: the log's own.

Read: the folder given by `--input`. Each table is one file or a folder of files (all
of which are read, those in folders in it, too), named `exposures`, `behaviors`, `users`
or `items` with the ending `.jsonl`, `.csv` or `.parquet`, the first two also with
`.gz`, `.zst` or `.bz2`; a folder of files may also go without ending. Only `exposures`
must be there. Names that begin with "." or "_" are passed over. `docs/data_format.md`
tells the rest. The description of the features is `schema.yaml` in that folder or the
file given by `--schema`.

* exposures: user_id, time, item_id, the labels (click); optional are request_id,
  true_probability, item-, candidate- and context features, behavior_<f>
* behaviors: user_id, time, item_id; optional are item- and behavior features
* users: user_id; optional are user features
* items: item_id; optional are item features

What becomes what: columns are taken by name. An exposure is one candidate of one
request; `request_id` tells which rows belong together (of rows without one, those of
one user closer than the schema's `session_gap` do). A clicked exposure becomes a
behavior of the user, and `behavior_<f>` is what that behavior has as its behavior
feature f. Item features that a row lacks come from `items`. Computed features (hour,
counters, …) are not read.

* Times are integers in the schema's `time_unit`, or timestamps (UTC where they have no
  zone). Labels are 0 or 1 (false or true). Ids and features have the schema's dtype;
  `user_id` is a string unless the schema has it as a user feature.
* Files of events in a folder called by a day, `dt=2023-11-20` (or `ds`, `date`, `day`),
  are not opened where the schema's `horizon` leaves nothing of that day to the samples
  of `--samples_from`.
* null, an absent field, NaN and the schema's `null_values` (the empty string by
  default) mean that the value is missing.
* A feature of several values is a list; in CSV its values are joined by `|`.
* A text row is one line; JSON lines and CSV are UTF-8, CSV has a header line.

An exposure, a behavior, a user and an item as JSON lines:

```
{"request_id": "r1", "user_id": "u1", "time": 1700000000, "item_id": 7, "click": 1}
{"user_id": "u1", "time": 1699990000, "item_id": 8, "action": "view"}
{"user_id": "u1", "age": 31, "tags": ["new", "loyal"]}
{"item_id": 7, "category": "shoes", "price": 12.5}
```

```
ctr-tf prepare --source jsonl --input LOGS --schema LOGS/schema.yaml --output PREPARED
```
"""

import dataclasses
import functools
import logging
from collections.abc import Iterator, Mapping

import pyarrow as pa
from pyarrow import fs

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.schema import USER_KEY, Schema
from pipelines.sources.columns import Column, canonical_columns
from pipelines.sources.raw_files import (
    SUFFIXES,
    RawFile,
    files_below,
    join,
    list_folder,
)
from pipelines.sources.shards import names_of, read_shard, table_shards
from pipelines.sources.source import EVENTS, TABLES, Batch, Shard, Source
from pipelines.splits import nothing_since

_log = logging.getLogger(__name__)


class Jsonl(Source):
    """The general format; see the module."""

    name = "jsonl"
    user_id_type = pa.string()
    _has_click_time = False

    def schema(self, folder: str | None = None) -> Schema:
        """Raises UserError: the schema lies with the log, not with the source."""
        raise UserError(
            "The source 'jsonl' brings no schema: give one by `--schema`, or put "
            "'schema.yaml' into the input folder."
        )

    def shards(self, folder: str, schema: Schema) -> list[Shard]:
        """Divides the tables found in the folder; see `Source.shards`."""
        shards: list[Shard] = []
        firsts: dict[str, Shard] = {}
        for table in TABLES:
            if paths := table_files(folder, table):
                if table == "exposures" and all(file.is_empty for file in paths):
                    raise UserError(
                        f"'{folder}' has no exposures: every file of them is empty. "
                        f"Received: {', '.join(file.path for file in paths)}"
                    )
                found = self._table_shards(table, paths, schema)
                if not found[0].is_old:
                    firsts[table] = found[0]
                shards += found
        self._warn_of_absent(schema, firsts)
        self._warn_of_clicks(schema, firsts["exposures"])
        return shards

    def _table_shards(
        self, table: str, paths: list[RawFile], schema: Schema
    ) -> list[Shard]:
        """Those of files of earlier days than need be read are old, and not opened."""
        columns = self.columns(table, schema)
        split = functools.partial(table_shards, table, columns=columns)
        by_age: tuple[list[RawFile], list[RawFile]] = [], []
        for file in paths:
            by_age[table in EVENTS and file.is_before(self.since)].append(file)
        new, old = by_age
        if table == "exposures" and self.since:
            if not new:
                raise nothing_since(self.since)
            self._has_click_time = "click_time" in names_of(new)
        if self.reads_from(table) == 0:
            return split(paths, report_unused=True)
        found = split(new, report_unused=True) if new else []
        empty = [file.shard(table, (), 0, 0) for file in old]
        return found + [dataclasses.replace(shard, is_old=True) for shard in empty]

    def reads_from(self, table: str) -> int:
        """See `Source.reads_from`.

        A click may be known at any time after its row, where the rows tell the time.
        """
        if table not in EVENTS or (table == "exposures" and self._has_click_time):
            return 0
        return self.since

    def _warn_of_absent(self, schema: Schema, firsts: Mapping[str, Shard]) -> None:
        """Warns of features that no table has: all of their values will be missing.

        Args:
            schema: whose features are looked for.
            firsts: table → one of its shards, which all tell of its columns.
        """
        columns = {table: self.columns(table, schema) for table in firsts}
        for feature in schema.features:
            places = {
                table: column.name
                for table, own in columns.items()
                for column in own
                if column.feature is feature
            }
            absent = [name in firsts[table].absent for table, name in places.items()]
            if places and all(absent):
                where = " or ".join(f"'{table}'" for table in places)
                what = f"column of {where}, a feature of the schema:"
                free = {name for table in places for name in firsts[table].unused}
                _log.warning("WARNING: %s", unknown_name(what, feature.name, free))

    def _warn_of_clicks(self, schema: Schema, exposures: Shard) -> None:
        """Warns of what behaviors have, and clicks, which become some, have not."""
        for feature in schema.of("behavior"):
            lacks = f"behavior_{feature.name}" in exposures.absent
            if lacks and feature.stores_ids and feature.of_clicks is None:
                _log.warning(
                    "WARNING: clicked exposures become behaviors without '%s': no "
                    "column 'behavior_%s' says what it is. `of_clicks` in the schema "
                    "may, such as: of_clicks: click",
                    *(feature.name, feature.name),
                )

    def read(self, shard: Shard, schema: Schema) -> Iterator[Batch]:
        """Reads one shard; see `Source.read`."""
        yield from read_shard(shard, self.columns(shard.table, schema))

    def columns(self, table: str, schema: Schema) -> tuple[Column, ...]:
        """The columns of a table."""
        user_id_type = self.user_id_type
        for feature in schema.user:
            if feature.name == USER_KEY:
                user_id_type = pa.int64() if feature.dtype == "int64" else pa.string()
        return canonical_columns(table, schema, user_id_type)


def table_files(folder: str, table: str) -> list[RawFile]:
    """The files of a table in a folder; none where it is not there.

    Raises:
        FileNotFoundError: if it is the exposures that are not there.
        UserError: if the table is there more than once.
    """
    infos = list_folder(folder)
    found: dict[tuple, list[RawFile]] = {}
    for info in infos:
        file = RawFile.named(join(folder, info.base_name))
        is_folder = info.type == fs.FileType.Directory
        if file.stem == table and (is_folder or file.format):
            kind = (is_folder, file.format, file.compression)
            found.setdefault(kind, []).append(file)
    names = [info.path.rsplit("/", 1)[-1] for info in infos]
    if len(found) > 1 or any(kind[0] and len(f) > 1 for kind, f in found.items()):
        twice = [file.path.rsplit("/", 1)[-1] for of in found.values() for file in of]
        raise UserError(
            f"{folder}: the table '{table}' is there more than once. Received: "
            + ", ".join(sorted(twice))
        )
    if not found:
        if table == "exposures":
            raise FileNotFoundError(
                f"There is no table 'exposures' in '{folder}': expected a file or "
                f"folder 'exposures' with one of the endings "
                f"{', '.join(SUFFIXES)}. "
                f"Found: {', '.join(names) or '(nothing)'}."
            )
        return []
    ((kind, of_kind),) = found.items()
    if not kind[0]:
        return of_kind
    parts = files_below(of_kind[0].path)
    if not parts:
        raise FileNotFoundError(
            f"The folder '{of_kind[0].path}' holds no file that ends in "
            f"{', '.join(SUFFIXES)}."
        )
    return parts
