"""What a source of raw logs is: shards of four raw tables, read as Arrow batches.

A source turns the files of one data set into the *canonical* raw tables:

* exposures, one row a (request, candidate): `user_id`, `time`, `item_id`, one int8
  column a label of the schema; optional: `request_id`, item, candidate and context
  features by name, `behavior_<f>` (what behavior feature f becomes if the row is
  clicked), `true_probability`. Where a source has no `request_id` the job groups a
  user's rows into slates by `schema.session_gap`.
* behaviors, one row a behavior that is no clicked exposure: `user_id`, `time`,
  `item_id`; optional: item and behavior features by name.
* users: `user_id` and user features (lists where the feature's length exceeds 1).
* items: `item_id` and item features; they fill in what a row does not carry itself.
  Texts are read here alone.

Times are int64 in the schema's `time_unit`. users and items may be absent. A row that
cannot be read becomes a `Rejected`, with its reason and where it came from; it never
stops the reading.
"""

import dataclasses
import importlib
import posixpath
from collections.abc import Callable, Iterator
from importlib import resources

import numpy as np
import pyarrow as pa

from ctr_tf.errors import UserError, unknown_name
from ctr_tf.schema import Schema

TABLES = ("exposures", "behaviors", "users", "items")
EVENTS = TABLES[:2]  # those that have a time


@dataclasses.dataclass(frozen=True)
class Shard:
    """A picklable unit of reading.

    Args:
        table: one of `TABLES`.
        path: of the file.
        start: where to begin; the source's own meaning (row group, byte, …).
        stop: where to end, None for the file's end.
        first_row: 1-based number of the shard's first row (or line) in the file.
        columns: those of the source's columns that the table has in any of its files;
            every batch of the table has just these, of JSON lines those of them that
            have a value.
        format: `"jsonl"`, `"csv"` (of separated values) or `"parquet"`.
        compression: Arrow's name of it, None for a plain file.
        constants: columns that folders such as `dt=2023-11-20` give to all rows.
        unused: columns that the table's files have and the source does not read.
        absent: columns that the source would read and none of the table's files has; of
            JSON lines too long to be looked through, nobody knows.
        is_old: whether it is left unread, being of days before the source's `since`.
    """

    table: str
    path: str
    start: int = 0
    stop: int | None = None
    first_row: int = 1
    columns: tuple[str, ...] = ()
    format: str | None = ""
    compression: str | None = None
    constants: tuple[tuple[str, str | None], ...] = ()
    unused: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    is_old: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether its file has no row."""
        return self.stop == 0

    @property
    def origin(self) -> str:
        """How people know its file: the name, with its folder in a folder table."""
        folder, name = posixpath.split(self.path)
        folder = posixpath.basename(folder)
        inside = folder.split(".")[0] == self.table
        return f"{folder}/{name}" if inside else name


@dataclasses.dataclass(frozen=True)
class Rejected:
    """A raw row that was put aside.

    Args:
        reason: such as `"unparsable"` or `"missing field time"`.
        source: where it stands, such as `"exposures.jsonl:17"`.
        raw: the row: its text as it stands in the file, bytes if that is no text, or
            the values by column (of Parquet).
        clicked: whether it is known to be a clicked exposure.
    """

    reason: str
    source: str
    raw: str | bytes | dict
    clicked: bool = False


@dataclasses.dataclass
class Batch:
    """Some rows of one raw table.

    Args:
        table: one of `TABLES`.
        rows: canonical columns, see the module.
        origin: the file as people know it, such as `"exposures.jsonl"`.
        first_row: 1-based row or line number of the first row in the file.
        rejected: rows that the reader itself could not read; not in `rows`.
        row_numbers: int64, one a row, where they are not consecutive (rows were
            rejected, or one row of the file became several).
        raw: row number → the row as it stands in the file; `rows` tell it where None.
    """

    table: str
    rows: pa.Table
    origin: str
    first_row: int = 1
    rejected: list[Rejected] = dataclasses.field(default_factory=list)
    row_numbers: np.ndarray | None = None
    raw: Callable[[int], str | bytes | dict] | None = None

    def numbers(self) -> np.ndarray:
        """The 1-based row or line number in the file of each of `rows`, int64."""
        if self.row_numbers is not None:
            return self.row_numbers
        return np.arange(self.first_row, self.first_row + len(self.rows))

    def reject(self, index: np.ndarray, reason: str) -> list[Rejected]:
        """Words rows of this batch as rejected; `rows` itself stays as it is.

        Args:
            index: positions in `rows`.
            reason: the same for all of them.
        """
        numbers = self.numbers()[index].tolist()
        if self.raw:
            rows = map(self.raw, numbers)
        else:
            rows = self.rows.take(pa.array(index, pa.int64())).to_pylist()
        return [
            Rejected(reason, f"{self.origin}:{number}", row)
            for number, row in zip(numbers, rows, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class Split:
    """How the requests of a log divide, by time, into train, validation and test.

    Args:
        validation_start: unix seconds; requests from here on are for validation.
        test_start: unix seconds; requests from here on are for the test.
        validation_fraction: of the exposure rows, latest before the test's; used
            where `validation_start` is None.
        test_fraction: of the exposure rows, the latest; used where `test_start` is
            None.
    """

    validation_start: int | None = None
    test_start: int | None = None
    validation_fraction: float = 0.1
    test_fraction: float = 0.1


class Source:
    """Base of all sources: one subclass a file of this package.

    Attributes:
        name: as `--source` takes it.
        user_id_type: Arrow type of `user_id` in every table.
        default_split: how this data set is usually split.
        read_beside: files that are read with those of the shards.
        ignored: patterns of the publisher's files that are not read.
        since: unix seconds; what happened before need not be read.
    """

    name: str
    user_id_type: pa.DataType = pa.int64()
    default_split = Split()
    read_beside: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    since: int = 0

    def schema(self, folder: str | None = None) -> Schema:
        """The schema that comes with the source, `pipelines/sources/<name>.yaml`.

        Args:
            folder: holds the raw files; features that none of them has may be left out.
        """
        file = resources.files(__package__) / f"{self.name}.yaml"
        return Schema.from_yaml(file.read_text("utf-8"), source=str(file))

    def shards(self, folder: str, schema: Schema) -> list[Shard]:
        """Divides the files of a folder into units of reading.

        Args:
            folder: holds the raw files.
            schema: of the data set.

        Raises:
            FileNotFoundError: names what is missing.
        """
        raise NotImplementedError

    def reads_from(self, table: str) -> int:
        """Unix seconds, before which rows of a table are passed over; 0: none are."""
        return 0

    def read(self, shard: Shard, schema: Schema) -> Iterator[Batch]:
        """Reads one shard as batches of canonical rows.

        Args:
            shard: one of `shards`.
            schema: of the data set.

        Raises:
            UserError: if the file lacks a required column; names file, column and
                the columns found.
        """
        raise NotImplementedError


_SOURCES = {
    "jsonl": "Jsonl",
    "alibaba": "Alibaba",
    "ebnerd": "Ebnerd",
    "eleme": "Eleme",
    "kuairand": "KuaiRand",
    "kuairec": "KuaiRec",
    "kuaivideo": "KuaiVideo",
    "movielens": "MovieLens",
    "movielens_ratings": "MovieLensRatings",
    "synthetic": "Synthetic",
}


def get_source(name: str) -> Source:
    """The source of that name.

    Raises:
        UserError: names the nearest known source.
    """
    if name not in _SOURCES:
        raise UserError(unknown_name("source", name, _SOURCES))
    module = importlib.import_module(f"{__package__}.{name}")
    return getattr(module, _SOURCES[name])()
