"""Tables and slots in a checkpoint's folder, written in one number of parts or another.

    tables                   all rows, written by one process for all
    tables-00001-of-00004    rows of one worker's shard, written by that worker

Each is read whole or as any shard, whatever the number of shards that were written.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ctr_tf.saved_variables import SavedVariables, check_shapes, key_of
from ctr_tf.storage import as_path
from ctr_tf.tables.shard import Shard, place

SLOTS = "slots"  # the part of what the optimizer remembers
_WHOLE = "tables"
_SHARD = re.compile(r"tables-(\d{5})-of-(\d{5})\.index")


@dataclasses.dataclass(frozen=True)
class Saved:
    """A variable that is written and read.

    Args:
        variable: the rows that are here, or a scalar.
        rows: of the whole table; None for a scalar, which all workers have.
    """

    variable: tf.Variable
    rows: int | None = None

    @property
    def whole_shape(self) -> list[int]:
        """Of all rows."""
        shape = self.variable.shape.as_list()
        return shape if self.rows is None else [self.rows, *shape[1:]]


Parts = Mapping[str, Mapping[str, Saved]]


def file_name(shard: Shard) -> str:
    """Of the file that a shard is written to."""
    return (
        _WHOLE if shard.is_whole else f"tables-{shard.index:05d}-of-{shard.count:05d}"
    )


def write(folder: str | Path, parts: Parts, shard: Shard) -> None:
    """Writes the rows that are here.

    Args:
        folder: of the checkpoint.
        parts: name of a part → name → variable.
        shard: what is here.

    Raises:
        OSError: if the disk does not take them.
    """
    SavedVariables(file_name(shard), _variables(parts)).write(folder)


def read(folder: str | Path, parts: Parts, shard: Shard) -> None:
    """Reads the rows that belong here.

    Args:
        folder: of the checkpoint.
        parts: name of a part → name → variable; the files may hold other parts.
        shard: what belongs here.

    Raises:
        FileNotFoundError: if a shard's file is missing.
        UserError: names the first variable that is missing, too many, or of another
            shape.
    """
    shards = saved_shards(folder)
    files = [_File(folder, saved) for saved in shards]
    shapes = _whole_shapes(files)
    wanted = {
        part: {name: saved.whole_shape for name, saved in variables.items()}
        for part, variables in parts.items()
    }
    check_shapes(as_path(folder) / _WHOLE, shapes, wanted)
    if shard in shards:
        SavedVariables(file_name(shard), _variables(parts)).read(folder)
        return
    for part, variables in parts.items():
        for name, saved in variables.items():
            key = key_of(part, name)
            if saved.rows is None:
                saved.variable.assign(files[0].get(key))
            else:
                saved.variable.assign(_rows(files, key, shard.rows(saved.rows)))


def read_rows(
    folder: str | Path, name: str, rows: np.ndarray, part: str = _WHOLE
) -> np.ndarray:
    """Reads some rows of a table, or of what the optimizer remembers of it.

    Args:
        folder: of the checkpoint.
        name: of the table, one of the first ranker's; or the number of the slots.
        rows: their numbers, any and in any order.
        part: that the name is of.

    Raises:
        FileNotFoundError: if a shard's file is missing.
    """
    files = [_File(folder, saved) for saved in saved_shards(folder)]
    return _rows(files, key_of(part, name), rows)


def read_scalar(folder: str | Path, part: str, name: str) -> np.ndarray:
    """Reads what all shards have alike.

    Args:
        folder: of the checkpoint.
        part: that the name is of.
        name: of the scalar.
    """
    return _File(folder, saved_shards(folder)[0]).get(key_of(part, name))


def saved_shards(folder: str | Path) -> list[Shard]:
    """The shards that a checkpoint's tables were written in.

    Raises:
        FileNotFoundError: names the files that are missing.
    """
    folder = as_path(folder)
    if (folder / f"{_WHOLE}.index").is_file():
        return [Shard()]
    found = [_SHARD.fullmatch(path.name) for path in folder.glob("tables-*.index")]
    counts = {int(match[2]) for match in found if match}
    if len(counts) != 1:
        raise FileNotFoundError(
            f"'{folder}' has no tables: neither '{_WHOLE}' nor those of one number of "
            f"workers. Received: tables of {sorted(counts)} workers"
        )
    shards = [Shard(index, *counts) for index in range(*counts)]
    missing = missing_shards(folder, shards)
    if missing:
        raise FileNotFoundError(f"'{folder}' lacks {', '.join(missing)}.")
    return shards


def missing_shards(folder: str | Path, shards: list[Shard]) -> list[str]:
    """Names of the files of shards that are not in a folder."""
    names = [file_name(shard) for shard in shards]
    return [n for n in names if not (as_path(folder) / f"{n}.index").is_file()]


class _File:
    """What one process has written."""

    def __init__(self, folder: str | Path, shard: Shard):
        self.shard = shard
        self._reader = tf.train.load_checkpoint(str(as_path(folder) / file_name(shard)))

    def shapes(self) -> dict[str, list[int]]:
        return self._reader.get_variable_to_shape_map()

    def get(self, key: str) -> np.ndarray:
        return self._reader.get_tensor(key)


def _whole_shapes(files: list[_File]) -> dict[str, list[int]]:
    """Key → shape of all rows; a scalar is in every file."""
    shapes = [file.shapes() for file in files]
    return {
        key: [sum(own[key][0] for own in shapes), *shape[1:]] if shape else shape
        for key, shape in shapes[0].items()
    }


def _rows(files: list[_File], key: str, rows: Any) -> np.ndarray:
    """Rows by their numbers, one file after another: only one is in memory."""
    rows = np.asarray(rows, np.int64)
    found: np.ndarray | None = None
    for file in files:
        values = file.get(key)
        if found is None:
            found = np.empty((len(rows), *values.shape[1:]), values.dtype)
        owner, local = place(rows, file.shard.count)
        here = owner == file.shard.index
        found[here] = values[local[here]]
    assert found is not None
    return found


def _variables(parts: Parts) -> dict[str, dict[str, tf.Variable]]:
    return {
        part: {name: saved.variable for name, saved in variables.items()}
        for part, variables in parts.items()
    }
