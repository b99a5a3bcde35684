"""Folders that libraries read and write which know this machine's disk only.

TensorFlow's checkpoints and SavedModels, TensorBoard's logs and plots are such: a
folder in a store is brought here before it is read, and there after it was written.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ctr_tf.storage.paths import as_path, is_remote

_BLOCK = 1 << 24


@contextlib.contextmanager
def reading(folder: str | Path, names: str = "*") -> Iterator[Path]:
    """A folder to read from: itself, or a copy here of one in a store.

    Args:
        folder: here or in a store.
        names: pattern of those of its files that are needed.

    Raises:
        FileNotFoundError: if a store has nothing there.
    """
    source: Any = as_path(folder)
    if not is_remote(source):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="ctr-tf-") as temporary:
        here = Path(temporary) / source.name
        _download(source, here, names)
        yield here


def _download(folder: Path, here: Path, names: str) -> None:
    files = [path for path in folder.rglob(names) if path.is_file()]
    if not files:
        raise FileNotFoundError(f"There is no file '{names}' in '{folder}'.")
    for path in files:
        copy = here / str(path.relative_to(folder))
        copy.parent.mkdir(parents=True, exist_ok=True)
        _copy(path, copy)


@contextlib.contextmanager
def writing(folder: str | Path, last: Sequence[str] = ()) -> Iterator[Path]:
    """A folder to write to: itself, or one here that is copied to a store afterwards.

    Nothing is copied if the block raises.

    Args:
        folder: to be written; what it has already stays.
        last: names of files that are copied last, because readers go by them.
    """
    target = as_path(folder)
    if not is_remote(target):
        target.mkdir(parents=True, exist_ok=True)
        yield target
        return
    with tempfile.TemporaryDirectory(prefix="ctr-tf-") as temporary:
        here = Path(temporary) / target.name
        here.mkdir()
        yield here
        upload(here, target, last)


def upload(folder: Path, target: Path, last: Sequence[str] = ()) -> None:
    """Copies the files of a folder of this machine into one of a store.

    Args:
        folder: here.
        target: in a store.
        last: names of files that are copied last, in this order.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    order = {name: place for place, name in enumerate(last, 1)}
    for path in sorted(files, key=lambda path: order.get(path.name, 0)):
        _copy(path, target / path.relative_to(folder).as_posix())


def _copy(path: Path, to: Path) -> None:
    with path.open("rb") as stream, to.open("wb") as copy:
        shutil.copyfileobj(stream, copy, _BLOCK)
