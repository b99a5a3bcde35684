"""Files that are whole or not there, whatever ends the process that writes them.

On this machine a file is written beside its place and renamed; a store shows a file
when all of it is there. Folders are renamed on this machine alone.
"""

import contextlib
import fcntl
import glob
import itertools
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from ctr_tf.errors import UserError
from ctr_tf.storage.paths import as_path, is_remote

_RANGES = 32  # of files in a store that are read at the same time


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Names a path in an error of the disk inside that does not name one itself.

    Args:
        path: file or folder that is written.
    """
    try:
        yield
    except OSError as error:
        if error.filename or not error.errno:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def read_text(path: str | Path) -> str:
    """Reads a file of UTF-8 text.

    Raises:
        UserError: names the path, if it is something else.
    """
    try:
        return as_path(path).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}' is not UTF-8 text: {error}") from error


def read_json(path: str | Path) -> Any:
    """Reads a file of JSON.

    Raises:
        UserError: names the path, if it is something else.
    """
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"'{path}' is not JSON: {error}") from error


def read_ranges(ranges: Iterable[tuple[Path, int, int]]) -> Iterator[bytes]:
    """Reads parts of files; of a store, several at the same time.

    Args:
        ranges: path, first byte and the one behind the last, of each.

    Yields:
        Their bytes, in this order.
    """
    ranges = iter(ranges)
    with contextlib.ExitStack() as stack:
        opened: dict[Path, BinaryIO] = {}
        while some := list(itertools.islice(ranges, _RANGES)):
            paths: list[Any] = [path for path, _, _ in some]
            if is_remote(paths[0]):
                yield from paths[0].fs.cat_ranges(
                    [path.path for path in paths],
                    [start for _, start, _ in some],
                    [stop for *_, stop in some],
                    on_error="raise",
                )
                continue
            for path, start, stop in some:
                if path not in opened:
                    file = stack.enter_context(path.open("rb", buffering=0))
                    opened[path] = cast(BinaryIO, file)
                yield os.pread(opened[path].fileno(), stop - start, start)


def write_text(path: str | Path, text: str) -> None:
    """Writes a file whole, see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, data: bytes | memoryview) -> None:
    """Writes a file whole, durable and with the folders above it."""
    with writing(path) as file:
        file.write(data)


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes its place, whole and durable, afterwards."""
    path = as_path(path)
    with naming(path):
        if is_remote(path):
            # A store's own file would be there, cut off, if the block raises.
            with tempfile.NamedTemporaryFile(prefix="ctr-tf-") as here:
                yield cast(BinaryIO, here)
                here.flush()
                store: Any = path
                store.fs.put_file(here.name, store.path)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)


def sync(path: str | Path) -> None:
    """Waits until the disk holds a file, or a folder's files and their names."""
    path = Path(path)
    if path.is_dir():
        for inside in path.iterdir():
            sync(inside)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def held(folder: str | Path) -> Iterator[None]:
    """Holds a folder as long as this process lives, so that none removes it as left.

    Raises:
        BlockingIOError: if another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def remove_left(pattern: str) -> Iterator[str]:
    """Removes the folders that fit a pattern and that no process holds; names them."""
    for left in glob.glob(pattern):
        with contextlib.suppress(BlockingIOError), held(left):
            shutil.rmtree(left)
            yield left


def replace(new: str | Path, path: str | Path) -> None:
    """Renames a folder to its place; what is there steps aside until it is."""
    new, path = Path(new), Path(path)
    old = replaced(path)
    if path.exists():
        path.rename(old)
    try:
        new.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    remove(old)


def recover(path: str | Path) -> str | None:
    """Puts right what a `replace` left that was killed; says what it did."""
    path = Path(path)
    old = replaced(path)
    if not old.exists():
        return None
    if path.exists():
        remove(old)
        return f"removed '{old}', which had been replaced"
    old.rename(path)
    return f"'{old}' is '{path}' again: its replacement was never finished"


def replaced(path: Path) -> Path:
    """Where the folder lies that is being replaced."""
    return path.with_name(f"{path.name}.replaced")


def remove(path: str | Path) -> None:
    """Deletes a file or folder, if it is there."""
    path = as_path(path)
    if is_remote(path):
        store: Any = path
        if store.fs.exists(store.path):
            store.fs.rm(store.path, recursive=True)
        return
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def move(path: str | Path, to: str | Path) -> None:
    """Renames a file or folder; a store copies it, then deletes it."""
    path, to = as_path(path), as_path(to)
    if is_remote(path):
        store, there = cast(Any, path), cast(Any, to)
        for file in store.fs.find(store.path):
            store.fs.cp_file(file, there.path + file.removeprefix(store.path))
        store.fs.rm(store.path, recursive=True)
    else:
        path.rename(to)
