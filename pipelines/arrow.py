"""Arrow tables between the steps of a job: as bytes, in hash buckets, as codes.

Events travel as Arrow IPC bytes keyed by a hash bucket, never as one Python object
each. What a bucket holds is sorted by content when it is worked on, so that results
depend neither on the order of arrival nor on the number of buckets.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ctr_tf.storage import as_path, files, is_remote

# What travels between workers is sent, and by some engines held, as it is: less than
# half as many bytes for a hundredth of the job's time.
_TRAVELING = pa.ipc.IpcWriteOptions(compression="lz4")


def to_bytes(table: pa.Table) -> bytes:
    """A table, or a slice of one, as Arrow IPC, compressed."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=_TRAVELING) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def from_bytes(data: bytes) -> pa.Table:
    """Reads what `to_bytes` wrote."""
    return pa.ipc.open_stream(pa.py_buffer(data)).read_all()


def write_table(path: Path, table: pa.Table) -> None:
    """Writes a file that `read_table` reads."""
    with files.writing(path) as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def read_table(path: str | Path) -> pa.Table:
    """A table of a file; on this machine it is not copied into memory."""
    place = as_path(path)
    if is_remote(place):
        return from_bytes(place.read_bytes())
    with pa.memory_map(str(place)) as file:
        return pa.ipc.open_stream(file).read_all()


def concat(tables: Iterable[pa.Table]) -> pa.Table:
    """One table of one chunk; columns that some of the tables lack are null there.

    No tables give a table without columns.
    """
    tables = list(tables)
    if not tables:
        return pa.table({})
    return pa.concat_tables(tables, promote_options="default").combine_chunks()


def column(table: pa.Table, name: str) -> Any:
    """A column as one array, or None where the table lacks it."""
    if name not in table.column_names:
        return None
    combined = table.column(name).combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined


def numpy(table: pa.Table, name: str) -> np.ndarray:
    """A column without nulls as a NumPy array."""
    return column(table, name).to_numpy(zero_copy_only=False)


def hash_ids(ids: pa.Array) -> np.ndarray:
    """A hash of every id by its content alone, equal in all processes.

    Args:
        ids: integers or strings, without nulls.

    Returns:
        uint64, one an id.
    """
    if pa.types.is_integer(ids.type):
        return mixed(ids.to_numpy(zero_copy_only=False).astype(np.uint64))
    encoded = ids.dictionary_encode()
    words = encoded.dictionary.to_numpy(zero_copy_only=False).astype(object)
    hashed = pd.util.hash_array(words, categorize=False)
    return hashed[encoded.indices.to_numpy()]


def mixed(value: np.ndarray) -> np.ndarray:
    """Other uint64 numbers, one to one, all of whose bits depend on all bits."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def partition(table: pa.Table, part: np.ndarray) -> Iterator[tuple[int, pa.Table]]:
    """Divides a table by a small number that every row has.

    Args:
        table: rows.
        part: the part each row belongs to.

    Yields:
        Part and its rows in their order, for the parts that have any.
    """
    order = np.argsort(part, kind="stable")
    parts, starts = np.unique(part[order], return_index=True)
    table = table.take(pa.array(order))
    stops = [*starts[1:].tolist(), len(order)][: len(starts)]
    for number, start, stop in zip(parts.tolist(), starts.tolist(), stops, strict=True):
        yield number, table.slice(start, stop - start)


def rank(ids: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Codes of ids, in the order of the ids themselves.

    Args:
        ids: integers or strings, without nulls.

    Returns:
        int64 codes, one an id; and the ids that the codes stand for, ascending
        (numbers by size, strings by their UTF-8 bytes).
    """
    encoded = ids.dictionary_encode()
    order = pc.array_sort_indices(encoded.dictionary)
    place = np.empty(len(order), np.int64)
    place[order.to_numpy()] = np.arange(len(order))
    return place[encoded.indices.to_numpy()], encoded.dictionary.take(order)


def content_codes(values: pa.Array) -> np.ndarray:
    """Codes of a column's values, in their order, -1 for null; lists entry by entry.

    Args:
        values: of any type that logs have.
    """
    codes = np.full(len(values), -1, np.int64)
    known = pc.is_valid(values).to_numpy(zero_copy_only=False)
    if not pa.types.is_nested(values.type):
        codes[known] = rank(values.drop_null())[0]
        return codes
    keys = [_list_key(row) for row in values.drop_null().to_pylist()]
    place = {key: number for number, key in enumerate(sorted(set(keys)))}
    codes[known] = [place[key] for key in keys]
    return codes


def _list_key(row: list) -> tuple:
    return tuple((value is not None, value) for value in row)


def order_by(*keys: np.ndarray) -> np.ndarray:
    """The order of rows by integer keys, the first one first; ties in any order.

    Keys that fit side by side into 63 bits are sorted as one number.
    """
    packed, bits = np.zeros(len(keys[0]), np.int64), 0
    for key in keys if len(packed) else ():
        least = int(key.min())
        width = (int(key.max()) - least).bit_length()
        bits += width
        if bits > 63:
            return np.lexsort(keys[::-1])
        packed = (packed << width) | (key - least)
    return np.argsort(packed)


def begins_of(*keys: np.ndarray) -> np.ndarray:
    """Marks where sorted rows begin to differ from the row before, in any key."""
    begins = np.zeros(len(keys[0]), bool)
    begins[:1] = True
    for key in keys:
        begins[1:] |= np.diff(key) != 0
    return begins


def sort_by_content(
    table: pa.Table,
    keys: Sequence[str],
    identity: Sequence[str] = (),
    others: Sequence[str] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Sorts rows by keys, and those of equal keys by content, whatever their order was.

    Args:
        table: rows.
        keys: columns of integers without nulls.
        identity: columns in which rows of equal keys may differ and be two things.
        others: columns that order what is the same thing.

    Returns:
        The rows in order, and, bool, where in that order another thing begins.
    """
    columns = [numpy(table, key) for key in keys]
    order = order_by(*columns)
    begins = begins_of(*(key[order] for key in columns))
    tied = ~begins
    tied[:-1] |= ~begins[1:]
    if tied.any():
        rows, run = order[tied], np.cumsum(begins)[tied]
        part = table.take(pa.array(rows))
        content = [content_codes(column(part, k)) for k in (*identity, *others)]
        inner = np.lexsort([*content[::-1], run])
        order[tied] = rows[inner]
        begins[tied] = begins_of(run, *(c[inner] for c in content[: len(identity)]))
    return order, begins


def add_columns(table: pa.Table, **columns: np.ndarray) -> pa.Table:
    """A table with columns more."""
    if not table.column_names:
        return pa.table(columns)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    return table
