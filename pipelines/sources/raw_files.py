"""The files of raw logs: what their names say, and what lies in a folder.

Any file system that Arrow knows will do: a plain path, or a URI such as `s3://…`.
"""

import contextlib
import dataclasses
import datetime
import fnmatch
import posixpath
import re
import urllib.parse
from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyarrow import fs

from ctr_tf.errors import UserError
from ctr_tf.time import DAY
from pipelines.sources.source import Shard

SUFFIXES = (".jsonl", ".csv", ".parquet")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}  # ending → Arrow's name
IGNORED = ("schema.yaml", "LICENSE*", "README*", "*.md")
_PART = re.compile(r"-\d+-of-\d+$")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_DAYS = ("dt", "ds", "date", "day")  # keys of folders whose value is a day


@dataclasses.dataclass(frozen=True)
class RawFile:
    """A file of a raw table.

    Args:
        path: of the file.
        format: `"jsonl"`, `"csv"` (of separated values) or `"parquet"`; None where its
            name does not say.
        compression: Arrow's name of it, None for a plain file.
        stem: its name without all that, in lower case.
        constants: see `Shard`.
    """

    path: str
    format: str | None
    compression: str | None = None
    stem: str = ""
    constants: tuple[tuple[str, str | None], ...] = ()

    @classmethod
    def named(cls, path: str) -> "RawFile":
        """Reads a name: endings in any case, and parts such as `-00000-of-00002`."""
        stem = posixpath.basename(str(path)).lower()
        compression = next((e for e in COMPRESSIONS if stem.endswith(e)), None)
        stem = _PART.sub("", stem.removesuffix(compression or ""))
        ending = next((e for e in SUFFIXES if stem.endswith(e)), None)
        stem = _PART.sub("", stem.removesuffix(ending or ""))
        return cls(
            str(path),
            ending and ending[1:],
            compression and COMPRESSIONS[compression],
            stem,
        )

    @property
    def is_empty(self) -> bool:
        """Whether it has no byte."""
        system, inner = _resolve(self.path)
        return system.get_file_info(inner).size == 0

    def is_before(self, since: int) -> bool:
        """Whether a folder says that all its rows happened before a time.

        A day, local or UTC, of the events or of their arrival: a row is no later than
        the day after.

        Args:
            since: unix seconds.
        """
        if not since:
            return False
        days = [_day(value) for key, value in self.constants if key in _DAYS and value]
        return any(day is not None and day + 2 * DAY <= since for day in days)

    def open(self) -> pa.NativeFile:
        """Opens it; a compressed one can only be read from its beginning."""
        stream = open_file(self.path)
        if self.compression:
            return pa.CompressedInputStream(stream, self.compression)
        return stream

    def shard(
        self,
        table: str,
        columns: tuple[str, ...],
        start: int,
        stop: int | None,
        first_row: int = 1,
    ) -> Shard:
        """A part of the file, as a shard of a table; see `Shard`."""
        return Shard(
            table,
            self.path,
            start,
            stop,
            first_row,
            columns,
            self.format,
            self.compression,
            self.constants,
        )


def files_below(folder: str) -> list[RawFile]:
    """All visible files in a folder and in the folders in it, by path.

    A part whose name has no ending is of the folder's format, or of that which its
    first bytes show. Folders such as `dt=2023-11-20` give their files a column.
    """
    system, inner = _resolve(folder)
    infos = system.get_file_info(fs.FileSelector(inner, recursive=True))
    found = []
    for info in sorted(infos, key=lambda info: info.path):
        parts = posixpath.relpath(info.path, inner).split("/")
        if info.type == fs.FileType.Directory or any(p[0] in "._" for p in parts):
            continue
        if matches(parts[-1], IGNORED):
            continue
        file = RawFile.named(join(folder, *parts))
        form = file.format or RawFile.named(folder).format
        if form is None and "." in file.stem:
            continue  # of no known format: `check_all_read` tells of it
        keys = [part.split("=", 1) for part in parts[:-1] if "=" in part]
        constants = tuple((key, _folder_value(value)) for key, value in keys)
        form = form or _shown_format(file)
        found.append(dataclasses.replace(file, format=form, constants=constants))
    return found


def _folder_value(text: str) -> str | None:
    return None if text == _NO_VALUE else urllib.parse.unquote(text)


def _day(text: str) -> int | None:
    """Unix seconds at which a day begins, UTC; None where the text is no day."""
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:
        return None
    return (day - datetime.date(1970, 1, 1)).days * DAY


def _shown_format(file: RawFile) -> str:
    with file.open() as stream:
        head = stream.read(64).lstrip()
    if head.startswith(b"PAR1"):
        return "parquet"
    return "jsonl" if head.startswith(b"{") else "csv"


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name fits one of the patterns, in any case."""
    return any(fnmatch.fnmatch(name.lower(), p.strip().lower()) for p in patterns)


def open_file(path: str) -> pa.NativeFile:
    """Opens a file for random access.

    Raises:
        FileNotFoundError: names the path.
    """
    system, inner = _resolve(path)
    try:
        return system.open_input_file(inner)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file '{path}'.") from None


def list_folder(folder: str) -> list[fs.FileInfo]:
    """The visible files and folders in a folder, by name.

    Raises:
        FileNotFoundError: names the folder.
    """
    system, inner = _resolve(folder)
    if system.get_file_info(inner).type != fs.FileType.Directory:
        raise FileNotFoundError(f"There is no folder '{folder}'.")
    infos = system.get_file_info(fs.FileSelector(inner))
    visible = (info for info in infos if info.base_name[0] not in "._")
    return sorted(visible, key=lambda info: info.base_name)


def join(folder: str, *names: str) -> str:
    """The path of something in a folder, plain or URI."""
    return posixpath.join(str(folder), *names)


def find_file(folder: str, name: str, obtained: str | None = None) -> str:
    """The path of a file that a source needs.

    Args:
        folder: where it should be.
        name: of the file.
        obtained: where people get it.

    Raises:
        FileNotFoundError: names the file, what the folder holds instead, and where the
            file is obtained.
    """
    names = [info.base_name for info in list_folder(folder)]
    if name not in names:
        raise missing_file(folder, f"'{name}'", names, obtained)
    return join(folder, name)


def missing_file(
    folder: str, what: str, found: Sequence[str], obtained: str | None = None
) -> FileNotFoundError:
    """Words the error for a file that a folder does not hold.

    Args:
        folder: where it should be.
        what: the file, or the files one of which would do.
        found: the names of what the folder holds.
        obtained: where people get it.
    """
    source = f" It is obtained from {obtained}." if obtained else ""
    return FileNotFoundError(
        f"There is no {what} in '{folder}'.{source} Found: {', '.join(found) or '-'}."
    )


@contextlib.contextmanager
def readable(path: str, line: int) -> Iterator[None]:
    """Names the file that Arrow cannot read on, such as a compressed one cut off."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(
            f"{path}: cannot be read from line {line:,} on: it is cut off, or not what "
            f"its name says ({error})"
        ) from None


def _resolve(path: str) -> tuple[fs.FileSystem, str]:
    if "://" in str(path):
        return fs.FileSystem.from_uri(str(path))
    return fs.LocalFileSystem(), str(path)
