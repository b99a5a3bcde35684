"""What raw logs look like: some rows of each table, and what each column holds.

Tables are those of the general format (`pipelines/sources/jsonl.py`).
"""

import dataclasses
import functools
import json
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from ctr_tf.errors import UserError
from ctr_tf.schema import ITEM_KEY, USER_KEY
from pipelines.sources.columns import LIST_SEPARATOR
from pipelines.sources.jsonl import table_files
from pipelines.sources.parquet_files import open_parquet
from pipelines.sources.raw_files import RawFile
from pipelines.sources.source import TABLES
from pipelines.sources.text import field_names, first_line

ROWS = 100_000  # of a table that are looked at
_BYTES = 32 << 20  # of a file
_FEWEST_ROWS = 1_000  # of a file, where a table has many
NULLS = ("NULL", "null", "None", "nan", "NaN", "N/A", r"\N")
_KEYS = {
    "exposures": (USER_KEY, "time", ITEM_KEY),
    "behaviors": (USER_KEY, "time", ITEM_KEY),
    "users": (USER_KEY,),
    "items": (ITEM_KEY,),
}
_LOOKS_LIKE = {
    USER_KEY: re.compile(r"user|uid|member|customer|visitor|session", re.I),
    "time": re.compile(r"time|stamp|date|^ts$", re.I),
    ITEM_KEY: re.compile(
        r"item|product|movie|video|article|goods|offer|hotel|sku|doc|news|^iid$", re.I
    ),
}


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the rows that were looked at.

    Args:
        name: of the column.
        cells: as they stand in the file; lists where the file has lists.
    """

    name: str
    cells: pa.ChunkedArray

    @functools.cached_property
    def is_joined(self) -> bool:
        """Whether texts hold several values, joined by `LIST_SEPARATOR`."""
        if not pa.types.is_string(self.cells.type):
            return False
        joined = pc.mean(pc.match_substring(self.cells, LIST_SEPARATOR)).as_py()
        return (joined or 0.0) > 0.01

    @functools.cached_property
    def longest(self) -> int:
        """Values that 99 of 100 rows do not exceed."""
        if pa.types.is_list(self.cells.type):
            lengths = pc.list_value_length(self.cells)
        elif self.is_joined:
            lengths = pc.add(pc.count_substring(self.cells, LIST_SEPARATOR), 1)
        else:
            return 1
        found = lengths.drop_null().to_numpy()
        return max(1, int(np.quantile(found, 0.99))) if len(found) else 1

    @functools.cached_property
    def array(self) -> pa.Array:
        """The cells as one array."""
        cells = self.cells.combine_chunks()
        if isinstance(cells, pa.ChunkedArray):
            return pa.concat_arrays(cells.chunks)
        return cells

    @functools.cached_property
    def known(self) -> np.ndarray:
        """Bool, of single values one a row: which are not missing."""
        return pc.invert(_is_missing(self.array)).to_numpy(zero_copy_only=False)

    @functools.cached_property
    def values(self) -> pa.Array:
        """All single values that are not missing, numbers where all are numbers."""
        cells = self.array
        if self.is_joined:
            cells = pc.split_pattern(cells, LIST_SEPARATOR)
        if pa.types.is_list(cells.type):
            cells = cells.flatten()
        cells = cells.filter(pc.invert(_is_missing(cells)))
        if pa.types.is_null(cells.type) or not pa.types.is_string(cells.type):
            return cells
        for wanted in (pa.int64(), pa.float64()):
            try:
                return cells.cast(wanted)
            except pa.ArrowInvalid:
                continue
        return cells

    @functools.cached_property
    def nulls(self) -> set[str]:
        """Words among the texts that say that a value is missing."""
        if not pa.types.is_string(self.cells.type):
            return set()
        return set(NULLS) & set(pc.unique(self.cells).to_pylist())

    @functools.cached_property
    def distinct(self) -> int:
        """Different values."""
        return len(pc.unique(self.values))

    @property
    def is_whole(self) -> bool:
        """Whether all values are whole numbers."""
        return pa.types.is_integer(self.values.type)

    @property
    def is_number(self) -> bool:
        """Whether all values are numbers."""
        return self.is_whole or pa.types.is_floating(self.values.type)

    @functools.cached_property
    def is_one(self) -> bool:
        """Whether it is 1 in every row."""
        return not self.cells.null_count and set(self.values.to_pylist()) == {1}

    @functools.cached_property
    def is_binary(self) -> bool:
        """Whether it is 0 or 1, or false or true, and sometimes each."""
        if self.longest > 1 or self.distinct != 2:
            return False
        return set(pc.unique(self.values).to_pylist()) in ({0, 1}, {False, True})

    @property
    def shown(self) -> str:
        """What was seen, in a few words."""
        if not len(self.values):
            return "no value in the rows looked at"
        what = f"{self.distinct:,} of {len(self.values):,} values differ"
        if self.is_number:
            ends = pc.min_max(self.values)
            what += f", {ends['min'].as_py():g} to {ends['max'].as_py():g}"
        else:
            first = str(self.values[0].as_py())
            what += f", such as {json.dumps(first[:20], ensure_ascii=False)}"
        return what


Table = Mapping[str, Column]


def look(folder: str) -> tuple[dict[str, Table], set[str]]:
    """Reads some rows of each table.

    Returns:
        Table's name → its columns; and the names of the tables read to their ends.

    Raises:
        FileNotFoundError: if there are no exposures.
        UserError: if a table lacks a column that it needs, with the one that looks
            like it.
    """
    tables: dict[str, Table] = {}
    whole = set()
    for name in TABLES:
        files = table_files(folder, name)
        if not files:
            continue
        most = max(_FEWEST_ROWS, ROWS // len(files))
        read = [_read(file, most) for file in files]
        rows = pa.concat_tables([r for r, _ in read], promote_options="permissive")
        if all(ended for _, ended in read):
            whole.add(name)
        tables[name] = {c: Column(c, rows[c]) for c in rows.column_names}
        _check_keys(name, rows.column_names)
    return tables, whole


def _check_keys(table: str, names: Sequence[str]) -> None:
    for key in _KEYS[table]:
        if key in names:
            continue
        near = [name for name in names if _LOOKS_LIKE[key].search(name)]
        hint = f" Rename {' or '.join(f'`{name}`' for name in near)}?" if near else ""
        raise UserError(
            f"The table '{table}' needs a column `{key}`.{hint} "
            f"Received: {', '.join(names)}"
        )


def _read(file: RawFile, most: int) -> tuple[pa.Table, bool]:
    """The first rows of a file, and whether these are all."""
    if file.format == "parquet":
        with open_parquet(file.path) as parquet:
            batches = parquet.iter_batches(most)
            first = next(batches, None)
            rows = parquet.metadata.num_rows
            empty = parquet.schema_arrow.empty_table()
        table = empty if first is None else pa.Table.from_batches([first])
        return _plain(table), rows <= most
    with file.open() as stream:
        block = stream.read(_BYTES)
        ended = len(block) < _BYTES
    if not ended:
        block = block[: block.rfind(b"\n") + 1]
    table = _parse(block, file.format == "csv", file.path, most + 1)
    return table.slice(0, most), ended and len(table) <= most


def _parse(block: bytes, is_csv: bool, path: str, most: int) -> pa.Table:
    """The rows of a block; of JSON lines, no more than so many."""
    if is_csv:
        names = field_names(first_line(pa.BufferReader(block)), True)
        texts = csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True,
            null_values=[""],
        )  # fmt: skip
        try:
            return csv.read_csv(pa.BufferReader(block), convert_options=texts)
        except pa.ArrowInvalid as error:
            raise UserError(f"{path}: not separated values ({error})") from None
    rows: list[dict] = []
    for number, line in enumerate(block.splitlines(), 1):
        if len(rows) == most:
            break
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: not an object. Received: {row!r}")
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def _column(values: list) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # of several types
        return pa.array([None if value is None else str(value) for value in values])


def _plain(table: pa.Table) -> pa.Table:
    """Without dictionaries and with plain strings."""
    columns = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_large_string(column.type):
            column = column.cast(pa.string())
        columns[name] = column
    return pa.table(columns)


def _is_missing(cells: pa.Array) -> pa.Array:
    """As `Column.values` leaves values out."""
    if not pa.types.is_string(cells.type):
        return pc.is_null(cells)
    gone = pc.is_in(cells, pa.array(["", *NULLS]))
    return pc.or_(pc.is_null(cells), pc.fill_null(gone, False))
